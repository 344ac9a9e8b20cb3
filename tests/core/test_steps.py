"""In which order slices are written where kube-proxy heeds hints: whom each node's clients may reach meanwhile."""

from collections.abc import Sequence
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from moorage.api.discovery_v1 import Endpoint, EndpointConditions
from moorage.api.topology import MAX_HINTS, NOBODY, Hints, decode_hints, encode_hints
from moorage.core.steps import SliceChange, turns
from testing.kube_proxy import Slices, allowed, used

NODES = ("n1", "n2", "n3", "n4", "n5", "stranger")
NAMES = ("e1", "e2", "e3", "e4", "e5", "e6")


class State(NamedTuple):
    """What the endpoints are at one moment."""

    kind: str
    """Of the hints: nodes, zones or none."""
    ready: frozenset[str]
    at: dict[str, str]
    """Node (or the zone of its name) -> endpoint."""
    there: frozenset[str]

    def endpoint(self, name: str) -> Endpoint:
        who = frozenset(node for node, at in self.at.items() if at == name) or NOBODY
        hints = Hints(nodes=who) if self.kind == "nodes" else Hints(zones=who) if self.kind == "zones" else Hints()
        return Endpoint(
            addresses=[f"203.0.113.{name[1:]}"],
            conditions=EndpointConditions(ready=name in self.ready, serving=True),
            hostname=name,
            hints=encode_hints(hints),
        )


@st.composite
def states(draw: st.DrawFn) -> State:
    there = draw(st.sets(st.sampled_from(NAMES), min_size=1))
    return State(
        draw(st.sampled_from(["nodes", "nodes", "nodes", "zones", "none"])),
        frozenset(draw(st.sets(st.sampled_from(sorted(there))))),
        draw(st.dictionaries(st.sampled_from(NODES[:-1]), st.sampled_from(sorted(there)))),
        frozenset(there),
    )


def packed(state: State, where: dict[str, int]) -> list[list[Endpoint]]:
    return [[state.endpoint(name) for name in NAMES if name in state.there and where[name] == n] for n in range(3)]


def changes(before: Slices, after: Slices) -> list[SliceChange]:
    """Endpoints that stay keep their order, as slices are packed."""
    result = []
    for old, new in zip(before, after, strict=True):
        stay = {each.hostname for each in old}
        kept = [each for each in new if each.hostname in stay]
        result.append(SliceChange(old, kept + [each for each in new if each.hostname not in stay]))
    return result


def moments(before: Slices, todo: Sequence[SliceChange]) -> list[Slices]:
    """The slices after each write."""
    found: list[Slices] = [before]
    for turn in turns(todo):
        found.append([list(turn.endpoints) if n == turn.slice else each for n, each in enumerate(found[-1])])
    return found


@settings(max_examples=100)
@given(states(), states(), st.fixed_dictionaries({name: st.integers(0, 2) for name in NAMES}))
def test_after_every_write_each_node_uses_only_what_it_used_before_or_uses_after(
    old: State, new: State, where: dict[str, int]
) -> None:
    before, after = packed(old, where), packed(new, where)
    found = moments(before, changes(before, after))
    assert [{each.hostname: each for each in slice_} for slice_ in found[-1]] == [
        {each.hostname: each for each in slice_} for slice_ in after
    ]
    for node in NODES:
        first, last = used(before, node), used(after, node)
        most = allowed(before, after, node)
        for moment in found:
            now = used(moment, node)
            assert first & last <= now <= most, node
            assert now or not (first and last), node
    for moment in found:
        for each in (endpoint for slice_ in moment for endpoint in slice_):
            hints = decode_hints(each.hints)
            assert max(len(hints.nodes), len(hints.zones)) <= MAX_HINTS


CROWD = tuple(f"n{number:02}" for number in range(20))


@st.composite
def crowded(draw: st.DrawFn) -> State:
    """Three endpoints, with as many nodes as fit or nearly so, and some that do not."""
    order = draw(st.permutations(CROWD))
    sizes = [draw(st.integers(5, MAX_HINTS)) for _ in NAMES[:3]]
    places = [name for name, size in zip(NAMES, sizes, strict=False) for _ in range(size)]
    return State("nodes", frozenset(NAMES[:3]), dict(zip(order, places, strict=False)), frozenset(NAMES[:3]))


