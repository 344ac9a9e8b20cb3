"""Where pods are led, for each thing that may be said of pods, Moorings and Services."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.api.contract import MooredBy
from moorage.api.core_v1 import Pod, PodIP, PodSpec, PodStatus
from moorage.api.meta import LabelSelector, LabelSelectorRequirement, ObjectKey, ObjectMeta, OwnerReference
from moorage.api.moorings_v1alpha1 import Mooring, MooringClient, MooringSpec, MooringStatus
from moorage.core.clients import Owners
from moorage.core.mooring_model import ClientKey
from moorage.dataplane.model import MooringKey, ServiceAddress, Target
from moorage.dataplane.services import At
from moorage.node import moorings as module
from moorage.node.moorings import GroupClient, Led, PodMoorings, addresses_of, at, led

HTTP = ServiceAddress("10.96.0.1", "tcp", 9000)
SIX = ServiceAddress("fd00::1", "tcp", 9000)
E1, E2 = Target("203.0.113.1", 80), Target("203.0.113.2", 80)
ENDPOINTS = {"e1": E1, "e2": E2}
FRONTENDS = LabelSelector(match_labels={"app": "frontend"})
BY_POD = MooredBy("backend", "Pod", pods=FRONTENDS)
TENANT = "example.com/tenant"


def pod(name: str, *addresses: str, namespace: str = "frontend", created: int = 0, **more: Any) -> Pod:
    """`going`, `host_network`, `phase`, `by` and `labels` say more of it."""
    ips = [PodIP(ip=each) for each in addresses]
    return Pod(
        metadata=ObjectMeta(
            name=name,
            namespace=namespace,
            uid=f"uid-{name}",
            creation_timestamp=f"2026-01-01T00:00:{created:02}Z",
            deletion_timestamp="2026-01-01T00:01:00Z" if more.get("going") else None,
            labels={"app": "frontend", **more.get("labels", {})},
            owner_references=[more["by"]] if more.get("by") else None,
        ),
        spec=PodSpec(node_name="n1", host_network=more.get("host_network")),
        status=PodStatus(phase=more.get("phase", "Running"), pod_ip=addresses[0] if addresses else None, pod_ips=ips),
    )


def mooring(client: str, wanted: str, kind: str = "Pod", group: str = "backend", **status: Any) -> Mooring:
    """As the operator has written it; `wanted` is the endpoint in its spec."""
    return Mooring(
        metadata=ObjectMeta(name=f"{group}.{client.lower()}", namespace="frontend"),
        spec=MooringSpec(group=group, client=MooringClient(kind=kind, name=client), endpoint=wanted),
        status=MooringStatus(**{"endpoint": wanted, "reason": "Assigned"} | status),
    )


def service(by: MooredBy = BY_POD) -> PodMoorings:
    return PodMoorings(ObjectKey("frontend", "backend"), by, {HTTP: ENDPOINTS})


def lead(
    pods: Iterable[Pod],
    moorings: Iterable[Mooring],
    *services: PodMoorings,
    others: Sequence[Pod] = (),
    owners: Owners = Owners(),  # noqa: B008
) -> Led:
    """`others` are pods of this node in other namespaces."""
    pods, moorings = list(pods), list(moorings)

    def of(client: GroupClient) -> list[Mooring]:
        return [
            each
            for each in moorings
            if (each.spec.group, each.spec.client.kind, each.spec.client.name) == (client.group, *client.client)
        ]

    def sharing(address: str) -> list[Pod]:
        return [each for each in (*pods, *others) if address in addresses_of(each)]

    return led("frontend", services or [service()], pods, sharing, of, owners)


def where(found: Led) -> dict[str, str]:
    """Address of a client -> address of its endpoint."""
    return {each.key.client: each.target.address for each in found.targets}


def test_a_pod_goes_to_the_endpoint_that_it_is_moored_to_and_one_without_a_mooring_anywhere() -> None:
    found = lead([pod("a", "10.244.1.2"), pod("b", "10.244.1.3")], [mooring("a", "e2")])
    assert [(each.key, each.target) for each in found.targets] == [(MooringKey("10.244.1.2", HTTP), E2)]
    assert found.clients == {
        GroupClient("backend", ClientKey("Pod", "a")): {"uid-a"},
        GroupClient("backend", ClientKey("Pod", "b")): {"uid-b"},
    }
    assert found.warnings == ()


def test_a_pod_without_an_address_is_a_client_and_is_led_nowhere() -> None:
    found = lead([pod("a")], [mooring("a", "e1")])
    assert found.targets == ()
    assert len(found.clients) == 1


def test_an_endpoint_that_does_not_serve_leads_nobody() -> None:
    assert where(lead([pod("a", "10.244.1.2")], [mooring("a", "e3")])) == {}


def test_each_address_is_led_on_the_ports_of_its_family() -> None:
    six = {"e1": Target("2001:db8::1", 80)}
    udp = HTTP._replace(protocol="udp")
    dual = service()._replace(serving={HTTP: ENDPOINTS, udp: {"e1": E1}, SIX: six})
    found = lead([pod("a", "10.244.1.2", "FD00:0::2")], [mooring("a", "e1")], dual)
    assert {each.key: each.target for each in found.targets} == {
        MooringKey("10.244.1.2", HTTP): E1,
        MooringKey("10.244.1.2", udp): E1,
        MooringKey("fd00::2", SIX): six["e1"],
    }
    # An endpoint has one address, as a rule: by the other family there is nowhere to be led.
    assert {each.key.service for each in lead([pod("a", "fd00::2")], [mooring("a", "e2")], dual).targets} == set()


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_finished_is_led_nowhere_and_its_address_is_the_next_ones(phase: str) -> None:
    old, new = pod("old", "10.244.1.2", phase=phase, created=9), pod("new", "10.244.1.2")
    found = lead([old, new], [mooring("old", "e1"), mooring("new", "e2")])
    assert where(found) == {"10.244.1.2": "203.0.113.2"}
    assert found.warnings == ()
    assert lead([old], [mooring("old", "e1")]) == Led(clients={})


def test_a_pod_that_is_ending_is_led_until_it_has_ended() -> None:
    assert where(lead([pod("a", "10.244.1.2", going=True)], [mooring("a", "e1")])) == {"10.244.1.2": "203.0.113.1"}


def test_an_address_of_two_pods_is_that_of_the_newer_and_a_line_says_so() -> None:
    old, new = pod("old", "10.244.1.2", created=1), pod("new", "10.244.1.2", created=2)
    for pods in ([old, new], [new, old]):
        found = lead(pods, [mooring("old", "e1"), mooring("new", "e2")])
        assert where(found) == {"10.244.1.2": "203.0.113.2"}
        assert found.warnings == (
            "Pod frontend/old is not led to where it is moored: Pod frontend/new, which is newer, has its address "
            "10.244.1.2, too",
        )


def test_an_address_is_that_of_a_pod_that_stays_and_not_of_one_that_is_ending() -> None:
    going, staying = pod("going", "10.244.1.2", created=2, going=True), pod("staying", "10.244.1.2", created=1)
    found = lead([going, staying], [mooring("going", "e1"), mooring("staying", "e2")])
    assert where(found) == {"10.244.1.2": "203.0.113.2"}


def test_an_address_that_a_newer_pod_of_another_namespace_has_is_not_led() -> None:
    other = pod("other", "10.244.1.2", namespace="elsewhere", created=1)
    found = lead([pod("a", "10.244.1.2", "fd00::2")], [mooring("a", "e1")], others=[other])
    assert where(found) == {}
    assert "Pod elsewhere/other, which is newer" in found.warnings[0]


def test_pods_in_the_hosts_network_are_the_node_and_share_its_address_in_silence() -> None:
    hosts = [pod(name, "192.0.2.1", host_network=True) for name in ("h1", "h2")]
    others = [pod("of-another-namespace", "192.0.2.1", namespace="kube-system", host_network=True, created=9)]
    found = lead(hosts, [mooring("n1", "e2", "Node"), mooring("h1", "e1")], others=others)
    assert where(found) == {"192.0.2.1": "203.0.113.2"}
    assert found.warnings == ()
    assert found.clients == {GroupClient("backend", ClientKey("Node", "n1")): {"uid-h1", "uid-h2"}}


def test_nobody_takes_the_address_of_a_node_by_claiming_it() -> None:
    host, forged = pod("host", "192.0.2.1", host_network=True), pod("forged", "192.0.2.1", created=9)
    found = lead([host, forged], [mooring("n1", "e2", "Node"), mooring("forged", "e1")])
    assert where(found) == {"192.0.2.1": "203.0.113.2"}
    assert "Pod frontend/host, which is in its host's network" in found.warnings[0]


def test_only_pods_that_are_selected_are_clients() -> None:
    by = BY_POD._replace(
        pods=LabelSelector(match_expressions=[LabelSelectorRequirement(key="batch", operator="DoesNotExist")])
    )
    pods = [pod("a", "10.244.1.2"), pod("b", "10.244.1.3", labels={"batch": "yes"})]
    found = lead(pods, [mooring("a", "e1"), mooring("b", "e1")], service(by))
    assert where(found) == {"10.244.1.2": "203.0.113.1"}


def test_pods_with_one_value_of_the_label_go_where_it_is_moored() -> None:
    by = MooredBy("backend", "Label", TENANT, FRONTENDS)
    pods = [pod(f"p{n}", f"10.244.1.{n}", labels={TENANT: value}) for n, value in ((2, "a"), (3, "a"), (4, "b"))]
    found = lead(pods, [mooring("a", "e1", "Label"), mooring("b", "e2", "Label")], service(by))
    assert where(found) == {"10.244.1.2": E1.address, "10.244.1.3": E1.address, "10.244.1.4": E2.address}


def test_a_workload_is_led_as_soon_as_it_is_known() -> None:
    by = MooredBy("backend", "Workload", pods=FRONTENDS)
    made = OwnerReference(api_version="apps/v1", kind="ReplicaSet", name="web-1", uid="rs", controller=True)
    deployment = OwnerReference(api_version="apps/v1", kind="Deployment", name="web", uid="d", controller=True)
    pods = [pod(f"web-1-{n}", f"10.244.1.{n}", by=made) for n in (2, 3)]
    moored = [mooring("Deployment/web", "e2", "Workload")]
    unknown = lead(pods, moored, service(by))
    assert (where(unknown), unknown.clients) == ({}, {})
    known = lead(pods, moored, service(by), owners=Owners({("ReplicaSet", "web-1"): deployment}))
    assert where(known) == {"10.244.1.2": E2.address, "10.244.1.3": E2.address}


def test_services_of_one_group_share_moorings_and_those_of_others_have_their_own() -> None:
    ports = [HTTP._replace(port=port) for port in (1, 2, 3)]
    mine = [
        PodMoorings(ObjectKey("frontend", f"s{n}"), BY_POD._replace(group=group), {port: ENDPOINTS})
        for n, (group, port) in enumerate(zip(("db", "db", "cache"), ports, strict=True))
    ]
    moored = [mooring("a", "e1", group="db"), mooring("a", "e2", group="cache")]
    found = lead([pod("a", "10.244.1.2")], moored, *mine)
    assert [each.target for each in found.targets] == [E1, E1, E2]


def test_of_several_moorings_of_a_client_the_recorded_one_counts() -> None:
    by_hand = Mooring(metadata=ObjectMeta(name="A", namespace="frontend"), spec=mooring("a", "e2").spec)
    assert where(lead([pod("a", "10.244.1.2")], [by_hand, mooring("a", "e1")])) == {"10.244.1.2": E1.address}
    assert where(lead([pod("a", "10.244.1.2")], [by_hand])) == {"10.244.1.2": E2.address}


def test_an_edit_is_followed_before_the_operator_has_recorded_it() -> None:
    edited = mooring("a", "e2", endpoint="e1")
    assert where(lead([pod("a", "10.244.1.2")], [edited])) == {"10.244.1.2": E2.address}


def test_a_client_stays_where_it_is_recorded_if_the_endpoint_that_a_person_wants_does_not_serve() -> None:
    edited = mooring("a", "e3", endpoint="e1")
    assert where(lead([pod("a", "10.244.1.2")], [edited])) == {"10.244.1.2": E1.address}
    assert where(lead([pod("a", "10.244.1.2")], [mooring("a", "e3", endpoint="e4")])) == {}


def test_an_edit_that_the_operator_has_refused_is_not_followed() -> None:
    refused = mooring("a", "e2", endpoint="e1", message="spec.endpoint: e2 is drained, to be empty by then")
    assert where(lead([pod("a", "10.244.1.2")], [refused])) == {"10.244.1.2": E1.address}


def test_a_wish_is_followed_on_each_port_where_its_endpoint_serves() -> None:
    """Services of a group may have endpoints of their own; so has each family."""
    other = HTTP._replace(port=9001)
    found = lead(
        [pod("a", "10.244.1.2")],
        [mooring("a", "e2", endpoint="e1")],
        service()._replace(serving={HTTP: ENDPOINTS, other: {"e1": E1}}),
    )
    assert {each.key.service.port: each.target for each in found.targets} == {9000: E2, 9001: E1}


@pytest.mark.parametrize("address", ["", "None", "10.244.1.2.", "fe80::1%eth0", "x" * 300])
def test_what_is_no_address_leads_nobody(address: str) -> None:
    assert lead([pod("a", address, "010.244.1.2")], [mooring("a", "e1")]).targets == (
        lead([pod("a", "10.244.1.2")], [mooring("a", "e1")]).targets
    )


# --- bounds -------------------------------------------------------------------------------------------------------


def test_a_namespace_with_too_many_pods_and_ports_is_led_in_part_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PAIRS_OF_NAMESPACE", 6)
    services = [
        PodMoorings(ObjectKey("frontend", f"s{n}"), BY_POD, {HTTP._replace(port=n): ENDPOINTS}) for n in (1, 2, 3)
    ]
    pods = [pod(name, f"10.244.1.{n}") for n, name in enumerate("abc")]
    moored = [mooring(name, "e1") for name in "abc"]
    found = lead(pods, moored, *services[::-1])
    assert {each.key.service.port for each in found.targets} == {1, 2}
    assert len(found.targets) == 6
    assert re.search("more than 6 pairs .* from Service frontend/s3 on", found.warnings[0])
    assert lead(pods, moored, *services[:2]).warnings == ()


def test_services_without_ports_count_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PAIRS_OF_NAMESPACE", 6)
    services = [PodMoorings(ObjectKey("frontend", f"s{n}"), BY_POD, {}) for n in range(7)]
    assert len(lead([pod("a", "10.244.1.2")], [], *services).warnings) == 1


def test_warnings_are_no_more_than_a_person_reads() -> None:
    pods = [pod(f"p{n}", "10.244.1.2", created=n) for n in range(50)]
    assert len(lead(pods, []).warnings) == 11


# --- nodes and zones ----------------------------------------------------------------------------------------------


def test_a_node_is_led_by_its_mooring() -> None:
    assert at([]) == ()
    assert at([mooring("n1", "e1", "Node")]) == (At("e1"),)


@pytest.mark.parametrize(
    ("reason", "left"), [("Moved", "e2"), ("Drained", "e2"), ("Returned", "e2"), ("FailedOver", ""), ("Assigned", "")]
)
def test_a_node_that_was_moved_by_intent_leaves_its_connections(reason: str, left: str) -> None:
    """One that failed over has lost them already, or keeps them: its old endpoint may serve again."""
    assert at([mooring("n1", "e1", "Node", reason=reason, previous="e2")]) == (At("e1", left),)


def test_a_node_whose_mooring_is_edited_leaves_its_connections_before_and_after_that_is_recorded() -> None:
    edited = mooring("n1", "e1", "Node", endpoint="e2", reason="Returned", previous="e3")
    assert at([edited]) == (At("e1", left="e2"), At("e2", left="e3"))
    recorded = mooring("n1", "e1", "Node", reason="Moved", previous="e2")
    assert at([recorded]) == (At("e1", left="e2"),)
    by_hand = Mooring(metadata=ObjectMeta(name="by-hand"), spec=mooring("n1", "e1", "Node").spec)
    assert at([by_hand]) == (At("e1"),)


# --- whatever there is --------------------------------------------------------------------------------------------

addresses = st.lists(
    st.sampled_from(["10.244.1.2", "10.244.1.3", "fd00::2", "192.0.2.1", "x"]), max_size=3, unique=True
)
pods_ = st.builds(
    lambda name, given, created, host, going, phase: pod(
        name, *given, created=created, host_network=host, going=going, phase=phase
    ),
    st.sampled_from("abcdef"),
    addresses,
    st.integers(0, 3),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["Pending", "Running", "Failed"]),
)
moorings_ = st.builds(
    mooring,
    st.sampled_from(["a", "b", "c", "d", "n1"]),
    st.sampled_from(["e1", "e2", "e3"]),
    st.sampled_from(["Pod", "Node"]),
    endpoint=st.sampled_from([None, "e1", "e2", "e3"]),
    message=st.sampled_from([None, "refused"]),
)


@given(st.lists(pods_, unique_by=lambda each: each.metadata.name), st.lists(moorings_, max_size=6), st.randoms())
def test_each_address_is_led_for_one_client_whatever_the_order(
    pods: list[Pod], moored: list[Mooring], random: Any
) -> None:
    dual = service()._replace(serving={HTTP: ENDPOINTS, SIX: {"e1": Target("2001:db8::1", 80)}})
    found = lead(pods, moored, dual)
    random.shuffle(pods)
    assert set(lead(pods, moored, dual).targets) == set(found.targets)
    assert len({each.key for each in found.targets}) == len(found.targets)
    living = [each for each in pods if not each.status.finished]
    for each in found.targets:
        assert each.key.client in {address for one in living for address in addresses_of(one)}
        assert each.key.family == (6 if ":" in each.key.client else 4) == (6 if ":" in each.target.address else 4)
