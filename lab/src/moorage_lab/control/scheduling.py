"""Decides where pods run (of the nodes that may have one, where the fewest are), and which addresses they get."""

from collections import Counter
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import NamedTuple

from moorage.api.core_v1 import Node, Pod
from moorage.api.meta import labels_match

_RESERVED = 2
"""The network's own address and the first host, which is usually the node."""

_MAX_RANGE_ADDRESSES = 1 << 16
"""How many addresses of a range are used: an IPv6 /64 has more than anybody can walk through."""


class Decision(NamedTuple):
    """What is to become of the pods that have no node."""

    placed: list[tuple[Pod, str]]
    waiting: list[tuple[Pod, str]]
    """Those that no node may have, and why, in kube-scheduler's words."""


def assign(pods: Iterable[Pod], nodes: Sequence[Node]) -> Decision:
    """A node for each pod that has none and is not being deleted: the one with the fewest pods, then by order.

    A node takes pods whose `nodeSelector` its labels match, unless it is cordoned. Pods that are being deleted do not
    count, as where kube-scheduler spreads pods (its plugin PodTopologySpread). Without nodes nothing is decided.
    """
    living = [pod for pod in pods if pod.metadata.deletion_timestamp is None]
    living.sort(key=lambda pod: (pod.metadata.creation_timestamp or "", pod.metadata.name))
    load = Counter(pod.spec.node_name for pod in living)
    decision = Decision([], [])
    for pod in living:
        if pod.spec.node_name is not None or not nodes:
            continue
        selected = [node for node in nodes if _is_selected(pod, node)]
        if fitting := [node.metadata.name for node in selected if not node.spec.unschedulable]:
            name = min(fitting, key=lambda name: load[name])
            load[name] += 1
            decision.placed.append((pod, name))
        else:
            decision.waiting.append((pod, _why_none(len(nodes), len(nodes) - len(selected))))
    return decision


def _is_selected(pod: Pod, node: Node) -> bool:
    return not pod.spec.node_selector or labels_match(pod.spec.node_selector, node.metadata.labels)


def _why_none(nodes: int, others: int) -> str:
    """`nodes`: how many there are; `others`: how many of them the pod does not select. All the rest are cordoned."""
    reasons = ((others, "didn't match Pod's node affinity/selector"), (nodes - others, "were unschedulable"))
    told = ", ".join(f"{count} node(s) {reason}" for count, reason in reasons if count)
    return f"0/{nodes} nodes are available: {told}."


class AddressesExhaustedError(Exception):
    """Every address of the node's range is in use."""


class AddressPool:
    """The pod addresses of one node in one family; an address is reused only after all others have been used."""

    def __init__(self, cidr: str) -> None:
        self._network: IPv4Network | IPv6Network = ip_network(cidr)
        self._size = min(self._network.num_addresses - (self._network.version == 4), _MAX_RANGE_ADDRESSES)
        self._used: dict[str, str] = {}
        self._last = _RESERVED - 1

    def __contains__(self, address: str) -> bool:
        return any(address == used for used in self._used)

    def take(self, owner: str, wish: str | None = None) -> str:
        """An address for `owner` (a pod's uid): `wish` if it is in this range and free, else the next free one.

        The same owner gets the same address again. Raises AddressesExhaustedError.
        """
        for address, user in self._used.items():
            if user == owner:
                return address
        if wish is not None and self._offset(wish) is not None and wish not in self._used:
            self._last = max(self._last, self._offset(wish) or 0)
            self._used[wish] = owner
            return wish
        span = self._size - _RESERVED
        for step in range(1, span + 1):
            offset = _RESERVED + (self._last - _RESERVED + step) % span
            address = str(self._network[offset])
            if address not in self._used:
                self._last = offset
                self._used[address] = owner
                return address
        raise AddressesExhaustedError(f"{self._network}: all {span} pod addresses are in use")

    def release(self, owner: str) -> None:
        """Free the address of `owner`, if it has one."""
        self._used = {address: user for address, user in self._used.items() if user != owner}

    def _offset(self, address: str) -> int | None:
        """The position of `address` in the range; None if the pool would not give it out."""
        network = ip_network(address)
        if network.version != self._network.version:
            return None
        offset = int(network.network_address) - int(self._network.network_address)
        return offset if _RESERVED <= offset < self._size else None
