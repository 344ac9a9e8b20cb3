"""What can go wrong with requests to an API server."""

import http

import msgspec

from moorage.errors import MoorageError


class UnreachableError(MoorageError):
    """No answer: no connection, a broken one, or a time-out. The server may have acted on the request."""


class SilentError(UnreachableError):
    """An open watch was silent for too long: either nothing has changed, or the connection is dead."""


class AnswerError(MoorageError):
    """The answer is not what the Kubernetes API promises."""


class ApiError(MoorageError):
    """The server refused the request.

    `status` is the HTTP status, `reason` Kubernetes' word for it (`NotFound`, `Conflict`, `AlreadyExists`,
    `Invalid`, `Expired`, ...), `message` the server's own sentence, `retry_after` the seconds to wait before asking
    again.
    """

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{message} ({status} {reason})")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after


class _Details(msgspec.Struct, frozen=True, rename="camel"):
    retry_after_seconds: int | None = None


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    """The fields of apimachinery's `metav1.Status` that are used."""

    kind: str = ""
    code: int | None = None
    reason: str | None = None
    message: str | None = None
    details: _Details | None = None


_decoder = msgspec.json.Decoder(_Status)
_MAX_MESSAGE_CHARACTERS, _MAX_REASON_CHARACTERS = 1000, 100
_STATUSES = range(100, 600)
_MAX_RETRY_AFTER_SECONDS = 24 * 3600
"""Nobody waits longer, and a larger number may not fit into a float."""


def from_answer(body: bytes | bytearray | msgspec.Raw, status: int, retry_after: str | None = None) -> ApiError:
    """The error that an answer describes: a Status object, or, from something in between, any text.

    `status` is the HTTP status, for a Status without code; `retry_after` is the header of that name, of which only
    the form in seconds is understood (RFC 9110, 10.2.3; Kubernetes sends no other).
    """
    try:
        answer = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        answer = _Status()
    if answer.kind == "Status":
        if answer.code is not None and answer.code in _STATUSES:
            status = answer.code
        text = answer.message or ""
    else:
        text = bytes(body)[:_MAX_MESSAGE_CHARACTERS].decode(errors="replace")
    reason = one_line((answer.reason or "")[:_MAX_REASON_CHARACTERS]) or _phrase(status).replace(" ", "")
    seconds = float(retry_after) if retry_after and retry_after.isdecimal() else None
    if seconds is None and answer.details and answer.details.retry_after_seconds:
        seconds = float(min(answer.details.retry_after_seconds, _MAX_RETRY_AFTER_SECONDS))
    return ApiError(status, reason, one_line(text) or _phrase(status), seconds)


def one_line(text: str) -> str:
    """`text` without line breaks and control characters, cut to 1,000 characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text[:_MAX_MESSAGE_CHARACTERS]).split())


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
