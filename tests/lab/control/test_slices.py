from collections.abc import Sequence
from itertools import count

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from moorage.api.core_v1 import ServicePort
from moorage.api.discovery_v1 import MANAGED_BY_LABEL, SERVICE_NAME_LABEL, EndpointSlice
from moorage_lab.control.slices import (
    HEADLESS_LABEL,
    MANAGED_BY,
    MAX_ENDPOINTS,
    Changes,
    reconcile,
    wanted,
)
from tests.support.lab_objects import pod, service

_numbers = count()


def suffix() -> str:
    return f"{next(_numbers):05}"


def applied(existing: Sequence[EndpointSlice], changes: Changes) -> list[EndpointSlice]:
    """What the API server has after the changes."""
    gone = {slice_.metadata.name for slice_ in [*changes.delete, *changes.update]}
    kept = [slice_ for slice_ in existing if slice_.metadata.name not in gone]
    return [*kept, *changes.update, *changes.create]


def addresses(slices: Sequence[EndpointSlice]) -> list[str]:
    return sorted(endpoint.addresses[0] for slice_ in slices for endpoint in slice_.endpoints or ())


def only(slices: Sequence[EndpointSlice]) -> EndpointSlice:
    (one,) = slices
    return one


def test_a_slice_names_its_service_its_pods_and_their_ports() -> None:
    made = reconcile(wanted(service(labels={"tier": "x"}), [pod("a", "10.244.1.2")]), [], suffix)
    slice_ = only(made.create)
    assert slice_.metadata.labels == {"tier": "x", SERVICE_NAME_LABEL: "web", MANAGED_BY_LABEL: MANAGED_BY}
    assert slice_.metadata.name.startswith("web-")
    (owner,) = slice_.metadata.owner_references or []
    assert (owner.kind, owner.name, owner.uid, owner.controller) == ("Service", "web", "uid-web", True)
    (port,) = slice_.ports or []
    assert (port.name, port.protocol, port.port) == ("", "TCP", 8080)
    (endpoint,) = slice_.endpoints or []
    assert endpoint.node_name == "node-1"
    assert endpoint.target_ref is not None
    assert (endpoint.target_ref.kind, endpoint.target_ref.name) == ("Pod", "a")


def test_an_endpoint_has_its_pod_s_host_name_in_the_slices_of_the_service_that_the_pod_names() -> None:
    of_set = pod("web-0", "10.244.1.2")
    named = replace(of_set, spec=replace(of_set.spec, hostname="web-0", subdomain="web"))
    for name, hostname in (("web", "web-0"), ("other", None)):
        (endpoint,) = only(reconcile(wanted(service(name), [named]), [], suffix).create).endpoints or []
        assert endpoint.hostname == hostname


def test_conditions_follow_readiness_and_termination() -> None:
    pods = [
        pod("a-ready", "10.244.1.2"),
        pod("b-unready", "10.244.1.3", ready=False),
        pod("c-leaving", "10.244.1.4", leaving=True),
        pod("d-failing", "10.244.1.5", leaving=True, ready=False),
    ]
    slice_ = only(reconcile(wanted(service(), pods), [], suffix).create)
    said = [(e.conditions.ready, e.conditions.serving, e.conditions.terminating) for e in slice_.endpoints or ()]
    assert said == [(True, True, False), (False, False, False), (False, True, True), (False, False, True)]
    slice_ = only(reconcile(wanted(service(publish=True), pods), [], suffix).create)
    assert {endpoint.conditions.ready for endpoint in slice_.endpoints or ()} == {True}


def test_finished_pods_others_pods_and_pods_without_address_are_left_out() -> None:
    pods = [
        pod("a", "10.244.1.2", phase="Failed"),
        pod("b", "10.244.1.3", labels={"app": "other"}),
        pod("c"),
    ]
    slice_ = only(reconcile(wanted(service(), pods), [], suffix).create)
    assert not slice_.endpoints


