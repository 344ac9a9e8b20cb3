import json

import pytest

from moorage.cluster.errors import from_answer


def body(**fields: object) -> bytes:
    return json.dumps({"kind": "Status", "apiVersion": "v1", **fields}).encode()


def test_a_status_speaks_for_itself() -> None:
    error = from_answer(body(code=409, reason="AlreadyExists", message='pods "a"\nalready exists'), 500)
    assert (error.status, error.reason) == (409, "AlreadyExists")
    assert str(error) == 'pods "a" already exists (409 AlreadyExists)'


@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [
        (b"", 503, "Service Unavailable (503 ServiceUnavailable)"),
        (b"\xff\x00oops\r\n", 502, "\ufffd oops (502 BadGateway)"),
        (b'{"kind": "Pod"}', 400, '{"kind": "Pod"} (400 BadRequest)'),
        (b"{}", 799, "{} (799 Unknown)"),
        (body(), 404, "Not Found (404 NotFound)"),
        (b'{"a":' * 100_000, 500, '{"a":' * 200 + " (500 InternalServerError)"),
    ],
)
def test_anything_else_is_told_with_the_status_of_http(answer: bytes, status: int, text: str) -> None:
    assert str(from_answer(answer, status)) == text


def test_a_long_answer_is_cut() -> None:
    assert len(str(from_answer(b"x" * 100_000, 500))) < 1100
    assert len(str(from_answer(body(code=403, reason="x\n" * 100_000, message="y" * 100_000), 500))) < 1200


def test_a_reason_is_one_line() -> None:
    assert str(from_answer(body(code=403, reason="For\nbidden", message="no"), 500)) == "no (403 For bidden)"


def test_numbers_that_mean_nothing_are_not_taken() -> None:
    huge = 10**400
    error = from_answer(body(code=huge, details={"retryAfterSeconds": huge}), 503)
    assert error.status == 503
    assert error.retry_after == 24 * 3600


@pytest.mark.parametrize(
    ("header", "details", "seconds"),
    [
        ("3", None, 3.0),
        (None, {"retryAfterSeconds": 7}, 7.0),
        ("3", {"retryAfterSeconds": 7}, 3.0),
        ("soon", None, None),
    ],
)
def test_the_wait_is_in_the_header_or_in_the_status(
    header: str | None, details: object, seconds: float | None
) -> None:
    assert from_answer(body(code=429, details=details), 429, header).retry_after == seconds
