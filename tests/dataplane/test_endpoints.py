"""EndpointSlices to endpoints, whatever the slices hold."""

import itertools

import msgspec
import pytest

from moorage.api.contract import WEIGHTS_ANNOTATION
from moorage.api.discovery_v1 import EndpointSlice
from moorage.dataplane import endpoints as endpoints_module
from moorage.dataplane.endpoints import NOTHING, SliceEndpoint, best, fault, needed, read
from moorage.dataplane.model import Target

PORT = ("", "TCP")
ADDRESS = "192.0.2.7"


def slice_(*given: object, name: str = "s", family: str = "IPv4", port: object = 80) -> EndpointSlice:
    metadata = {"name": name, "namespace": "n"}
    body = {"metadata": metadata, "addressType": family, "ports": [{"port": port}], "endpoints": list(given)}
    return msgspec.convert(body, EndpointSlice)


def entry(address: str = ADDRESS, conditions: object = None) -> dict[str, object]:
    return {"addresses": [address], "conditions": conditions or {}}


def found(*slices: EndpointSlice, family: str = "IPv4") -> tuple[dict[Target, SliceEndpoint], list[str]]:
    warnings: dict[str, None] = {}
    return best(read("n/service", slices, warnings).get(family, NOTHING), PORT), list(warnings)


ORDERED = [
    {"ready": False, "serving": False, "terminating": False},
    {"ready": False, "serving": False, "terminating": True},
    {"ready": False, "serving": True, "terminating": False},
    {"ready": False, "serving": True, "terminating": True},
    {"ready": True},
]
"""Conditions, each of which takes more connections than those before it."""


@pytest.mark.parametrize(("less", "more"), list(itertools.combinations(ORDERED, 2)))
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("apart", [False, True])
def test_an_address_that_is_listed_twice_counts_by_its_readiest_entry(
    less: dict[str, bool], more: dict[str, bool], turned: bool, apart: bool
) -> None:
    entries = [entry(conditions=less), entry(conditions=more)]
    if turned:
        entries.reverse()
    slices = [slice_(each, name=f"s{n}") for n, each in enumerate(entries)] if apart else [slice_(*entries)]
    ((_, each),) = found(*slices)[0].items()
    alone = found(slice_(entry(conditions=more)))[0][Target(ADDRESS, 80)]
    assert each == alone


@pytest.mark.parametrize("turned", [False, True])
def test_of_entries_that_take_alike_the_one_of_the_slice_whose_name_comes_first_counts(turned: bool) -> None:
    slices = [slice_({**entry(), "hostname": name}, name=name) for name in ("a", "b")]
    if turned:
        slices.reverse()
    assert [each.hostname for each in found(*slices)[0].values()] == ["a"]


@pytest.mark.parametrize("port", [-1, 65536, 10**12])
def test_a_slice_with_a_port_that_cannot_be_is_left_out_and_the_others_count(port: int) -> None:
    bad = slice_(entry("192.0.2.8"), name="bad", port=port)
    assert fault(bad) == f"ports[0].port: {port} is not from 1 to 65535"
    targets, warnings = found(bad, slice_(entry()))
    assert list(targets) == [Target(ADDRESS, 80)]
    assert warnings == [
        f"EndpointSlice n/bad: ports[0].port: {port} is not from 1 to 65535; nothing of it is carried"
    ]


@pytest.mark.parametrize("port", [None, 0])
def test_a_port_without_a_number_is_none_and_no_fault(port: int | None) -> None:
    assert fault(slice_(entry(), port=port)) is None
    assert found(slice_(entry(), port=port)) == ({}, [])


@pytest.mark.parametrize(
    ("family", "written", "address"),
    [
        ("IPv4", "192.000.02.007", ADDRESS),
        ("IPv4", "::ffff:192.0.2.7", ADDRESS),
        ("IPv6", "2001:DB8::0001", "2001:db8::1"),
        ("IPv6", "::192.0.2.7", "::c000:207"),
    ],
)
def test_an_address_is_read_as_kubernetes_reads_it(family: str, written: str, address: str) -> None:
    assert list(found(slice_(entry(written), family=family), family=family)[0]) == [Target(address, 80)]


