"""The roster of a group: whatever changes in whatever order, it is that of what there is."""

import random
from collections.abc import Iterator
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from moorage.api.moorings_v1alpha1 import Mooring, MooringStatus
from moorage.core.mooring_model import Client, ClientKey
from moorage.core.moorings import rank
from moorage.core.roster import Roster
from testing.moorings import mooring, recorded


class Change(NamedTuple):
    """A client or a Mooring comes, becomes another, or goes (`what` is None)."""

    which: ClientKey | str
    what: Client | Mooring | None


KEYS = [ClientKey("Pod", name) for name in "abc"] + [ClientKey("Node", "a")]
NAMES = ["m1", "m2", "m3"]
endpoints = st.sampled_from([None, "one", "two"])


@st.composite
def changes(draw: st.DrawFn) -> Change:
    key = draw(st.sampled_from(KEYS))
    if draw(st.booleans()):
        owner = draw(st.sampled_from(["", "ReplicaSet/x", "ReplicaSet/y"]))
        return Change(key, Client(key, owner) if draw(st.booleans()) else None)
    name = draw(st.sampled_from(NAMES))
    if draw(st.integers(0, 3)) == 0:
        return Change(name, None)
    made = mooring(key.name, draw(st.sampled_from(["one", "two"])), key.kind, name)
    status = MooringStatus(
        endpoint=draw(endpoints), home=draw(endpoints), message=draw(st.sampled_from([None, "it is full"]))
    )
    return Change(name, recorded(made, **{each: getattr(status, each) for each in ("endpoint", "home", "message")}))


def after(found: list[Change]) -> Iterator[tuple[Roster, dict[ClientKey, Client], dict[str, Mooring]]]:
    """The roster after each change, and what there is then."""
    roster = Roster()
    present: dict[ClientKey, Client] = {}
    moorings: dict[str, Mooring] = {}
    for which, what in found:
        match which, what:
            case ClientKey(), Client():
                present[which] = what
                roster.set_client(which, what)
            case ClientKey(), _:
                present.pop(which, None)
                roster.set_client(which, None)
            case str(), Mooring():
                moorings[which] = what
                roster.put(what)
            case str(), _:
                assert roster.discard(which) == (moorings.pop(which, None) is not None)
        yield roster, present, moorings


@given(st.lists(changes(), max_size=20), st.integers(0, 99))
def test_it_is_that_of_what_there_is_whatever_has_changed_before(found: list[Change], seed: int) -> None:
    chance = random.Random(seed)
    for roster, present, moorings in after(found):
        mixed = chance.sample(list(present.items()), len(present))
        assert roster == Roster.of(dict(mixed), chance.sample(list(moorings.values()), len(moorings)))


@given(st.lists(changes(), max_size=20))
def test_it_tells_who_is_where_and_of_whom_there_is_something_to_do(found: list[Change]) -> None:
    for roster, present, moorings in after(found):
        of = {key: [each for each in moorings.values() if each.spec.client.name == key.name] for key in KEYS}
        of = {key: [each for each in mine if each.spec.client.kind == key.kind] for key, mine in of.items()}
        where = {key: roster.endpoint(key) for key in KEYS}
        assert roster.size == len(present) + len(moorings)
        for key in KEYS:
            known = [each for each in of[key] if each.status.endpoint]
            assert sorted(roster.moorings_of(key), key=rank) == sorted(of[key], key=rank)
            assert roster.mooring(key) in (known or of[key]) or not of[key]
            assert (where[key] is not None) == (key in present and bool(known))
            assert (key in roster.unassigned) == (key in present and where[key] is None)
            assert (key in roster.away) == (key not in present and bool(of[key]))
        assert roster.at == {
            name: sorted(key for key in KEYS if where[key] == name)
            for name in ("one", "two")
            if name in where.values()
        }
        owned = [(present[key].owner, name) for key, name in where.items() if name and present[key].owner]
        counted = [(owner, name) for owner, at in roster.by_owner.items() for name, n in at.items() for _ in range(n)]
        assert sorted(owned) == sorted(counted)
        assert len(roster.surplus()) == len(moorings) - sum(map(bool, of.values()))


@given(st.lists(changes(), max_size=10), st.lists(changes(), min_size=1, max_size=5))
def test_a_copy_does_not_change_with_it(before: list[Change], later: list[Change]) -> None:
    copied, whole = None, None
    for number, (roster, present, moorings) in enumerate(after([*before, *later])):
        if number == len(before) - 1:
            copied, whole = roster.copy(), Roster.of(present, moorings.values())
    assert copied == whole
