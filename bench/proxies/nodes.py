"""Nodes that have the real kube-proxy and a node agent beside each other, in network namespaces.

```
clients of node 0 ── node 0: kube-proxy in mode iptables, agent ─┬─ endpoints
clients of node 1 ── node 1: kube-proxy in mode nftables, agent ─┘
                        └────── a link each to etcd and kube-apiserver
```
"""

import json
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench import BUILD, connections, tree
from bench.connections import NODE_SETTINGS, SETTINGS, SOURCES
from bench.namespaces import Namespace, output
from bench.proxies import objects, prober
from bench.proxies.objects import Carrier
from e2e.harness import builds
from e2e.harness.control_plane import ApiServer
from e2e.harness.node import proxy_config
from e2e.harness.world import Process, World, wait

API_ADDRESS = "10.0.255.1"
MODES = ("iptables", "nftables")
MIN_SYNC = "1ms"
"""kube-proxy would wait for 1 s between two syncs; what is measured is how long they take."""


class ProxyNode:
    """One node, with its clients."""

    def __init__(self, world: World, index: int, mode: str) -> None:
        self.index = index
        self.mode = mode
        self.name = f"node-{index}"
        self.network = namespace(world, self.name)
        self.clients = namespace(world, f"clients-{index}")
        self.sources = [f"10.244.{index}.{n}" for n in range(1, SOURCES + 1)]
        self.sources_file = world.directory / f"sources-{index}"
        self.sources_file.write_text("".join(f"{each}\n" for each in self.sources))
        self._processes: dict[Carrier, Process] = {}

    def join(self, api: ApiServer) -> None:
        """Have the API know it, and start what carries Services."""
        labels = {"kubernetes.io/hostname": self.name}
        api.apply(json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name, "labels": labels}}))
        status = {"status": {"addresses": [{"type": "InternalIP", "address": f"10.0.{self.index}.5"}]}}
        patch = ("patch", "node", self.name, "--subresource=status", "--type=merge", "-p", json.dumps(status))
        api.kubectl(*patch)
        config = api.world.directory / f"{self.name}.json"
        config.write_text(json.dumps(proxy_config(self.name, self.mode, api.kubeconfig, MIN_SYNC)))
        agent = [sys.executable, "-m", "moorage", "node", "--node", self.name, "--kubeconfig", str(api.kubeconfig)]
        commands: dict[Carrier, Sequence[str | Path]] = {
            "kube-proxy": [builds.program("kube-proxy"), f"--config={config}"],
            "moorage": agent,
        }
        for carrier, argv in commands.items():
            self._processes[carrier] = api.world.start(f"{self.name}-{carrier}", argv, self.name)

    def freeze(self, *, frozen: bool) -> None:
        """Let its processes do nothing, or let them go on."""
        for each in self._processes.values():
            each.send(signal.SIGSTOP if frozen else signal.SIGCONT)
            if not frozen:
                each.popen.send_signal(signal.SIGCONT)  # nsenter freezes itself with its program

    def cpu(self, carrier: Carrier) -> float:
        """Seconds of a processor until now, with those of the programs that it has run."""
        return tree.cpu(self._processes[carrier].pid)

    def peak_kib(self, carrier: Carrier) -> int:
        """The most memory that it has had; of programs that it runs, those that run now."""
        return tree.peak_kib(self._processes[carrier].pid)

    def last_words(self) -> str:
        return "\n".join(f"--- {each.name}:\n{each.last_words(5)}" for each in self._processes.values())


def namespace(world: World, name: str) -> Namespace:
    """A network namespace that goes with the world."""
    world.netns(name)
    return Namespace(f"/proc/{world.pid}/root/run/netns/{name}")


@contextmanager
def cluster(modes: Sequence[str]) -> Iterator[tuple[ApiServer, list[ProxyNode], Process]]:
    """An API server, a node for each mode of kube-proxy, and the server that is fast, until the end of the block."""
    output(["ip", "-batch", "-"], input=f"link set lo up\naddress add {API_ADDRESS}/32 dev lo\n")
    with World("proxies") as world:
        arguments = ["--disable-admission-plugins=ServiceAccount", "--bind-address=0.0.0.0"]
        api = ApiServer(world, address=API_ADDRESS, arguments=arguments)
        api.start()
        servers = namespace(world, "servers")
        servers.set(SETTINGS)
        servers.configure([f"route add local {objects.ENDPOINTS} dev lo"])
        nodes = [ProxyNode(world, index, mode) for index, mode in enumerate(modes)]
        for node in nodes:
            node.clients.set(SETTINGS)
            connections.link(node.index, node.clients, node.network, servers, objects.SERVICES, objects.ENDPOINTS)
            node.network.set(NODE_SETTINGS)
            _link_to_api(node)
            node.join(api)
        server = world.start("server", [BUILD / "server", "--listen", f"0.0.0.0:{objects.PORT}"], "servers")
        telling = [sys.executable, prober.__file__, "serve", str(objects.TELLING_PORT)]
        for each in (server, world.start("telling", telling, "servers")):
            wait(f"{each.name} listens", lambda each=each: "listening" in each.log.read_text(), 30, each)  # type: ignore[misc]
        yield api, nodes, server


def _link_to_api(node: ProxyNode) -> None:
    here, there = f"10.0.{node.index}.4", f"10.0.{node.index}.5"
    commands = [
        f"link add node{node.index} type veth peer name api netns {node.network.path}",
        f"address add {here}/31 dev node{node.index}",
        f"link set node{node.index} up",
    ]
    output(["ip", "-batch", "-"], input="\n".join(commands) + "\n")
    node.network.configure(
        [f"address add {there}/31 dev api", "link set api up", f"route add {API_ADDRESS}/32 via {here} dev api"]
    )
