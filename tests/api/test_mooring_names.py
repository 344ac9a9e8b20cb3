import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.api.moorage_v1alpha1 import CLIENT_KINDS
from moorage.api.mooring_names import client_label, mooring_name
from moorage.api.validation_names import dns_subdomain

groups = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
pieces = st.sampled_from(
    ("frontend", "Frontend", "0", "node", "pod", "label", "workload", "deployment", "Deployment", ".", "-", "/", "_")
)
names = st.lists(pieces, min_size=1, max_size=5).map("".join) | st.text(min_size=1, max_size=300)
kinds = st.sampled_from(CLIENT_KINDS)


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("Pod", "frontend-0", "backend.frontend-0"),
        ("Node", "n1", "backend.node.n1"),
        ("Node", "n1.example.com", "backend.node.n1.example.com"),
        ("Zone", "eu-1a", "backend.zone.eu-1a"),
        ("Namespace", "frontend", "backend.namespace.frontend"),
        ("Workload", "Deployment/frontend", "backend.workload.deployment.frontend"),
        ("Label", "tenant-a", "backend.label.tenant-a"),
    ],
)
def test_a_name_tells_group_kind_and_client(kind: str, name: str, expected: str) -> None:
    assert mooring_name("backend", kind, name) == expected


@pytest.mark.parametrize(
    ("kind", "name", "readable"),
    [
        ("Pod", "node.n1", "node-n1"),
        ("Label", "Tenant_A", "tenant-a"),
        ("Zone", "EU", "eu"),
        ("Workload", "Rollout/frontend", "rollout-frontend"),
        ("Workload", "deployment/frontend", "deployment-frontend"),
        ("Label", "_", "x"),
    ],
)
def test_a_client_that_cannot_be_named_as_it_is_has_a_hash_and_can_still_be_read(
    kind: str, name: str, readable: str
) -> None:
    group, hashed, rest = mooring_name("backend", kind, name).split(".")
    assert (group, rest) == ("backend", readable)
    assert hashed.startswith(f"{kind.lower()}-")


@given(groups, kinds, names)
def test_every_name_is_an_objects_name(group: str, kind: str, name: str) -> None:
    assert dns_subdomain(mooring_name(group, kind, name)) is None


@given(groups, st.lists(st.tuples(kinds, names), unique=True, min_size=2, max_size=8))
def test_no_two_clients_of_a_group_share_a_name(group: str, clients: list[tuple[str, str]]) -> None:
    assert len({mooring_name(group, *client) for client in clients}) == len(clients)


@given(groups, groups, kinds, names)
def test_no_two_groups_share_a_name(one: str, other: str, kind: str, name: str) -> None:
    assert (mooring_name(one, kind, name) == mooring_name(other, kind, name)) is (one == other)


@given(groups, names, names)
def test_a_long_name_differs_where_it_is_cut(group: str, name: str, end: str) -> None:
    long = "a" * 300 + name
    assert (mooring_name(group, "Pod", long) == mooring_name(group, "Pod", long + end)) is False


def test_the_name_of_a_client_never_changes() -> None:
    assert mooring_name("backend", "Label", "Tenant_A") == "backend.label-9de035120cba9630.tenant-a"


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("Node", "n1", "node.n1"),
        ("Node", "n1.example.com", "node.n1.example.com"),
        ("Zone", "EU_1", "zone.EU_1"),
        ("Label", "tenant-a", "label.tenant-a"),
        ("Node", "n" * 58, f"node.{'n' * 58}"),
    ],
)
def test_a_label_tells_the_client(kind: str, name: str, expected: str) -> None:
    assert client_label(kind, name) == expected


@pytest.mark.parametrize(("kind", "name"), [("Node", "n" * 59), ("Workload", "Deployment/web"), ("Label", "-")])
def test_a_client_that_no_label_can_name_has_a_hash_of_its_name(kind: str, name: str) -> None:
    assert re.fullmatch(rf"{kind.lower()}-[0-9a-f]{{16}}", client_label(kind, name))


@given(kinds, names, kinds, names)
def test_each_client_has_a_label_of_its_own_which_is_one(kind: str, name: str, other: str, other_name: str) -> None:
    label = client_label(kind, name)
    assert len(label) <= 63
    assert re.fullmatch(r"[a-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?", label)
    assert (client_label(other, other_name) == label) == ((kind, name) == (other, other_name))