@settings(max_examples=50)
@given(crowded(), crowded())
def test_with_more_nodes_than_fit_nobody_is_without_an_endpoint_and_whoever_has_room_is_led(
    old: State, new: State
) -> None:
    where = {name: number % 3 for number, name in enumerate(NAMES)}
    before, after = packed(old, where), packed(new, where)
    found = moments(before, changes(before, after))
    assert found[-1] == after
    room = {
        name: sum(name in (old.at.get(node), new.at.get(node)) for node in CROWD) <= MAX_HINTS for name in NAMES[:3]
    }
    for moment in found:
        for slice_ in moment:
            assert all(len(decode_hints(each.hints).nodes) <= MAX_HINTS for each in slice_)
        for node in CROWD:
            now = used(moment, node)
            assert now
            if room.get(new.at.get(node, ""), False):
                assert now <= used(before, node) | used(after, node)


def one(name: str, *nodes: str, ready: bool = True) -> Endpoint:
    return State("nodes", frozenset([name] if ready else []), dict.fromkeys(nodes, name), frozenset([name])).endpoint(
        name
    )


def names(written: Sequence[tuple[int, object, bool]]) -> str:
    return "".join("ABC"[each[0]] for each in written)


def test_a_node_gains_its_new_endpoint_before_it_loses_the_old_one() -> None:
    a = SliceChange([one("e1", "n1")], [one("e1", ready=False)])
    b = SliceChange([one("e2", "n2")], [one("e2", "n1", "n2")])
    assert names(turns([a, b])) == "BA"


def test_an_endpoint_that_takes_over_is_ready_before_the_one_that_fails_is_not() -> None:
    a = SliceChange([one("e1", "n1")], [one("e1", ready=False)])
    b = SliceChange([one("e2", ready=False)], [one("e2", "n1")])
    assert names(turns([a, b])) == "BA"


def test_a_slice_that_gains_and_loses_is_written_once_where_no_other_does_both() -> None:
    a = SliceChange([one("e1", "n1"), one("e3")], [one("e1", ready=False), one("e3", "n3")])
    b = SliceChange([one("e2", "n2", "n3")], [one("e2", "n1", "n2")])
    assert names(turns([a, SliceChange([one("e2", "n2")], [one("e2", "n1", "n2")])])) == "BA"
    assert len(turns([a, b])) == 3


def test_two_nodes_that_change_places_cost_one_write_more() -> None:
    a = SliceChange([one("e1", "n1")], [one("e1", "n2")])
    b = SliceChange([one("e2", "n2")], [one("e2", "n1")])
    first, *others = turns([a, b])
    assert list(first.endpoints) == [one("e1", "n1", "n2")]
    assert [(each.slice, list(each.endpoints)) for each in others] == [(1, b.after), (0, a.after)]


def test_in_one_slice_they_change_places_in_one_write() -> None:
    a = SliceChange([one("e1", "n1"), one("e2", "n2")], [one("e1", "n2"), one("e2", "n1")])
    assert [list(each.endpoints) for each in turns([a])] == [a.after]


def test_where_there_is_no_room_for_old_and_new_hints_a_node_is_without_one_for_one_write() -> None:
    some, others = [f"a{n}" for n in range(8)], [f"b{n}" for n in range(8)]
    a = SliceChange([one("e1", *some)], [one("e1", *others)])
    b = SliceChange([one("e2", *others)], [one("e2", *some)])
    found = moments([[one("e1", *some)], [one("e2", *others)], [one("e3")]], [a, b])
    assert len(found) == 3
    assert {frozenset(used(found[1], node)) for node in some} == {frozenset(["e1", "e2", "e3"])}
    assert {frozenset(used(found[1], node)) for node in others} == {frozenset(["e1", "e2"])}


def test_what_has_room_makes_it_for_the_others() -> None:
    some, others = [f"a{n}" for n in range(5)], [f"b{n}" for n in range(8)]
    a = SliceChange([one("e1", *some)], [one("e1", *others[:3])])
    b = SliceChange([one("e2", *others)], [one("e2", *others[3:], *some[:3])])
    c = SliceChange([one("e3")], [one("e3", *some[3:])])
    before = [[one("e1", *some)], [one("e2", *others)], [one("e3")]]
    for moment in moments(before, [a, b, c]):
        for node in [*some, *others]:
            now = used(moment, node)
            assert now <= used(before, node) | used([a.after, b.after, c.after], node)
            assert len(now) < 3
