"""Events of moves: on those who move, and together on the ExternalServices of their group; few of either."""

from typing import Any

import pytest

from moorage.api.core_v1 import LocalObjectReference
from moorage.api.meta import Object, ObjectKey, ObjectMeta
from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.core.mooring_model import Client, ClientKey, Move, Reason
from moorage.operator.mooring_events import MAX_MEMBERS, MAX_SINGLE, MooringEvents

GROUP = ObjectKey("default", "backend")
WHY = "one does not serve ExternalService backend"


class Fixture:
    def __init__(self) -> None:
        self.names = ["backend"]
        self.told: list[tuple[str, str, str, str]] = []
        """Whom it is about, type, reason and message."""
        played: Any = self
        self.events = MooringEvents(played, played)

    def members(self, group: ObjectKey) -> list[ExternalService]:
        return [ExternalService(metadata=ObjectMeta(name=each)) for each in self.names]

    def record(self, about: Object | LocalObjectReference, type: str, reason: str, message: str) -> None:
        name = about.metadata.name if isinstance(about, Object) else str(about.name)
        self.told.append((name, type, reason, message))


@pytest.fixture
def fixture() -> Fixture:
    return Fixture()


def move(client: str, previous: str = "one", reason: Reason = "FailedOver", kind: str = "Node") -> Move:
    subject = LocalObjectReference(kind=kind, name=client) if kind == "Node" else None
    return Move(Client(ClientKey(kind, client), subject=subject), "two", previous, reason, WHY)


def test_a_move_is_told_to_the_client_and_to_the_external_services_of_its_group(fixture: Fixture) -> None:
    fixture.events.tell(GROUP, [move("n1")])
    assert fixture.told == [
        ("n1", "Warning", "FailedOver", f"Moved from one to two of backend: {WHY}"),
        ("backend", "Warning", "FailedOver", f"Moved from one: Node n1 to two: {WHY}"),
    ]


def test_a_move_that_somebody_wanted_is_no_warning(fixture: Fixture) -> None:
    fixture.events.tell(GROUP, [move("n1", reason="Moved"), move("n2", reason="Drained")])
    assert {(reason, type_) for _, type_, reason, _ in fixture.told} == {("Moved", "Normal"), ("Drained", "Normal")}


def test_of_hundreds_a_few_are_told_one_by_one_and_their_number_once(fixture: Fixture) -> None:
    fixture.events.tell(GROUP, [move(f"n{number}") for number in range(300)])
    assert [name for name, *_ in fixture.told] == [*(f"n{number}" for number in range(MAX_SINGLE)), "backend"]
    assert fixture.told[-1][3] == f"Moved from one: 300 clients: Node n0, Node n1, Node n2 and 297 more: {WHY}"


def test_who_is_new_is_no_news(fixture: Fixture) -> None:
    fixture.events.tell(GROUP, [move("n1", previous="", reason="Assigned")])
    assert fixture.told == []


def test_a_client_that_is_no_object_is_told_of_on_the_external_service_alone(fixture: Fixture) -> None:
    fixture.events.tell(GROUP, [move("default", kind="Namespace")])
    assert [name for name, *_ in fixture.told] == ["backend"]


def test_a_group_of_many_tells_some_of_its_external_services(fixture: Fixture) -> None:
    fixture.names = [f"backend-{number}" for number in range(50)]
    fixture.events.tell(GROUP, [move("n1")])
    assert [name for name, *_ in fixture.told[1:]] == fixture.names[:MAX_MEMBERS]


def test_each_endpoint_that_was_left_and_each_reason_is_told_by_itself(fixture: Fixture) -> None:
    fixture.events.tell(GROUP, [move("n1"), move("n2", "three"), move("n3", reason="Returned")])
    together = [(reason, message.split(":")[0]) for name, _, reason, message in fixture.told if name == "backend"]
    assert together == [
        ("FailedOver", "Moved from one"),
        ("FailedOver", "Moved from three"),
        ("Returned", "Moved from one"),
    ]
