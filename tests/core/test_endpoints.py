"""From what sources found to the endpoints in use."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from moorage.api.meta import ObjectKey
from moorage.api.moorage_v1alpha1 import EndpointStatus, ExternalService, ExternalServicePort, ExternalServiceStatus
from moorage.api.sources_v1alpha1 import DnsSource, EndpointSource, StaticAddress
from moorage.core.admission import (
    API_SERVER,
    CLUSTER_IP,
    EXTERNAL_IP,
    LOAD_BALANCER,
    NODE,
    POD,
    Addresses,
    gate_of,
)
from moorage.core.endpoints import MAX_ENDPOINTS, Merged, merge, shown
from moorage.core.model import Endpoint, Found, Problem, Resolution
from testing.xsvc import GATE, HTTP, THEN, Story, endpoints, static, xsvc

B1, B2, B3 = (Found(f"b{number}", f"203.0.113.{number}") for number in (1, 2, 3))
DNS = EndpointSource(dns=DnsSource(name="db.example.com"))
DOWN = Problem("Timeout", "no answer within 5 s; see to the name server", THEN)


def known(*each: EndpointStatus, **spec: Any) -> ExternalService:
    """One whose status lists these."""
    return replace(xsvc(**spec), status=ExternalServiceStatus(endpoints=list(each)))


def status(found: Found, source: str = "dns/db.example.com", port: int | None = None) -> EndpointStatus:
    return EndpointStatus(
        name=found.name, address=found.address, source=source, health="Healthy", ready=True, port=port
    )


def names(each: tuple[Endpoint, ...]) -> list[str]:
    return [one.name for one in each]


def complaints(merged: Merged, reason: str) -> tuple[str, ...]:
    return tuple(each.message for each in merged.complaints if each.reason == reason)


def test_endpoints_of_all_sources_are_sorted_by_name() -> None:
    merged = merge(xsvc(), (Resolution("addresses", (B3, B1)), Resolution("dns/db.example.com", (B2,))), GATE)
    assert merged.endpoints == (
        Endpoint("b1", "203.0.113.1", "addresses"),
        Endpoint("b2", "203.0.113.2", "dns/db.example.com"),
        Endpoint("b3", "203.0.113.3", "addresses"),
    )
    assert merged.complaints == ()


def test_weight_priority_and_zone_are_kept() -> None:
    found = B1._replace(weight=3, priority=10, zone="eu-1a")
    (endpoint,) = merge(xsvc(), (Resolution("dns/x", (found,)),), GATE).endpoints
    assert (endpoint.weight, endpoint.priority, endpoint.zone) == (3, 10, "eu-1a")


@pytest.mark.parametrize(("given_port", "used"), [(None, None), (8080, 8080), (80, None)])
def test_a_port_of_its_own_is_one_that_is_not_the_target_port(given_port: int | None, used: int | None) -> None:
    (endpoint,) = merge(xsvc(), (Resolution("addresses", (B1._replace(port=given_port),)),), GATE).endpoints
    assert endpoint.port == used


def test_with_several_ports_no_endpoint_has_one_of_its_own() -> None:
    several = xsvc(ports=[HTTP, ExternalServicePort(name="https", port=443)])
    (endpoint,) = merge(several, (Resolution("dns/x", (B1._replace(port=8080),)),), GATE).endpoints
    assert endpoint.port is None


# --- refused ------------------------------------------------------------------------------------------------------


def test_a_refused_address_is_left_out_and_named_by_its_field() -> None:
    service = xsvc(endpoints=[DNS, *static(StaticAddress(address="203.0.113.1"), StaticAddress(address="127.0.0.1"))])
    resolutions = Resolution("dns/db.example.com", ()), Resolution("addresses", (B1, Found("127-0-0-1", "127.0.0.1")))
    merged = merge(service, resolutions, GATE)
    assert names(merged.endpoints) == ["b1"]
    assert complaints(merged, "AddressRefused") == (
        "spec.endpoints[1].addresses[1].address: 127.0.0.1 is a loopback address; endpoints must be outside this "
        "cluster",
    )


def test_an_answer_that_is_refused_is_named_by_its_source() -> None:
    merged = merge(
        xsvc(endpoints=[DNS]), (Resolution("dns/db.example.com", (Found("x", "169.254.169.254"), B1)),), GATE
    )
    assert complaints(merged, "AddressRefused") == (
        "spec.endpoints[0]: 169.254.169.254 (x of dns/db.example.com) is a cloud metadata address; endpoints must be "
        "outside this cluster",
    )


@pytest.mark.parametrize("name", ["", "B1", "a.b", "-a", "a-", "a" * 64, "b_1", "b1\n"])
def test_a_name_that_no_slice_could_carry_is_refused(name: str) -> None:
    merged = merge(xsvc(), (Resolution("cluster/backend", (Found(name, "203.0.113.9"), B1)),), GATE)
    assert names(merged.endpoints) == ["b1"]
    assert "no DNS label" in complaints(merged, "AddressRefused")[0]


# --- conflicts ----------------------------------------------------------------------------------------------------


def test_the_first_of_two_with_one_name_is_used() -> None:
    twice = Resolution("addresses", (B1,)), Resolution("dns/db.example.com", (Found("b1", "203.0.113.9"),))
    merged = merge(xsvc(), twice, GATE)
    assert merged.endpoints == (Endpoint("b1", "203.0.113.1", "addresses"),)
    assert complaints(merged, "EndpointConflict") == (
        "spec.endpoints[1]: 203.0.113.9 has the name b1 of 203.0.113.1, which is used; give each its own name",
    )


def test_the_first_of_two_at_one_address_and_port_is_used() -> None:
    twice = Resolution("addresses", (B1,)), Resolution("dns/db.example.com", (Found("other", "203.0.113.1", 80),))
    merged = merge(xsvc(), twice, GATE)
    assert names(merged.endpoints) == ["b1"]
    assert complaints(merged, "EndpointConflict") == (
        "spec.endpoints[1]: other is at 203.0.113.1, as is b1, which is used; leave one out",
    )


def test_two_ports_of_one_address_are_two_endpoints() -> None:
    merged = merge(xsvc(), (Resolution("addresses", (B1, Found("other", "203.0.113.1", 8080))),), GATE)
    assert names(merged.endpoints) == ["b1", "other"]
    assert complaints(merged, "EndpointConflict") == ()


def test_the_same_endpoint_from_two_sources_is_no_conflict() -> None:
    merged = merge(xsvc(), (Resolution("addresses", (B1,)), Resolution("dns/db.example.com", (B1,))), GATE)
    assert (names(merged.endpoints), complaints(merged, "EndpointConflict")) == (["b1"], ())


def test_no_claim_of_a_service_ends_an_endpoint_that_is_in_use() -> None:
    own = Addresses()
    gate = gate_of(own=own)
    own.put(EXTERNAL_IP, ObjectKey("other", "claims"), [B1.address, B2.address])
    source = (Resolution("dns/db.example.com", (B1, B2)),)
    merged = merge(known(status(B1), status(B2._replace(address="203.0.113.9"))), source, gate)
    assert names(merged.endpoints) == ["b1"]
    assert complaints(merged, "EndpointConflict") == (
        f"spec.endpoints[0]: 203.0.113.1 (b1 of dns/db.example.com) is {EXTERNAL_IP} by now; it stays in use",
    )
    assert [each.partition(" is ")[0] for each in complaints(merged, "AddressRefused")] == [
        "spec.endpoints[0]: 203.0.113.2 (b2 of dns/db.example.com)"
    ]
    for kind in (POD, NODE, CLUSTER_IP, LOAD_BALANCER, API_SERVER):
        own.put(kind, ObjectKey("other", "is"), [B1.address])
        assert merge(known(status(B1)), source, gate).endpoints == ()
        own.put(kind, ObjectKey("other", "is"), [])


# --- more than there can be -----------------------------------------------------------------------------------------


def many(first: int, count: int) -> tuple[Found, ...]:
    return tuple(Found(f"e{n:05}", f"198.18.{n // 250}.{n % 250 + 1}") for n in range(first, first + count))


def test_of_too_many_endpoints_the_first_ones_are_used_and_it_is_said_of_the_others() -> None:
    sources = Resolution("dns/a", many(500, MAX_ENDPOINTS - 1)), Resolution("dns/b", many(0, 5))
    merged = merge(xsvc(), sources, GATE)
    assert names(merged.endpoints) == ["e00000", *(each.name for each in many(500, MAX_ENDPOINTS - 1))]
    assert complaints(merged, "TooManyEndpoints") == (
        "spec.endpoints: there are more than 1000 endpoints; left out are e00001, e00002, e00003 and 1 more: narrow "
        "the sources, or divide them among several ExternalServices",
    )
    assert merge(xsvc(), (sources[0], Resolution("dns/b", many(0, 1))), GATE).complaints == ()


def test_what_is_found_twice_or_refused_is_not_too_much() -> None:
    refusing = gate_of(refuse=["198.18.0.0/24"])
    twice = (
        Resolution("dns/a", many(250, MAX_ENDPOINTS)),
        Resolution("dns/b", many(0, 250) + many(250, MAX_ENDPOINTS)),
    )
    merged = merge(xsvc(), twice, refusing)
    assert (len(merged.endpoints), complaints(merged, "TooManyEndpoints")) == (MAX_ENDPOINTS, ())
    assert len(complaints(merged, "AddressRefused")) == 250


def test_endpoints_in_use_are_not_pushed_out_by_others() -> None:
    last = many(5000, 2)
    before = known(status(last[0]))
    sources = (
        Resolution("dns/db.example.com", (*many(0, MAX_ENDPOINTS), *last)),
        Resolution("dns/other", many(2000, 3)),
    )
    slices = Story(xsvc())
    slices.step((Endpoint(*last[1][:2], "dns/db.example.com"),))
    used = replace(before, metadata=slices.xsvc.metadata)
    merged = merge(used, sources, GATE, slices.cluster.slices)
    assert names(merged.endpoints)[-2:] == [each.name for each in last]
    assert len(merged.endpoints) == MAX_ENDPOINTS
    assert merge(used, sources, GATE, slices.cluster.slices) == merged


def test_no_more_is_looked_at_than_is_needed_however_much_is_refused() -> None:
    asked = []

    class Counting:
        def refusal(self, address: str) -> str | None:
            asked.append(address)
            return "no"

    merge(xsvc(), (Resolution("dns/a", many(0, 16 * MAX_ENDPOINTS)),), Counting())
    assert len(asked) <= 2 * MAX_ENDPOINTS


# --- sources that have not answered -------------------------------------------------------------------------------


def test_a_source_that_has_not_answered_keeps_what_it_had() -> None:
    before = known(status(B1), status(B2, "addresses"), status(B3, port=8080), endpoints=[DNS])
    merged = merge(before, (Resolution("dns/db.example.com", None, DOWN),), GATE)
    assert merged.endpoints == (
        Endpoint("b1", "203.0.113.1", "dns/db.example.com"),
        Endpoint("b3", "203.0.113.3", "dns/db.example.com", 8080),
    )


def test_what_is_kept_has_the_weight_the_priority_and_the_zone_that_it_had() -> None:
    srv = Endpoint("b1", "203.0.113.1", "dns/db.example.com", weight=3, priority=10, zone="eu-1a")
    before = known(replace(status(B1), weight=3, priority=10, zone="eu-1a"), endpoints=[DNS])
    assert merge(before, (Resolution("dns/db.example.com", None, DOWN),), GATE).endpoints == (srv,)


def test_an_empty_answer_removes() -> None:
    merged = merge(known(status(B1), endpoints=[DNS]), (Resolution("dns/db.example.com", ()),), GATE)
    assert merged.endpoints == ()


def test_a_failing_source_that_has_answered_counts_as_it_answered_last() -> None:
    resolutions = (Resolution("dns/db.example.com", (B2,), DOWN),)
    assert names(merge(known(status(B1), endpoints=[DNS]), resolutions, GATE).endpoints) == ["b2"]


def test_what_is_kept_yields_in_silence_to_what_is_found() -> None:
    service = known(status(B1), status(B2), endpoints=[DNS, *static(StaticAddress(address="203.0.113.9", name="b1"))])
    resolutions = Resolution("dns/db.example.com", None), Resolution("addresses", (Found("b1", "203.0.113.9"),))
    merged = merge(service, resolutions, GATE)
    assert [(each.name, each.address) for each in merged.endpoints] == [("b1", "203.0.113.9"), ("b2", "203.0.113.2")]
    assert complaints(merged, "EndpointConflict") == ()


def test_what_is_kept_passes_the_gate_again() -> None:
    refusing = gate_of(refuse=["203.0.113.0/30"])
    merged = merge(known(status(B1), endpoints=[DNS]), (Resolution("dns/db.example.com", None),), refusing)
    assert merged.endpoints == ()
    assert "203.0.113.0/30" in complaints(merged, "AddressRefused")[0]


def test_a_source_that_was_replaced_by_one_that_cannot_be_read_does_not_empty_the_service() -> None:
    replaced = known(status(B1, "dns/old.example.com"), endpoints=[DNS])
    assert names(merge(replaced, (Resolution("dns/db.example.com", None, DOWN),), GATE).endpoints) == ["b1"]


def test_a_source_that_was_taken_out_is_gone_where_another_has_endpoints() -> None:
    service = known(status(B1, "dns/old.example.com"), endpoints=[*static(StaticAddress(address="203.0.113.2")), DNS])
    resolutions = Resolution("addresses", (B2,)), Resolution("dns/db.example.com", None)
    assert names(merge(service, resolutions, GATE).endpoints) == ["b2"]


def test_before_the_sources_are_asked_everything_stays() -> None:
    service = known(status(B1), status(B2, "addresses"), endpoints=[DNS, *static(StaticAddress(address="192.0.2.1"))])
    assert names(merge(service, (), GATE).endpoints) == ["b1", "b2"]
    assert names(merge(service, (Resolution("addresses", (B3,)),), GATE).endpoints) == ["b1", "b3"]


def test_endpoints_whose_status_was_never_written_are_kept_from_the_slices() -> None:
    story = Story(xsvc(endpoints=[DNS]))
    before = story.xsvc
    story.step(endpoints(2, port=8080))
    merged = merge(before, (Resolution("dns/db.example.com", None),), GATE, story.cluster.slices)
    assert [each[:4] for each in merged.endpoints] == [
        ("b0001", "198.18.0.1", "dns/db.example.com", 8080),
        ("b0002", "198.18.0.2", "dns/db.example.com", 8080),
    ]


def test_an_endpoint_that_the_status_does_not_list_yet_is_kept_beside_those_that_it_does() -> None:
    story = Story(xsvc(endpoints=[DNS]))
    story.step(endpoints(1))
    status_before = story.xsvc.status
    story.step(endpoints(2))
    story.xsvc = replace(story.xsvc, status=replace(status_before, endpoints=[status(B1, "dns/db.example.com")]))
    merged = merge(story.xsvc, (Resolution("dns/db.example.com", None),), GATE, story.cluster.slices)
    assert names(merged.endpoints) == ["b0001", "b0002", "b1"]


def test_slices_of_others_are_no_source() -> None:
    story = Story(xsvc(uid="00000000-0000-4000-8000-000000000009"))
    story.step(endpoints(2))
    assert merge(xsvc(endpoints=[DNS]), (Resolution("dns/x", None),), GATE, story.cluster.slices).endpoints == ()


SOME = st.builds(
    Found,
    st.sampled_from(["b1", "b2", "b3", "B!"]),
    st.sampled_from(["203.0.113.1", "203.0.113.2", "2001:db8::1", "127.0.0.1"]),
    st.sampled_from([None, 80, 8080]),
)
SOURCES = st.lists(
    st.builds(Resolution, st.sampled_from(["addresses", "dns/a", "dns/b"]), st.none() | st.lists(SOME).map(tuple))
)
STATUS = st.lists(
    st.builds(status, SOME, st.sampled_from(["addresses", "dns/a", "dns/c"])), unique_by=lambda e: e.name
)


@given(SOURCES, STATUS)
def test_no_two_have_a_name_or_an_address_and_port_in_common_and_none_is_refused(
    resolutions: list[Resolution], before: list[EndpointStatus]
) -> None:
    service = known(*before, endpoints=[DNS] * len(resolutions))
    merged = merge(service, resolutions, GATE)
    assert list(merged.endpoints) == sorted(merged.endpoints)
    assert len({each.name for each in merged.endpoints}) == len(merged.endpoints)
    assert len({(each.address, each.port) for each in merged.endpoints}) == len(merged.endpoints)
    assert not any(GATE.refusal(each.address) for each in merged.endpoints)
    # What is written as status is what the same sources lead to again.
    listed = [
        EndpointStatus(name=e.name, address=e.address, source=e.source, health="Unknown", ready=False, port=e.port)
        for e in merged.endpoints
    ]
    again = merge(known(*listed, endpoints=[DNS] * len(resolutions)), resolutions, GATE)
    assert again.endpoints == merged.endpoints


@pytest.mark.parametrize(
    ("address", "port", "text"),
    [
        ("203.0.113.11", None, "203.0.113.11"),
        ("203.0.113.11", 80, "203.0.113.11:80"),
        ("2001:db8::11", 80, "[2001:db8::11]:80"),
        ("2001:db8::11", None, "2001:db8::11"),
    ],
)
def test_address_and_port_are_shown_as_in_a_url(address: str, port: int | None, text: str) -> None:
    assert shown(address, port) == text


def test_what_the_gate_refuses_is_left_out_by_name() -> None:
    inside = Found("db1", "127.0.0.1")
    assert merge(xsvc(), (Resolution("dns/x", (B1, inside)),), GATE).refused == {"db1": "127.0.0.1"}


def test_one_that_is_leaving_is_known_as_such_from_the_status_too() -> None:
    (found,) = merge(xsvc(), (Resolution("dns/x", (B1._replace(leaving=True),)),), GATE).endpoints
    assert found.leaving
    before = known(replace(status(B1), leaving=True), endpoints=[DNS])
    (kept,) = merge(before, (Resolution("dns/db.example.com", None),), GATE).endpoints
    assert kept.leaving
