"""When pods got their addresses, and when these were led in the kernels of cluster B's nodes."""

import socket
import subprocess
import threading
import time
from typing import NamedTuple, Self

from e2e.harness import topology
from e2e.harness.moored import NODES
from e2e.harness.played import PlayedClusters
from moorage.dataplane import elements, netlink

_POLL_SECONDS = 0.01


class Seen(NamedTuple):
    """The address of a pod."""

    address: str
    at: float
    """Seconds since the epoch: when a watch of the API told of it."""


class Watched:
    """A context manager, for the pods of one namespace."""

    def __init__(self, played: PlayedClusters, namespace: str) -> None:
        self.addresses: dict[str, Seen] = {}
        """By name of the pod."""
        self.led: dict[str, float] = {}
        """Each address that a node's kernel leads by a mooring -> since when."""
        self._world = played.world
        columns = r'-o=jsonpath={.metadata.name} {.status.podIP}{"\n"}'
        command = played.b.command("-n", namespace, "get", "pods", "--watch", columns)
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._follow, daemon=True),
            *(threading.Thread(target=self._look, args=(node,), daemon=True) for node in NODES),
        ]

    def __enter__(self) -> Self:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._process.kill()
        for each in self._threads:
            each.join(10)
        self._process.wait()

    def lags(self) -> list[float]:
        """Of each pod the seconds from its address in the API to its node's kernel, the shortest first."""
        return sorted(max(0.0, self.led[each.address] - each.at) for each in self.addresses.values())

    def _follow(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            name, _, address = line.strip().partition(" ")
            if address:
                self.addresses.setdefault(name, Seen(address, time.time()))

    def _look(self, node: topology.Node) -> None:
        self._world.enter(node.network)
        while not self._ended.wait(_POLL_SECONDS):
            for each in elements.read(netlink.connect, "moorage", "moorings4"):
                self.led.setdefault(socket.inet_ntoa(each.key[:4]), time.time())
