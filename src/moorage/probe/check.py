"""Health checks as plain data."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from moorage.api.schema import SERVER_NAME
from moorage.api.show import show
from moorage.api.sources_v1alpha1 import HealthCheck, HttpCheck
from moorage.cluster.urls import is_server_name
from moorage.core.health import Subject
from moorage.errors import MoorageError

DEFAULT_STATUSES = ("200-399",)
_STATUS = re.compile(r"([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?")
_VISIBLE = re.compile(r"[\x21-\x7e]+")


class Target(NamedTuple):
    """Where a check goes."""

    address: str
    """An IP address in canonical spelling: checks never look up names."""
    port: int


class Tls(NamedTuple):
    server_name: str | None = None
    """None: the name in `host`, or else the address."""
    ca: str | None = None
    """PEM certificates to trust; None: the system's."""
    verify: bool = True


class Http(NamedTuple):
    path: str = "/"
    host: str | None = None
    """The Host header; None: address and port."""
    statuses: tuple[tuple[int, int], ...] = ((200, 399),)
    """The first and the last status of each expected range."""
    tls: Tls | None = None


class Check(NamedTuple):
    interval: float = 2.0
    """Seconds from the start of one check of an endpoint to that of the next."""
    timeout: float = 1.0
    """Seconds after which a check has failed."""
    http: Http | None = None
    """None: a TCP connection is opened."""


def targets(subjects: Mapping[str, Subject]) -> dict[str, Target]:
    """Where to check each endpoint, by name; without the endpoints that are not checked."""
    return {
        name: Target(each.address, each.check.port or each.port)
        for name, each in subjects.items()
        if each.check is not None
    }


def check_of(spec: HealthCheck, ca: str | None = None) -> Check:
    """The check in `spec.healthCheck`; `ca` is the content of `http.tls.caSecretRef`.

    Raises MoorageError with the field for values that an older schema may have let in.
    """
    http = None if spec.http is None else _http(spec.http, ca)
    return Check(float(spec.interval_seconds), float(spec.timeout_seconds), http)


def _http(spec: HttpCheck, ca: str | None) -> Http:
    tls = None if spec.tls is None else Tls(_asked_for(spec.tls.server_name), ca, not spec.tls.insecure_skip_verify)
    return Http(
        _written("path", spec.path),
        _written("host", spec.host) if spec.host is not None else None,
        _statuses(spec.expected_statuses or DEFAULT_STATUSES),
        tls,
    )


def _written(field: str, value: str) -> str:
    # A server could read a line break as the start of further headers, or of a further request.
    if not _VISIBLE.fullmatch(value):
        raise MoorageError(
            f"spec.healthCheck.http.{field}: {show(value)} has characters that a request cannot carry; "
            "write visible ASCII characters only"
        )
    return value


def _asked_for(name: str | None) -> str | None:
    if name and not is_server_name(name):
        raise MoorageError(f"spec.healthCheck.http.tls.serverName: {show(name)} {SERVER_NAME.message}")
    return name


def _statuses(texts: Sequence[str]) -> tuple[tuple[int, int], ...]:
    ranges = []
    for index, text in enumerate(texts):
        match = _STATUS.fullmatch(text)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise MoorageError(
                f"spec.healthCheck.http.expectedStatuses[{index}]: {show(text)} is neither a status nor a range of "
                'statuses; write one such as "200" or "200-399"'
            )
        ranges.append((first, last))
    return tuple(ranges)
