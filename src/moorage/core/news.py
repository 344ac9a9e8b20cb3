"""Finds the news for Kubernetes Events: the difference between the last status and the next one.

Only facts are compared, so neither other words for the same fact nor a restart is news.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from moorage.api.meta import Condition
from moorage.api.moorage_v1alpha1 import (
    EndpointStatus,
    ExternalService,
    ExternalServiceSpec,
    ExternalServiceStatus,
    ProblemStatus,
)
from moorage.core.conditions import checked_at
from moorage.core.endpoints import shown
from moorage.core.model import News
from moorage.core.status import MAX_PROBLEMS, problem_key
from moorage.core.view import SourceRow, View
from moorage.core.words import cut

MAX_SINGLE = 3
"""Up to this many news of one sort get an Event each; more share one Event."""
MAX_EVENT_CHARACTERS = 1000
"""The message of an Event may have 1,024."""


def news(view: View, status: ExternalServiceStatus) -> tuple[News, ...]:
    """What has happened since the ExternalService's status was last written; `status` is the new one."""
    xsvc = view.xsvc
    if status == xsvc.status:
        return ()
    before, after = _by_type(xsvc.status), _by_type(status)
    found = [
        *_problems(xsvc.status.problems or (), status.problems or (), view.sources),
        *_endpoints(xsvc.spec, xsvc.status, status),
        *_panic(before.get("Healthy"), after.get("Healthy")),
        *_moorings(before.get("Moored"), after.get("Moored"), after.get("Ready")),
        *_readiness(before.get("Ready"), after.get("Ready")),
    ]
    return tuple(each._replace(message=cut(each.message, MAX_EVENT_CHARACTERS)) for each in found)


def news_of_readiness(xsvc: ExternalService, status: ExternalServiceStatus) -> tuple[News, ...]:
    """What has happened if nothing was done: only a change of Ready counts."""
    return tuple(_readiness(_by_type(xsvc.status).get("Ready"), _by_type(status).get("Ready")))


def _by_type(status: ExternalServiceStatus) -> dict[str, Condition]:
    return {each.type: each for each in status.conditions or ()}


def _each_or_all(
    type_: Literal["Normal", "Warning"], reason: str, what: str, lines: Sequence[tuple[str, str]]
) -> Iterator[News]:
    """One Event for each of `lines` (name, sentence), or one for all: "12 endpoints added: a, b, c and 9 more"."""
    if len(lines) <= MAX_SINGLE:
        for _, sentence in lines:
            yield News(type_, reason, sentence)
        return
    names = ", ".join(name for name, _ in lines[:MAX_SINGLE])
    yield News(type_, reason, f"{len(lines)} endpoints {what}: {names} and {len(lines) - MAX_SINGLE} more")


def _endpoints(
    spec: ExternalServiceSpec, before: ExternalServiceStatus, after: ExternalServiceStatus
) -> Iterator[News]:
    old = {each.name: each for each in before.endpoints or ()}
    new = {each.name: each for each in after.endpoints or ()}
    if _complete(before) and _complete(after):
        added = [each for name, each in new.items() if name not in old]
        removed = [each for name, each in old.items() if name not in new]
        yield from _each_or_all(
            "Normal", "EndpointAdded", "added", [(each.name, f"{_shown(each)} from {each.source}") for each in added]
        )
        yield from _each_or_all(
            "Normal",
            "EndpointRemoved",
            "removed",
            [(each.name, f"{_shown(each)} is no longer in {each.source}") for each in removed],
        )
    both = [(old[name], each) for name, each in new.items() if name in old]
    yield from _each_or_all(
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
) -> Iterator[News]:
    turned = [each for name, each in new.items() if name not in old or old[name].health != each.health]
    yield from _each_or_all(
        "Warning",
        "EndpointUnhealthy",
        "have become unhealthy",
        [
            (each.name, f"{each.name} ({checked_at(spec, each)}) is unhealthy: {each.message or 'its checks fail'}")
            for each in turned
            if each.health == "Unhealthy"
        ],
    )
    yield from _each_or_all(
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


def _problems(
    before: Sequence[ProblemStatus], after: Sequence[ProblemStatus], sources: Sequence[SourceRow]
) -> Iterator[News]:
    known = {problem_key(each) for each in before}
    fresh: dict[str, list[ProblemStatus]] = {}
    for each in after:
        if problem_key(each) not in known:
            fresh.setdefault(each.reason, []).append(each)
    for reason, found in fresh.items():
        for each in found[:MAX_SINGLE]:
            yield News("Warning", reason, f"{each.source}: {each.message}" if _of_source(each) else each.message)
        if more := len(found[MAX_SINGLE:]):
            at_least = "at least " if len(after) == MAX_PROBLEMS else ""
            yield News("Warning", reason, f"{at_least}{more} more; see status.problems")
    failed = {each.source for each in before if _of_source(each)}
    current = {each.name: each.found is not None for each in sources}
    current |= {each.name: False for each in sources if each.problem}
    for name, answers in current.items():
        if name in failed and answers:
            yield News("Normal", "SourceRecovered", f"{name} answers again")


def _of_source(problem: ProblemStatus) -> bool:
    return problem.source is not None and problem.endpoint is None


def _panic(before: Condition | None, after: Condition | None) -> Iterator[News]:
    was, now = (each is not None and each.reason == "Panic" for each in (before, after))
    if now and not was and after:
        yield News("Warning", "Panic", after.message)
    elif was and not now:
        yield News("Normal", "PanicOver", "Enough endpoints are healthy to believe the checks again.")


def _moorings(before: Condition | None, after: Condition | None, ready: Condition | None) -> Iterator[News]:
    """That clients are not where they are moored, unless Ready says it, too; and that they all are again."""
    if after is None or (before and (before.status, before.reason) == (after.status, after.reason)):
        return
    if after.status == "False" and (ready is None or ready.reason != after.reason):
        yield News("Warning", after.reason, after.message)
    elif after.status == "True" and before and before.status == "False":
        yield News("Normal", after.reason, after.message)


def _readiness(before: Condition | None, after: Condition | None) -> Iterator[News]:
    if after is None or (before and (before.status, before.reason) == (after.status, after.reason)):
        return
    yield News("Warning" if after.status == "False" else "Normal", after.reason, after.message)
