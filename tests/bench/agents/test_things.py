"""That node agents understand what the benchmark gives them to read."""

from itertools import islice

from msgspec.structs import replace

from bench.agents import things
from moorage.api.addresses import as_kubernetes_reads
from moorage.api.contract import decode_service
from moorage.dataplane.services import Scope, carried
from moorage.node.moorings import endpoints_of


def test_a_service_is_carried_with_all_endpoints_but_the_one_that_fails() -> None:
    (service,) = things.services(1)
    (slice_,) = things.slices(1)
    service = replace(service, spec=replace(service.spec, cluster_ip="10.96.0.1", cluster_ips=["10.96.0.1"]))
    failed = replace(slice_, endpoints=things.endpoints(0, ready=False))
    for given, count in ((slice_, things.ENDPOINTS), (failed, things.ENDPOINTS - 1)):
        (port,) = carried(service, [given], Scope(things.node(0))).ports
        assert len(port.targets) == count


def test_a_pod_s_mooring_is_in_the_group_of_a_service_and_at_one_of_its_endpoints() -> None:
    (service,) = things.services(1)
    moored = decode_service(service.metadata).contract.moored
    assert moored is not None
    names = {each.hostname for each in things.endpoints(0, ready=True)}
    for mooring in things.moorings(20):
        assert mooring.spec.group == moored.group
        assert set(endpoints_of(mooring)) < names


def test_only_so_many_pods_have_a_mooring_and_each_has_an_address_of_its_own() -> None:
    count = 3 * things.MOORED
    assert len(list(things.moorings(count))) == things.MOORED
    addresses = [things.addressed(number)["status"]["podIP"] for number in range(70_000)]
    assert len(set(addresses)) == len(addresses)
    assert all(as_kubernetes_reads(each) == each for each in islice(addresses, 0, None, 1_000))
