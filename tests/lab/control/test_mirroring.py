from moorage.api.core_v1 import EndpointAddress, Endpoints, EndpointsPort, EndpointSubset
from moorage.api.discovery_v1 import MANAGED_BY_LABEL, SERVICE_NAME_LABEL
from moorage.api.meta import ObjectMeta
from moorage_lab.control.mirroring import MANAGED_BY, wanted
from moorage_lab.control.slices import reconcile

META = ObjectMeta(name="web", namespace="ns", uid="uid-ep", labels={"tier": "x"})


def endpoints(*subsets: EndpointSubset) -> Endpoints:
    return Endpoints(metadata=META, subsets=list(subsets))


def subset(*ready: str, unready: tuple[str, ...] = (), port: int = 80) -> EndpointSubset:
    return EndpointSubset(
        addresses=[EndpointAddress(ip=ip) for ip in ready],
        not_ready_addresses=[EndpointAddress(ip=ip) for ip in unready],
        ports=[EndpointsPort(port=port)],
    )


def test_a_subset_becomes_a_slice_for_each_family() -> None:
    source = endpoints(subset("203.0.113.1", "2001:db8::1", unready=("203.0.113.2",)))
    made = reconcile(wanted(source), [], lambda: "abcde").create
    by_type = {slice_.address_type: slice_ for slice_ in made}
    assert [(e.addresses, e.conditions.ready) for e in by_type["IPv4"].endpoints or ()] == [
        (["203.0.113.1"], True),
        (["203.0.113.2"], False),
    ]
    assert [e.addresses for e in by_type["IPv6"].endpoints or ()] == [["2001:db8::1"]]
    for slice_ in made:
        assert slice_.metadata.labels == {"tier": "x", SERVICE_NAME_LABEL: "web", MANAGED_BY_LABEL: MANAGED_BY}
        assert [(port.name, port.port) for port in slice_.ports or ()] == [("", 80)]
        assert [owner.kind for owner in slice_.metadata.owner_references or ()] == ["Endpoints"]


def test_subsets_of_equal_ports_share_a_slice_and_of_other_ports_do_not() -> None:
    source = endpoints(subset("203.0.113.1"), subset("203.0.113.2"), subset("203.0.113.3", port=81))
    assert sorted(len(group) for group in wanted(source).groups.values()) == [1, 2]


def test_endpoints_that_lose_all_addresses_lose_their_slices() -> None:
    existing = reconcile(wanted(endpoints(subset("203.0.113.1"))), [], lambda: "abcde").create
    assert reconcile(wanted(endpoints()), existing, lambda: "fghij") == ([], [], existing)
