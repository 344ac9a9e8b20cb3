from collections import Counter
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from moorage.api.core_v1 import Pod
from moorage_lab.control.scheduling import AddressesExhaustedError, AddressPool, assign
from tests.support.lab_objects import node, pod

NODES = [node("node-1"), node("node-2"), node("node-3")]


def selecting(name: str, **selector: str) -> Pod:
    """A pod without a node that wants one with these labels."""
    new = pod(name, node=None)
    return replace(new, spec=replace(new.spec, node_selector=selector))


def test_pods_go_where_the_fewest_are() -> None:
    there = [pod("a"), pod("b"), pod("c", node="node-2")]
    new = [pod(f"new-{number}", node=None) for number in range(3)]
    placed, waiting = assign([*there, *new], NODES)
    assert waiting == []
    load = Counter(node for _, node in placed) + Counter(one.spec.node_name or "" for one in there)
    assert sorted(load.values()) == [2, 2, 2]
    assert {one.metadata.name for one, _ in placed} == {"new-0", "new-1", "new-2"}


def test_a_pod_comes_where_the_one_before_it_is_being_deleted() -> None:
    there = [pod("a", node="node-1"), pod("b", node="node-2", leaving=True), pod("c", node="node-3")]
    [(_, chosen)] = assign([*there, pod("new", node=None)], NODES).placed
    assert chosen == "node-2"


def test_a_pod_that_is_being_deleted_is_not_placed_and_none_without_nodes() -> None:
    assert assign([pod("a", node=None, leaving=True)], NODES) == ([], [])
    assert assign([pod("a", node=None)], []) == ([], [])


def test_a_cordoned_node_gets_no_pods_and_keeps_its_own() -> None:
    nodes = [node("node-1", cordoned=True), node("node-2")]
    placed, _ = assign([pod("there"), *(pod(f"new-{number}", node=None) for number in range(3))], nodes)
    assert [(each.metadata.name, chosen) for each, chosen in placed] == [(f"new-{n}", "node-2") for n in range(3)]


def test_a_pod_goes_to_a_node_that_has_the_labels_which_it_selects() -> None:
    nodes = [node("node-1", disk="slow"), node("node-2", disk="fast"), node("node-3", disk="fast", size="big")]
    there = [pod("a", node="node-3"), pod("b", node="node-2"), pod("c", node="node-2")]
    assert [chosen for _, chosen in assign([*there, selecting("new", disk="fast")], nodes).placed] == ["node-3"]
    assert [chosen for _, chosen in assign([*there, selecting("new", disk="slow")], nodes).placed] == ["node-1"]


def test_a_pod_that_no_node_may_have_is_told_why_in_kube_scheduler_s_words() -> None:
    nodes = [node("node-1"), node("node-2", cordoned=True, disk="fast"), node("node-3", disk="slow")]
    placed, waiting = assign([selecting("new", disk="fast"), pod("other", node=None)], nodes)
    assert [(each.metadata.name, chosen) for each, chosen in placed] == [("other", "node-1")]
    assert [(each.metadata.name, reason) for each, reason in waiting] == [
        (
            "new",
            "0/3 nodes are available: 2 node(s) didn't match Pod's node affinity/selector, 1 node(s) were "
            "unschedulable.",
        )
    ]
    [(_, reason)] = assign([selecting("new", disk="none")], nodes).waiting
    assert reason == "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector."


@pytest.mark.parametrize("cidr", ["10.244.1.0/24", "fd00:10:244:1::/64"])
def test_addresses_are_of_the_range_and_not_used_again_at_once(cidr: str) -> None:
    pool = AddressPool(cidr)
    given_before = set()
    for number in range(100):
        address = pool.take(f"pod-{number}")
        assert ip_address(address) in ip_network(cidr)
        assert address not in given_before
        given_before.add(address)
        pool.release(f"pod-{number}")


def test_a_range_that_is_used_up_says_so_and_gives_again_what_is_released() -> None:
    pool = AddressPool("10.0.0.0/29")
    taken = [pool.take(f"pod-{number}") for number in range(5)]
    assert len(set(taken)) == 5
    assert "10.0.0.7" not in taken, "the broadcast address"
    with pytest.raises(AddressesExhaustedError, match=r"10\.0\.0\.0/29"):
        pool.take("one-more")
    pool.release("pod-2")
    assert pool.take("one-more") == taken[2]


def test_an_owner_keeps_its_address_and_gets_its_wish_where_it_can() -> None:
    pool = AddressPool("10.244.1.0/24")
    assert pool.take("a", "10.244.1.9") == "10.244.1.9" == pool.take("a")
    assert pool.take("b", "10.244.1.9") == "10.244.1.10"
    assert pool.take("c", "10.1.1.1") == "10.244.1.11"
    assert pool.take("d", "10.244.1.0") == "10.244.1.12"
    assert pool.take("e", "10.244.1.255") == "10.244.1.13"


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8))))
def test_no_address_has_two_owners(steps: list[tuple[bool, int]]) -> None:
    pool, held = AddressPool("10.0.0.0/28"), dict[int, str]()
    for take, owner in steps:
        if take:
            held[owner] = pool.take(str(owner))
        else:
            pool.release(str(owner))
            held.pop(owner, None)
        assert len(set(held.values())) == len(held)
