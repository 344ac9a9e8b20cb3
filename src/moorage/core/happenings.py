"""What is told as Kubernetes Events: what differs between the status that was written and the one that will be."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from moorage.api.meta import Condition
from moorage.api.moorage_v1alpha1 import (
    EndpointStatus,
    ExternalService,
    ExternalServiceSpec,
    ExternalServiceStatus,
)
from moorage.core.conditions import checked_at, cut
from moorage.core.endpoints import NAMED, Merged, shown
from moorage.core.model import Happening, Resolution

MOST = 3
"""So many happenings of one kind are told one by one; more in one sentence."""
LONGEST = 1000
"""Characters: an Event's message may have 1,024."""


def happenings(
    xsvc: ExternalService,
    merged: Merged,
    resolutions: Sequence[Resolution],
    unknown: Sequence[str],
    status: ExternalServiceStatus,
) -> tuple[Happening, ...]:
    """What has happened since the status in `xsvc` was written. Nothing, where `status` is the same."""
    if status == xsvc.status:
        return ()
    before, after = _by_type(xsvc.status), _by_type(status)
    told = [
        *_refusals(before.get("Accepted"), merged, unknown),
        *_sources(before.get("Resolved"), after.get("Resolved"), resolutions),
        *_endpoints(xsvc.spec, xsvc.status, status),
        *_panic(before.get("Healthy"), after.get("Healthy")),
        *_readiness(before.get("Ready"), after.get("Ready")),
    ]
    return tuple(each._replace(message=cut(each.message, LONGEST)) for each in told)


def of_conditions(xsvc: ExternalService, status: ExternalServiceStatus) -> tuple[Happening, ...]:
    """What has happened where nothing was done: Ready has become another."""
    return tuple(_readiness(_by_type(xsvc.status).get("Ready"), _by_type(status).get("Ready")))


def _by_type(status: ExternalServiceStatus) -> dict[str, Condition]:
    return {each.type: each for each in status.conditions or ()}


def _told(
    type_: Literal["Normal", "Warning"], reason: str, what: str, lines: Sequence[tuple[str, str]]
) -> Iterator[Happening]:
    """One for each of `lines` (name, sentence), or one for all: "12 endpoints `what`: a, b, c and 9 more"."""
    if len(lines) <= MOST:
        for _, sentence in lines:
            yield Happening(type_, reason, sentence)
        return
    names = ", ".join(name for name, _ in lines[:MOST])
    yield Happening(type_, reason, f"{len(lines)} endpoints {what}: {names} and {len(lines) - MOST} more")


def _endpoints(
    spec: ExternalServiceSpec, before: ExternalServiceStatus, after: ExternalServiceStatus
) -> Iterator[Happening]:
    old = {each.name: each for each in before.endpoints or ()}
    new = {each.name: each for each in after.endpoints or ()}
    if _complete(before) and _complete(after):
        added = [each for name, each in new.items() if name not in old]
        removed = [each for name, each in old.items() if name not in new]
        yield from _told(
            "Normal", "EndpointAdded", "added", [(each.name, f"{_shown(each)} from {each.source}") for each in added]
        )
        yield from _told(
            "Normal",
            "EndpointRemoved",
            "removed",
            [(each.name, f"{_shown(each)} is no longer in {each.source}") for each in removed],
        )
    both = [(old[name], each) for name, each in new.items() if name in old]
    yield from _told(
        "Normal",
        "EndpointMoved",
        "have another address",
        [
            (now.name, f"{now.name} is at {_where(now)}, and was at {_where(then)}")
            for then, now in both
            if (then.address, then.port) != (now.address, now.port)
        ],
    )
    yield from _health(spec, old, new if _complete(before) else {each.name: each for _, each in both})


def _health(
    spec: ExternalServiceSpec, old: Mapping[str, EndpointStatus], new: Mapping[str, EndpointStatus]
) -> Iterator[Happening]:
    turned = [each for name, each in new.items() if name not in old or old[name].health != each.health]
    yield from _told(
        "Warning",
        "EndpointUnhealthy",
        "have become unhealthy",
        [
            (each.name, f"{each.name} ({checked_at(spec, each)}) is unhealthy: {each.message or 'its checks fail'}")
            for each in turned
            if each.health == "Unhealthy"
        ],
    )
    yield from _told(
        "Normal",
        "EndpointHealthy",
        "have become healthy",
        [(each.name, f"{_shown(each)} is healthy") for each in turned if each.health == "Healthy"],
    )


def _complete(status: ExternalServiceStatus) -> bool:
    """Whether the status lists all its endpoints."""
    return not status.healthy or status.healthy.rpartition("/")[2] == str(len(status.endpoints or ()))


def _shown(endpoint: EndpointStatus) -> str:
    return f"{endpoint.name} ({_where(endpoint)})"


def _where(endpoint: EndpointStatus) -> str:
    return shown(endpoint.address, endpoint.port)


def _refusals(before: Condition | None, merged: Merged, unknown: Sequence[str]) -> Iterator[Happening]:
    said = before.message if before else ""
    for reason, messages in (
        ("AddressRefused", merged.refused),
        ("TooManyEndpoints", (merged.too_many,) if merged.too_many else ()),
        ("UnknownEndpoint", unknown[:NAMED]),
        ("EndpointConflict", merged.conflicts),
    ):
        # What follows a semicolon is what to do about it, perhaps with the names that there are, which come and go.
        fresh = [each for each in messages if each.partition(";")[0].rstrip(".") not in said]
        for message in fresh[:MOST]:
            yield Happening("Warning", reason, message)
        if len(fresh) > MOST:
            yield Happening("Warning", reason, f"{len(fresh) - MOST} more; see condition Accepted")


def _sources(
    before: Condition | None, after: Condition | None, resolutions: Sequence[Resolution]
) -> Iterator[Happening]:
    if before and after and before.message == after.message:
        return
    failed = before.message if before and before.status == "False" else ""
    for each in resolutions:
        # Problems have their time after them, notes have not, and come last.
        known = re.search(rf"(^|\. ){re.escape(each.source)}: .*\(since ", failed)
        if each.problem:
            message = f"{each.source}: {each.problem.message.rstrip('.')}"
            if message not in failed:
                yield Happening("Warning", each.problem.reason, message)
        elif known and each.endpoints is not None:
            yield Happening("Normal", "SourceRecovered", f"{each.source} answers again")


def _panic(before: Condition | None, after: Condition | None) -> Iterator[Happening]:
    was, now = (each is not None and each.reason == "Panic" for each in (before, after))
    if now and not was and after:
        yield Happening("Warning", "Panic", after.message)
    elif was and not now:
        yield Happening("Normal", "PanicOver", "Enough endpoints are healthy to believe the checks again.")


def _readiness(before: Condition | None, after: Condition | None) -> Iterator[Happening]:
    if after is None or (before and (before.status, before.reason) == (after.status, after.reason)):
        return
    yield Happening("Warning" if after.status == "False" else "Normal", after.reason, after.message)