@pytest.mark.parametrize(
    ("family", "written"),
    [("IPv4", "2001:db8::1"), ("IPv6", ADDRESS), ("IPv6", "::ffff:192.0.2.7")],
)
def test_an_address_of_the_other_family_is_left_out(family: str, written: str) -> None:
    targets, (warning,) = found(slice_(entry(written), family=family), family=family)
    assert targets == {}
    assert warning.endswith(f"is left out: it is not an {family} address, as the addressType says (EndpointSlice s)")


@pytest.mark.parametrize("written", ["2001:db8::1%eth0", "2001:db8::1%x . 80 }\nadd table inet other", "\n", ""])
def test_text_that_is_no_address_reaches_nobody_as_it_is(written: str) -> None:
    targets, (warning,) = found(slice_(entry(written), family="IPv6"), family="IPv6")
    assert targets == {}
    assert warning.isprintable()


@pytest.mark.parametrize(
    ("slices", "empty"),
    [
        ([slice_()], True),
        ([slice_(entry("x")), slice_(name="t")], True),
        ([slice_(entry()), slice_(name="t")], False),
        ([slice_(), slice_(entry(), name="t")], False),
        ([slice_(entry(), port=0)], False),
    ],
)
def test_slices_are_empty_where_none_has_an_endpoint_that_can_be_used(
    slices: list[EndpointSlice], empty: bool
) -> None:
    assert read("n/service", slices, {})["IPv4"].empty == empty


@pytest.mark.parametrize("most", [7, 8])
def test_of_too_many_slices_the_first_are_read(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # With a port, and one for the slice, each has 4.
    monkeypatch.setattr(endpoints_module, "MAX_READ_OF_SERVICE", most)
    slices = [slice_(entry(f"192.0.2.{n}1"), entry(f"192.0.2.{n}2"), name=f"s{n}") for n in range(1, 4)]
    targets, warnings = found(*reversed(slices))
    assert [each.address for each in targets] == ["192.0.2.11", "192.0.2.12", "192.0.2.21", "192.0.2.22"]
    assert warnings == [
        f"EndpointSlice n/s3 and those after it are left out: {most} endpoints and ports of a Service are read"
    ]


def test_of_a_slice_that_is_too_large_for_what_is_left_the_first_endpoints_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(endpoints_module, "MAX_READ_OF_SERVICE", 5)
    slices = [slice_(entry(f"192.0.2.{n}1"), entry(f"192.0.2.{n}2"), name=f"s{n}") for n in range(1, 3)]
    targets, _ = found(*slices)
    assert [each.address for each in targets] == ["192.0.2.11", "192.0.2.12", "192.0.2.21"]


def test_what_is_not_needed_of_a_slice_is_not_held() -> None:
    full = msgspec.convert(
        {
            "metadata": {
                "name": "s",
                "namespace": "n",
                "uid": "u",
                "resourceVersion": "7",
                "labels": {"kubernetes.io/service-name": "service", "other": "x" * 1000},
                "annotations": {WEIGHTS_ANNOTATION: '{"a": 2}', "other": "x" * 100_000},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": "service", "uid": "o"}],
            },
            "addressType": "IPv4",
            "ports": [{"port": 80}],
            "endpoints": [
                {
                    "addresses": [ADDRESS, "192.0.2.8"],
                    "hostname": "a",
                    "nodeName": "node-1",
                    "zone": "z",
                    "conditions": {"ready": False, "serving": True, "terminating": True},
                    "targetRef": {"kind": "Pod", "name": "pod"},
                    "hints": {"forZones": [{"name": "z"}]},
                }
            ],
        },
        EndpointSlice,
    )
    held = needed(full)
    assert found(held) == found(full)
    assert len(msgspec.json.encode(held)) < 500
    assert held.metadata.labels == {"kubernetes.io/service-name": "service"}
    assert (held.metadata.uid, held.metadata.resource_version) == ("u", "7")
