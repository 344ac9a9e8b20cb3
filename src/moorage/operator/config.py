"""The operator's own configuration: the file of `--config`, which whoever runs the cluster writes."""

import re
from ipaddress import ip_network
from pathlib import Path

import msgspec

from moorage.api.manifest_yaml import Document, documents
from moorage.api.show import show
from moorage.errors import MoorageError
from moorage.log import LEVELS

MAX_GRACE_SECONDS = 30 * 24 * 3600
LOG_FORMATS = ("json", "text")


class _Section(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    pass


class Admission(_Section, frozen=True, kw_only=True):
    """Which addresses may be endpoints, in addition to what the operator finds out about its cluster."""

    allow: tuple[str, ...] = ()
    """Ranges (CIDR) that are allowed whatever else they are."""
    refuse: tuple[str, ...] = ()
    """Ranges (CIDR) that are refused, such as those of pods if the CNI does not put them into Node objects."""


class Moorings(_Section, frozen=True, kw_only=True):
    """How the clients of ExternalServices are moored."""

    grace_seconds: int = 300
    """How long the Mooring of a client that is gone is kept, in case it comes back."""


class Configuration(_Section, frozen=True, kw_only=True):
    admission: Admission = Admission()
    moorings: Moorings = Moorings()
    log_level: str = "info"
    log_format: str = "json"
    workers: int = 16
    """How many ExternalServices are worked on at once."""


def load(path: Path | None) -> Configuration:
    """The configuration in this YAML file; the defaults for None and for an empty file.

    Raises MoorageError, with file and field, for what cannot be read, is unknown, or makes no sense.
    """
    if path is None:
        return Configuration()
    try:
        text = path.read_text()
    except OSError as error:
        raise _complaint(path, "", f"cannot be read: {error.strerror}; name a file with --config") from None
    except UnicodeDecodeError:
        raise _complaint(path, "", "is not UTF-8 text") from None
    return read(text, path)


def read(text: str, path: Path) -> Configuration:
    """The configuration in `text`; errors call it `path`. Raises MoorageError as `load` does."""
    found = list(documents(text))
    for each in found:
        if not isinstance(each, Document):
            raise _complaint(path, "", str(each))
    if len(found) > 1:
        raise _complaint(path, "", f"holds {len(found)} YAML documents; keep one")
    value = found[0].value if found and isinstance(found[0], Document) else None
    try:
        configuration = msgspec.convert({} if value is None else value, Configuration)
    except msgspec.ValidationError as error:
        what, field = _where(str(error))
        raise _complaint(path, field, what) from None
    _check(configuration, path)
    return configuration


def _check(configuration: Configuration, path: Path) -> None:
    for name, ranges in (("allow", configuration.admission.allow), ("refuse", configuration.admission.refuse)):
        for index, text in enumerate(ranges):
            try:
                ip_network(text)
            except ValueError as error:
                field = f"admission.{name}[{index}]"
                raise _complaint(path, field, f"{error}; write a range such as 10.244.0.0/16") from None
    for field, chosen, known in (
        ("logLevel", configuration.log_level, LEVELS),
        ("logFormat", configuration.log_format, LOG_FORMATS),
    ):
        if chosen not in known:
            raise _complaint(path, field, f"{show(chosen)} is not one of {', '.join(known)}")
    if not 1 <= configuration.workers <= 256:
        raise _complaint(path, "workers", f"{configuration.workers} is not between 1 and 256")
    seconds = configuration.moorings.grace_seconds
    if not 0 <= seconds <= MAX_GRACE_SECONDS:
        raise _complaint(path, "moorings.graceSeconds", f"{seconds} is not between 0 and {MAX_GRACE_SECONDS}")


def _where(message: str) -> tuple[str, str]:
    """What msgspec found wrong, in our words, and the field: `admission.allow[0]`, or "" for the whole file."""
    what, _, at = message.partition(" - at `$")
    field = at.rstrip("`").lstrip(".")
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", what):
        return "there is no such field; take it out", f"{field}.{unknown[1]}".lstrip(".")
    what = what.replace("`", "").replace("Expected object", "expected a mapping").replace("Expected", "expected")
    return f"{what[:1].lower()}{what[1:]}", field


def _complaint(path: Path, field: str, what: str) -> MoorageError:
    return MoorageError(f"configuration {path}: {field}: {what}" if field else f"configuration {path}: {what}")