def test_each_family_has_its_slice() -> None:
    made = reconcile(
        wanted(service(families=("IPv4", "IPv6")), [pod("a", "10.244.1.2", "fd00::2")]), [], suffix
    ).create
    assert {slice_.address_type: addresses([slice_]) for slice_ in made} == {
        "IPv4": ["10.244.1.2"],
        "IPv6": ["fd00::2"],
    }


def test_pods_whose_named_port_differs_are_in_slices_of_their_own() -> None:
    pods = [pod("a", "10.244.1.2", port=8080), pod("b", "10.244.1.3", port=9090)]
    made = reconcile(wanted(service(), pods), [], suffix).create
    assert {(slice_.ports or [])[0].port: addresses([slice_]) for slice_ in made} == {
        8080: ["10.244.1.2"],
        9090: ["10.244.1.3"],
    }


def test_a_target_port_may_be_a_number_the_services_own_or_unknown() -> None:
    web = service(
        "web",
        ServicePort(name="b", port=80, target_port=9000),
        ServicePort(name="a", port=81),
        ServicePort(name="c", port=82, target_port="unknown"),
    )
    slice_ = only(reconcile(wanted(web, [pod("a", "10.244.1.2")]), [], suffix).create)
    assert [(port.name, port.port) for port in slice_.ports or ()] == [("a", 81), ("b", 9000)]


def test_a_headless_services_slices_say_so() -> None:
    slice_ = only(reconcile(wanted(service(cluster_ips=("None",)), []), [], suffix).create)
    assert HEADLESS_LABEL in (slice_.metadata.labels or {})


def test_nothing_is_written_when_nothing_changed() -> None:
    want = wanted(service(), [pod("a", "10.244.1.2"), pod("b", "10.244.1.3")])
    assert reconcile(want, reconcile(want, [], suffix).create, suffix) == ([], [], [])
    empty = wanted(service(), [])
    assert reconcile(empty, reconcile(empty, [], suffix).create, suffix) == ([], [], [])


def test_one_change_writes_one_slice() -> None:
    pods = [pod(f"p{number:03}", f"10.1.{number // 250}.{number % 250 + 1}") for number in range(250)]
    existing = reconcile(wanted(service(), pods), [], suffix).create
    assert sorted(len(slice_.endpoints or ()) for slice_ in existing) == [50, 100, 100]
    pods[3] = replace(pods[3], metadata=replace(pods[3].metadata, deletion_timestamp="now"))
    changes = reconcile(wanted(service(), pods), existing, suffix)
    assert [len(part) for part in changes] == [0, 1, 0]
    changes = reconcile(wanted(service(), [*pods, pod("z", "10.2.0.1")]), applied(existing, changes), suffix)
    assert [len(part) for part in changes] == [0, 1, 0]


def test_changed_labels_are_written_and_slices_of_other_ports_go() -> None:
    pods = [pod("a", "10.244.1.2")]
    existing = reconcile(wanted(service(), pods), [], suffix).create
    changes = reconcile(wanted(service(labels={"new": "label"}), pods), existing, suffix)
    assert [(slice_.metadata.labels or {})["new"] for slice_ in changes.update] == ["label"]
    changes = reconcile(wanted(service("web", ServicePort(port=80, target_port=1)), pods), existing, suffix)
    assert (len(changes.create), changes.delete) == (1, existing)


@given(st.lists(st.sets(st.integers(0, 350), max_size=350), min_size=1, max_size=5))
def test_slices_hold_exactly_the_pods_whatever_came_before(rounds: list[set[int]]) -> None:
    slices: list[EndpointSlice] = []
    for numbers in rounds:
        pods = [pod(f"p{number}", f"10.1.{number // 250}.{number % 250 + 1}") for number in numbers]
        want = wanted(service(), pods)
        slices = applied(slices, reconcile(want, slices, suffix))
        assert addresses(slices) == sorted(one.status.pod_ip or "" for one in pods)
        assert all(len(slice_.endpoints or ()) <= MAX_ENDPOINTS for slice_ in slices)
        assert len(slices) == 1 or all(slice_.endpoints for slice_ in slices)
        assert reconcile(want, slices, suffix) == ([], [], [])
