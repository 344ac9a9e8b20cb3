"""In which order the EndpointSlices of a Service are written where kube-proxy obeys hints.

kube-proxy looks at the endpoints of all slices together. Which of them a node uses depends on which are ready, on
whether each of these has a hint, and on which ones are hinted to the node (`api.topology`). One write changes one
slice. So a change of several slices goes in four steps, each done for all slices before the next one begins:

1. endpoints get their new hints, and keep the old ones;
2. endpoints become ready;
3. endpoints stop being ready, or are removed;
4. endpoints lose their old hints.

After every single write, each node then uses only endpoints that it used before the change or uses after it, and has
at least one. docs/moorings.md lists the exceptions, where no order of writes would do: a node that is moored only
before or only after the change, and an endpoint without room for old and new hints. A slice that takes part in
several steps is written once if no other slice is written in between.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby, zip_longest
from typing import NamedTuple

from msgspec.structs import replace

from moorage.api.discovery_v1 import Endpoint
from moorage.api.topology import MAX_HINTS, NO_HINTS, NOBODY, Hints, decode_hints, encode_hints

_STEPS = (1, 2, 3, 4)


class SliceChange(NamedTuple):
    """How the endpoints of one slice change."""

    before: Sequence[Endpoint]
    after: Sequence[Endpoint]
    """Those that are in `before` too are first, and in the same order."""
    ports: bool = False
    """Its ports change too, at step 2."""


class Turn(NamedTuple):
    """One write."""

    slice: int
    """Which of the changes it belongs to."""
    endpoints: Sequence[Endpoint]
    """What the slice has then."""
    ports: bool
    """Whether it has its new ports then; before, it has the old ones."""


def turns(changes: Sequence[SliceChange]) -> list[Turn]:
    """The writes that carry out all `changes`, in their order."""
    between = _between(changes)
    moving = [_moving(change, changes) if change.ports else frozenset() for change in changes]
    contents = [
        [_contents(change, step, between, leaving) for step in _STEPS]
        for change, leaving in zip(changes, moving, strict=True)
    ]
    due: dict[int, list[int]] = {}
    for index, (change, after_step) in enumerate(zip(changes, contents, strict=True)):
        previous = list(change.before)
        for step, now in zip(_STEPS, after_step, strict=True):
            if now != previous or (step == 2 and change.ports):
                due.setdefault(step, []).append(index)
            previous = now
    late = {
        2: {index for index, each in enumerate(moving) if each},
        4: {index for index, each in enumerate(changes) if not _gains_late(each, between)},
    }
    order = _order(due, late)
    merged = [list(each)[-1] for _, each in groupby(order, key=lambda each: each[0])]
    return [Turn(index, contents[index][step - 1], step > 1) for index, step in merged]


def _order(due: Mapping[int, Sequence[int]], late: Mapping[int, Collection[int]]) -> Iterator[tuple[int, int]]:
    """Slice and step, in order; `late` are the slices that come last in each step.

    A slice that has the last turn in a step has the first one in the next, if possible: that is one write.
    """
    last = -1
    steps = sorted(due)
    for step, following in zip_longest(steps, steps[1:]):
        then = due[following] if following else ()
        waits = late.get(step, ())
        group = sorted(due[step], key=lambda index: (index in waits, index != last, index in then, index))
        yield from ((index, step) for index in group)
        last = group[-1]


def _moving(change: SliceChange, changes: Sequence[SliceChange]) -> frozenset[str | None]:
    """The endpoints that go from this slice, whose ports change, to others.

    It would have them at a wrong port, so they leave it at step 2, after the others have got them. That is no circle:
    a slice that gives an endpoint away gets none from another (`packing`).
    """
    gone = {each.hostname for each in change.before} - {each.hostname for each in change.after}
    return frozenset(each.hostname for other in changes for each in other.after if each.hostname in gone)


def _gains_late(change: SliceChange, between: Mapping[str, Hints]) -> bool:
    """Whether a slice gets hints at step 4, because there was no room for them at step 1."""
    return any(
        hints.nodes - between[name].nodes - NOBODY or hints.zones - between[name].zones - NOBODY
        for name, hints in _all([change.after]).items()
    )


def _contents(
    change: SliceChange, step: int, between: Mapping[str, Hints], leaving: Collection[str | None]
) -> list[Endpoint]:
    """The endpoints of a slice once this step is done; `leaving` those that leave it at step 2."""
    if step == 4:
        return list(change.after)
    after = {each.hostname: each for each in change.after}
    result = []
    for each in change.before:
        then = after.get(each.hostname)
        if then is not None and (step == 3 or (step == 2 and (_ready(then) or not _ready(each)))):
            result.append(_hinted(then, between))
        elif step == 1 or (step == 2 and each.hostname not in leaving):
            result.append(_hinted(each, between))
    if step > 1:
        before = {each.hostname for each in change.before}
        result += [_hinted(each, between) for each in change.after if each.hostname not in before]
    return result


def _hinted(endpoint: Endpoint, between: Mapping[str, Hints]) -> Endpoint:
    """The endpoint with its hints until step 4. Hints of one that is not ready do not count."""
    if not _ready(endpoint):
        return endpoint
    return replace(endpoint, hints=encode_hints(between.get(endpoint.hostname or "", NO_HINTS)))


def _between(changes: Sequence[SliceChange]) -> dict[str, Hints]:
    """The hints that each endpoint has from step 1 to step 3, by name: those of before and those of after.

    If one endpoint has hints of a kind, all others have some, too; else kube-proxy would ignore them.
    """
    before, after = _all(each.before for each in changes), _all(each.after for each in changes)
    every = [*before.values(), *after.values()]
    nodes, zones = any(each.nodes for each in every), any(each.zones for each in every)

    def both(name: str) -> Hints:
        old, new = before.get(name, NO_HINTS), after.get(name, NO_HINTS)
        return Hints(_fitting(old.nodes, new.nodes, nodes), _fitting(old.zones, new.zones, zones))

    return {name: both(name) for name in {**before, **after}}


def _fitting(old: frozenset[str], new: frozenset[str], used: bool) -> frozenset[str]:
    if not used:
        return frozenset()
    found = sorted(old - NOBODY) + sorted(new - old - NOBODY)
    return frozenset(found[:MAX_HINTS]) or NOBODY


def _all(slices: Iterable[Sequence[Endpoint]]) -> dict[str, Hints]:
    """The hints of the ready endpoints, by name."""
    result: dict[str, Hints] = {}
    for endpoints in slices:
        for each in endpoints:
            if _ready(each):
                known, found = result.get(each.hostname or "", NO_HINTS), decode_hints(each.hints)
                result[each.hostname or ""] = Hints(known.nodes | found.nodes, known.zones | found.zones)
    return result


def _ready(endpoint: Endpoint) -> bool:
    return endpoint.conditions.ready is not False
