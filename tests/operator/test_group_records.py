"""Who is absent, and since when."""

from moorage.api.meta import ObjectMeta
from moorage.api.moorings_v1alpha1 import Mooring, MooringClient, MooringSpec
from moorage.core.mooring_model import Client, ClientKey, Clients
from moorage.operator.group_records import absences

A, B, C = (ClientKey("Pod", name) for name in "abc")


def mooring(client: ClientKey) -> Mooring:
    spec = MooringSpec(group="backend", client=MooringClient(kind=client.kind, name=client.name), endpoint="one")
    return Mooring(metadata=ObjectMeta(name=client.name), spec=spec)


def test_whoever_has_a_mooring_and_is_neither_there_nor_expected_is_absent_since_then() -> None:
    clients = Clients({A: Client(A)}, frozenset([B]))
    moorings = [mooring(each) for each in (A, B, C)]
    assert absences({}, clients, moorings, "later") == {C: "later"}
    assert absences({A: "before", C: "before"}, clients, moorings, "later") == {C: "before"}
    assert absences({C: "before"}, clients, moorings[:2], "later") == {}
