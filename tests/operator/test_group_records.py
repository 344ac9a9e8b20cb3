"""Who is absent, and since when."""

from moorage.core.mooring_model import Client, ClientKey
from moorage.core.roster import Roster
from moorage.core.snapshot import GroupSnapshot
from moorage.operator.group_records import absences
from testing.moorings import KEY, mooring

A, B, C = (ClientKey("Pod", name) for name in "abc")


def snapshot(*moored: ClientKey) -> GroupSnapshot:
    roster = Roster.of({A: Client(A)}, [mooring(each.name, "one") for each in moored])
    return GroupSnapshot(KEY, (), roster, frozenset([B]), {}, "later")


def test_whoever_has_a_mooring_and_is_neither_there_nor_expected_is_absent_since_then() -> None:
    assert absences({}, snapshot(A, B, C)) == {C: "later"}
    assert absences({A: "before", C: "before"}, snapshot(A, B, C)) == {C: "before"}
    assert absences({C: "before"}, snapshot(A, B)) == {}
