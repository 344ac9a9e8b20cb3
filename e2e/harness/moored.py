"""One ExternalService of cluster B whose clients are moored, and clients on each node that see where they are led."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from e2e.harness import outside, topology
from e2e.harness.errors import HarnessError
from e2e.harness.outside import OpenConnection, Server
from e2e.harness.played import PlayedClusters
from e2e.harness.slices import Slices
from moorage.api.discovery_v1 import Endpoint
from testing.kube_proxy import used

NODES = topology.B.nodes
PORT = 9000
CHECK = {"tcp": {}, "intervalSeconds": 1, "timeoutSeconds": 1, "fall": 3, "rise": 1}
CHECK_SECONDS = 4.0
"""Seconds within which an endpoint that dies has failed its checks."""
FEW = 2
"""Connections from each address at each look, while something is waited for."""
MANY = 8
"""The same, where each has to be right."""
FIVE = slice(0, 5)
"""The addresses of each node that are used, unless a test says otherwise."""
OTHER_FIVE = slice(5, 10)
"""Addresses that no session holds, where a test has not used them yet."""
ALL = slice(0, 10)
REFUSED = "[Errno 111] Connection refused"
"""The answer of an endpoint that has died."""


class Moored:
    """It is named `backend`, in a namespace of its own."""

    def __init__(self, played: PlayedClusters, namespace: str) -> None:
        self._played = played
        self._b = played.b
        self.namespace = namespace
        self._b.kubectl("create", "namespace", namespace)

    def make(
        self,
        servers: Sequence[Server],
        name: str = "backend",
        weights: Mapping[str, int] = MappingProxyType({}),
        **spec: Any,
    ) -> None:
        """An ExternalService of these, whose nodes are moored, if `spec` has no other sessionAffinity."""
        addresses = [
            {"name": each.name, "address": each.address, "port": each.port, "weight": weights.get(each.name, 1)}
            for each in servers
        ]
        spec = {
            "ports": [{"port": PORT, "targetPort": 80}],
            "endpoints": [{"addresses": addresses}],
            "healthCheck": CHECK,
            **(spec if "sessionAffinity" in spec else {**mooring("Node"), **spec}),
        }
        xsvc = {"apiVersion": "moorage.dev/v1alpha1", "kind": "ExternalService", "spec": spec}
        self.apply({**xsvc, "metadata": {"name": name}})
        self.kubectl("wait", "--for=condition=Healthy", "--timeout=60s", f"xsvc/{name}")

    def kubectl(self, *arguments: str) -> str:
        return self._b.kubectl("-n", self.namespace, *arguments)

    def apply(self, manifest: Mapping[str, Any]) -> None:
        self._b.apply(json.dumps(manifest), "-n", self.namespace)

    def change(self, spec: Mapping[str, Any]) -> None:
        """Edit the ExternalService."""
        self.kubectl("patch", "xsvc", "backend", "--type=merge", "-p", json.dumps({"spec": spec}))

    def condition(self, type: str = "Moored") -> dict[str, str]:
        found = self._b.get("-n", self.namespace, "xsvc", "backend")["status"]["conditions"]
        return next(each for each in found if each["type"] == type)

    def until_moored(self, reason: str = "Moored", status: str = "True", words: str = "") -> str:
        """Wait until the condition Moored says so, with these words in its message; the message."""
        found: dict[str, str] = {}

        def said() -> bool:
            found.update(self.condition())
            return (found["status"], found["reason"]) == (status, reason) and words in found["message"]

        try:
            self._b.eventually(f"Moored says {reason}, {words}", said)
        except HarnessError as error:
            raise AssertionError(f"{error}: {found}") from None
        return found["message"]

    def slices(self) -> Slices[Endpoint]:
        """To be followed: what there is in EndpointSlices."""
        return Slices(self._b, self.namespace, "backend", lambda each: msgspec.convert(each, Endpoint))

    def versions(self, kinds: str = "moorings,endpointslices,services,externalservices") -> dict[str, str]:
        """The resourceVersion of each object: what nobody writes keeps its own."""
        found = self._b.get("-n", self.namespace, kinds)["items"]
        return {f"{each['kind']}/{each['metadata']['name']}": each["metadata"]["resourceVersion"] for each in found}

    # --- Moorings ------------------------------------------------------------------------------------------------

    def moorings(self) -> dict[str, Any]:
        """Name of each client -> its Mooring."""
        found = self._b.get("-n", self.namespace, "moorings")["items"]
        return {each["spec"]["client"]["name"]: each for each in found}

    def where(self) -> dict[str, str]:
        """Name of each client -> its endpoint, as kubectl prints it."""
        columns = "-o=custom-columns=:.spec.client.name,:.spec.endpoint"
        lines = self.kubectl("get", "moorings", "--no-headers", columns).splitlines()
        return dict(line.split() for line in lines)

    def at(self, endpoint: str) -> set[str]:
        """The clients of an endpoint."""
        return {client for client, name in self.where().items() if name == endpoint}

    def move(self, wanted: Mapping[str, str]) -> None:
        """Edit the Moorings of these clients."""
        moorings = self.moorings()
        for client, endpoint in wanted.items():
            patch = json.dumps({"spec": {"endpoint": endpoint}})
            self.kubectl("patch", "mooring", moorings[client]["metadata"]["name"], "--type=merge", "-p", patch)

    def until_where(self, holds: Callable[[dict[str, str]], object], seconds: float = 60) -> dict[str, str]:
        """Wait until it holds of `where`, and return that."""
        found: list[dict[str, str]] = []

        def held() -> object:
            found.append(self.where())
            return holds(found[-1])

        try:
            self._b.eventually("clients where they should be", held, seconds)
        except HarnessError as error:
            raise AssertionError(f"{error}: {found[-1:]}; {self.condition()}") from None
        return found[-1]

    # --- connections ---------------------------------------------------------------------------------------------

    def ask(
        self, node: topology.Node, count: int = FEW, sources: slice = FIVE, name: str = "backend"
    ) -> dict[str, list[str]]:
        """Who answers connections from addresses of this node's clients."""
        return outside.ask(self._played.world, node, self._address(name), PORT, count, node.clients[sources])

    def known(self, endpoint: Server) -> bool:
        """Whether every node's kube-proxy knows this endpoint, of any Service: it is in its rules."""
        return all(endpoint.address in self._rules(node) for node in NODES)

    def open(self, node: topology.Node) -> OpenConnection:
        """A connection that stays open, from the first of the node's addresses."""
        return OpenConnection(self._played.world, node, self._address("backend"), PORT, node.clients[0])

    def strayed(
        self,
        wanted: Mapping[str, str],
        count: int = FEW,
        sources: slice = FIVE,
        nodes: Sequence[topology.Node] = NODES,
        name: str = "backend",
    ) -> list[str]:
        """The connections that did not come to the endpoint that is `wanted` for their node."""
        return [
            f"{node.name} ({node.proxy_mode}) from {source}: {answer} instead of {wanted[node.name]}"
            for node in nodes
            for source, answers in self.ask(node, count, sources, name).items()
            for answer in answers
            if answer != wanted[node.name]
        ]

    def until_answered(
        self, node: topology.Node, answers: Collection[str], name: str = "backend"
    ) -> dict[str, list[str]]:
        """What all addresses of the node get, once kube-proxy knows the Service: `answers` and nothing else."""
        found: dict[str, list[str]] = {}

        def answered() -> bool:
            found.update(self.ask(node, MANY, ALL, name))
            return all(each in answers for got in found.values() for each in got)

        try:
            self._b.eventually(f"{node.name} is answered", answered)
        except HarnessError as error:
            raise AssertionError(f"{error}: {found}") from None
        return found

    def assert_led(self, wanted: Mapping[str, str], **asked: Any) -> None:
        """Every new connection comes to the endpoint that is `wanted` for its node, as soon as kube-proxy knows."""
        left: list[str] = []

        def led() -> bool:
            left[:] = self.strayed(wanted, **asked)
            return not left

        try:
            self._b.eventually("connections led", led)
        except HarnessError as error:
            raise AssertionError(f"{error}: {left}") from None
        assert self.strayed(wanted, MANY, **asked) == []

    def _rules(self, node: topology.Node) -> str:
        argv = ["nft", "list", "ruleset"] if node.proxy_mode == "nftables" else ["iptables-save", "-t", "nat"]
        return self._played.world.execute(*argv, network=node.network)

    def _address(self, name: str) -> str:
        address: str = self._b.get("-n", self.namespace, "service", name)["spec"]["clusterIP"]
        return address


def led(state: Mapping[str, Endpoint], node: str) -> set[str]:
    """What kube-proxy of the node uses, by what is in the slices."""
    return used([list(state.values())], node)


def mooring(client: str, on_recovery: str = "Stay", **more: Any) -> dict[str, Any]:
    """The fields of the spec that say who the clients are."""
    config = {"mooring": {"client": client, "onRecovery": on_recovery, **more}}
    return {"sessionAffinity": "Mooring", "sessionAffinityConfig": config}
