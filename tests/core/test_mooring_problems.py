"""What people read about moorings that are not as they want them."""

import pytest

from moorage.core import mooring_problems
from moorage.core.groups import combined
from moorage.core.loads import Loads
from moorage.core.mooring_model import Client, ClientKey
from testing.moorings import at, drained, end, member, mooring, recorded

GROUP = combined([member(end("a"), end("b", serves=False), drained("c", 0, 60), client="Node", by_kube_proxy=True)])


def loads(clients: int = 0) -> Loads:
    found = Loads("backend", GROUP.endpoints.values(), GROUP.limit)
    for number in range(clients):
        found.add("a", Client(ClientKey("Node", f"n{number}")))
    return found


@pytest.mark.parametrize(
    ("name", "clients", "why"),
    [
        ("a", 7, None),
        ("a", 8, "a has 8 nodes, as many as its hints can name"),
        ("b", 0, "b does not serve ExternalService backend"),
        ("c", 0, f"c is drained, to be empty by {at(60)}"),
        ("x\n", 0, 'there is no endpoint "x\\n"; there are a, b, c'),
    ],
)
def test_what_keeps_an_edit_from_being_followed(name: str, clients: int, why: str | None) -> None:
    assert mooring_problems.obstacle(name, GROUP, loads(clients)) == why


def test_which_endpoints_there_are_is_told_in_few_words() -> None:
    none, one = combined([member()]), combined([member(end("a"))])
    many = combined([member(*map(end, "abcdefg"))])
    told = [mooring_problems.obstacle("x", each, Loads("g", (), None)) for each in (none, one, many)]
    assert told == [
        "there is no endpoint x; there are none",
        "there is no endpoint x; there is a",
        "there is no endpoint x; there are a, b, c and 4 more",
    ]


def test_a_mooring_says_where_its_client_is_instead() -> None:
    def text(name: str, at: str | None) -> str:
        return mooring_problems.message_of_edit(name, at, GROUP, loads())

    assert text("b", "a") == (
        "spec.endpoint: b does not serve ExternalService backend; the client stays at a until that changes"
    )
    assert text("x", None) == "spec.endpoint: there is no endpoint x; there are a, b, c; the client is not moored"


def test_of_an_absent_client_only_mistakes_are_told() -> None:
    of = mooring_problems.message_of_absent
    assert of(mooring("n1", "b", kind="Node"), GROUP) is None
    assert of(mooring("n1", "x", kind="Node"), GROUP) == ("spec.endpoint: there is no endpoint x; there are a, b, c")
    assert of(mooring("p", "a"), GROUP) == (
        "spec.client.kind: the clients of this group are nodes, so this Mooring has no effect"
    )
    assert of(recorded(mooring("p", "a"), endpoint="a"), GROUP) is None
    pods = combined([member(end("a"), client="Label")])
    assert [of(mooring("one", "a", kind=kind), pods) for kind in ("Label", "Pod", "Node")] == [None] * 3


def test_too_many_are_counted_and_some_are_named() -> None:
    nodes = [ClientKey("Node", f"n{number}") for number in range(5)]
    (complaint,) = mooring_problems.complaints(GROUP, nodes[:3], nodes[3:4], nodes[4:], ())
    assert complaint.reason == "TooManyNodes"
    assert complaint.message == (
        "spec.sessionAffinityConfig.mooring.client: 5 nodes have no endpoint of their own and use any: n0, n1, n2 "
        "and 2 more. 1 of 3 endpoints take new clients, and hints name at most 8 nodes for each. Use client Zone or "
        "spec.proxy moorage, or add endpoints"
    )


def test_where_none_takes_clients_those_that_wait_and_those_that_stay_are_told_apart() -> None:
    group = combined([member(end("a", takes=False), end("b", serves=False))])
    pods = [ClientKey("Pod", "p"), ClientKey("Pod", "q")]
    (complaint,) = mooring_problems.complaints(group, pods[:1], pods[1:], (), ())
    assert complaint.reason == "NoEndpointTakes"
    assert complaint.message == (
        "None of 2 endpoints takes new clients, so these pods are not moored: p; these pods stay where nothing "
        "serves them: q"
    )
    assert not [*mooring_problems.complaints(group, (), (), (), ())]


def test_what_moorings_say_is_told_of_the_first_few() -> None:
    messages = [(f"p{number}", "wrong") for number in range(9)]
    found = [*mooring_problems.complaints(GROUP, (), (), (), messages)]
    assert [each.message for each in found] == [
        "Mooring p0: wrong",
        "Mooring p1: wrong",
        "Mooring p2: wrong",
    ]
    assert {each.reason for each in found} == {"MooringNotFollowed"}
