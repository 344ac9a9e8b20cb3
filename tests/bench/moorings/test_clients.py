from collections import Counter

from bench import objects
from bench.moorings import bare, clients
from moorage.api.moorings_v1alpha1 import Mooring
from moorage.core.model import Create, Patch


def made(number: int, count: int) -> list[Mooring]:
    creations = bare.decided(number, "bare", list(clients.pods("bare", count)))
    return [each.obj for each in creations if isinstance(each, Create) and isinstance(each.obj, Mooring)]


def test_three_clients_of_ten_are_at_the_endpoint_that_fails() -> None:
    at = Counter(each.spec.endpoint for each in made(0, 1000))
    assert at[clients.endpoint(0)] == 300
    assert sorted(at.values()) == [100] * 7 + [300]


def test_its_clients_and_only_they_are_written_when_it_fails() -> None:
    before = made(0, 100)
    writes = bare.decided(0, "bare", list(clients.pods("bare", 100)), before, failed=True)
    lost = {each.metadata.name for each in before if each.spec.endpoint == clients.endpoint(0)}
    assert [type(each) for each in writes] == [Patch] * 30
    assert {each.name for each in writes if isinstance(each, Patch)} == lost


def test_the_moorings_that_are_waited_for_are_those_that_are_made() -> None:
    names = {each.metadata.name for number in range(2) for each in made(number, 100)}
    pods = [pod.metadata.name for pod in clients.pods("bare", 100)]
    assert {key.name for pod in pods for key in clients.moorings_of(pod, 2)} == names


def test_pods_of_several_lots_have_names_of_their_own() -> None:
    names = [pod.metadata.name for lot in ("client", "burst") for pod in clients.pods("ns", 100, lot)]
    assert len(set(names)) == 200


def test_only_one_endpoint_closes_its_port_one_day() -> None:
    ports = [
        each.port
        for number in range(2)
        for source in clients.of_pods(number).spec.endpoints or ()
        for each in source.addresses or ()
    ]
    assert ports == [objects.CLOSING_PORT, *[None] * 15]


def test_each_endpoint_of_nodes_has_the_address_that_is_dropped() -> None:
    sources = clients.of_nodes(20).spec.endpoints or ()
    found = [(each.name, each.address) for source in sources for each in source.addresses or ()]
    assert found == [(clients.endpoint(number), objects.address(0, number, 20)) for number in range(20)]
