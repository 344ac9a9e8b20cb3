"""How Mooring objects are read and written."""

from msgspec.structs import replace

from moorage.api.contract import CLIENT_LABEL, GROUP_LABEL
from moorage.api.moorings_v1alpha1 import Mooring, MooringStatus
from moorage.core import moorings
from moorage.core.model import Delete, Patch
from moorage.core.mooring_model import ClientKey, Moored, Move
from moorage.core.moorings import Step
from moorage.core.roster import Roster
from testing.moorings import KEY, at, clients, mooring, recorded

TO_B = Step("b", "FailedOver", "a is gone", "a")


def stored(one: Mooring, **fields: str) -> Mooring:
    return replace(one, metadata=replace(one.metadata, uid="u", resource_version="7", **fields))


def test_of_several_moorings_of_a_client_the_one_with_a_record_counts_then_the_oldest() -> None:
    first, second = stored(mooring("p", "a", object_name="z")), stored(mooring("p", "b", object_name="y"))
    old = stored(mooring("p", "c", object_name="x"), creation_timestamp=at(0))
    young = stored(mooring("p", "c", object_name="w"), creation_timestamp=at(1))
    key = ClientKey("Pod", "p")
    roster = Roster.of({}, [first, young, old, second])
    assert (roster.mooring(key), roster.surplus()) == (second, [first, old, young])
    known = recorded(young, endpoint="c")
    roster = Roster.of({}, [old, known])
    assert (roster.mooring(key), roster.surplus()) == (known, [old])


def test_a_wish_is_what_the_record_does_not_have() -> None:
    assert moorings.requested(mooring("p", "a")) == "a"
    assert moorings.requested(recorded(mooring("p", "a"), endpoint="a")) is None
    assert moorings.requested(recorded(mooring("p", "b"), endpoint="a")) == "b"


def test_a_new_mooring_has_all_in_one_object() -> None:
    made = moorings.created(KEY, ClientKey("Node", "n1"), Step("a", "Assigned", "", "a"), at(3), ()).obj
    assert isinstance(made, Mooring)
    assert (made.metadata.name, made.metadata.namespace) == ("backend.node.n1", "frontend")
    assert (made.spec.group, made.spec.client.kind, made.spec.client.name) == ("backend", "Node", "n1")
    assert made.spec.endpoint == made.status.endpoint == made.status.home == "a"
    assert made.status.moves is not None


def test_a_name_that_somebody_took_is_not_used() -> None:
    taken = ("backend.p", "backend.p.2")
    made = moorings.created(KEY, ClientKey("Pod", "p"), Step("a", "Assigned", "", "a"), at(0), taken)
    assert made.obj.metadata.name == "backend.p.3"


def test_what_goes_along_from_another_group_is_the_whole_record_without_its_message() -> None:
    record = MooringStatus(endpoint="a", since=at(0), reason="Drained", home="c", message="?", moves=[])
    step = Step("a", "Assigned", "", "a", past=record)
    made = moorings.created(KEY, ClientKey("Pod", "p"), step, at(9), ()).obj
    assert isinstance(made, Mooring)
    assert made.status == replace(record, message=None)


def test_a_move_is_one_patch_that_clears_what_no_longer_holds() -> None:
    one = recorded(stored(mooring("p", "a")), endpoint="a", home="a", message="old", since=at(0))
    patch = moorings.patched(one, TO_B, None, at(9))
    assert isinstance(patch, Patch)
    assert patch.body["metadata"] == {"uid": "u", "resourceVersion": "7"}
    assert patch.body["spec"] == {"endpoint": "b"}
    move = {"time": at(9), "endpoint": "b", "reason": "FailedOver"}
    assert patch.body["status"] == {
        "endpoint": "b",
        "since": at(9),
        "reason": "FailedOver",
        "previous": "a",
        "message": None,
        "moves": [move],
    }


def test_a_wish_that_cannot_be_had_stays_in_the_spec() -> None:
    one = recorded(stored(mooring("p", "x")), endpoint="a", home="a")
    patch = moorings.patched(one, TO_B, "there is no x", at(9))
    assert patch is not None
    assert "spec" not in patch.body
    assert patch.body["status"]["message"] == "there is no x"


def test_nothing_is_written_where_nothing_is_new_or_the_object_goes() -> None:
    one = recorded(stored(mooring("p", "a")), endpoint="a", message="same")
    assert moorings.patched(one, None, "same", at(9)) is None
    going = stored(one, deletion_timestamp=at(1))
    assert moorings.patched(going, TO_B, None, at(9)) is None
    assert moorings.deleted(going) is None


def test_those_of_nodes_and_zones_that_people_made_get_the_labels_by_which_agents_find_them() -> None:
    one = recorded(stored(mooring("n1", "a", kind="Node")), endpoint="a")
    patch = moorings.patched(one, None, None, at(9))
    assert patch is not None
    labels = {GROUP_LABEL: "backend", CLIENT_LABEL: "node.n1"}
    assert patch.body == {"metadata": {"uid": "u", "resourceVersion": "7", "labels": labels}}
    marked = replace(one, metadata=replace(one.metadata, labels=labels))
    assert moorings.patched(marked, None, None, at(9)) is None


def test_until_a_move_is_written_its_client_is_where_it_was() -> None:
    decided = Moored("Pod", {"b": ("p", "q", "r")}, pending="They wait")
    by_key = {key.name: client for key, client in clients("p", "q", "r").items()}
    undone = [
        Move(by_key["p"], "b", "a", "FailedOver", "a is gone"),
        Move(by_key["r"], "b", "", "Assigned", "it is new"),
    ]
    assert moorings.as_written(decided, undone) == decided._replace(at={"a": ("p",), "b": ("q",)})
    assert moorings.as_written(decided, []) == decided


def test_a_deletion_has_preconditions() -> None:
    assert moorings.deleted(stored(mooring("p", "a"))) == Delete(Mooring, "frontend", "by-hand.pod.p", "u", "7")
