"""Keeps a relay for every TCP port of every LoadBalancer Service that has an address."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple

from moorage.api.core_v1 import Service
from moorage.cluster.client import Client
from moorage.cluster.reflector import Reflector
from moorage_lab.channel import Relay
from moorage_lab.relay import TcpRelay

FIRST_PORT, PORTS_APART = 8080, 10
"""On the machine: the first cluster's relays take free ports from 8080 on, the second's from 8090 on."""


class Entrance(NamedTuple):
    """One port of one load balancer."""

    cluster: str
    namespace: str
    service: str
    port: int


def entrances(cluster: str, services: Iterable[Service]) -> dict[Entrance, str]:
    """Every TCP port of the LoadBalancer Services -> the load balancer's first address."""
    found = {}
    for service in services:
        balancer = service.status.load_balancer
        address = next((entry.ip for entry in balancer.ingress or [] if entry.ip), None) if balancer else None
        if service.spec.type != "LoadBalancer" or address is None:
            continue
        for port in service.spec.ports or []:
            if port.protocol == "TCP":
                namespace = service.metadata.namespace or ""
                found[Entrance(cluster, namespace, service.metadata.name, port.port)] = address
    return found


class RelayKeeper:
    """Keeps the relays of all clusters in step with their Services.

    `clusters` are all clusters, in order. `listen(preferred port)` returns a socket on the machine and its port;
    `publish` is called with all relays after each change.
    """

    def __init__(
        self,
        clusters: Sequence[str],
        listen: Callable[[int], Awaitable[tuple[socket.socket, int]]],
        publish: Callable[[list[Relay]], None],
    ) -> None:
        self._first = {cluster: FIRST_PORT + PORTS_APART * index for index, cluster in enumerate(clusters)}
        self._listen = listen
        self._publish = publish
        self._open: dict[Entrance, tuple[TcpRelay, Relay]] = {}
        self._ports: dict[Entrance, int] = {}
        """Includes closed relays: a Service that is created again gets its old port if that is still free."""

    async def follow(self, cluster: str, client: Client) -> None:
        """Keep one cluster's relays until cancelled."""
        changed = asyncio.Event()
        services = Reflector(client, Service, on_change=lambda change: changed.set())
        watching = asyncio.create_task(services.run())
        try:
            while True:
                await changed.wait()
                changed.clear()
                await self.set(cluster, entrances(cluster, services.store.values()))
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching

    async def set(self, cluster: str, wanted: dict[Entrance, str]) -> None:
        """Open and close relays of one cluster so that it has exactly these."""
        before = [relay for _, relay in self._open.values()]
        for entrance in [entrance for entrance in self._open if entrance.cluster == cluster]:
            if wanted.get(entrance) != self._open[entrance][1].address:
                relay, _ = self._open.pop(entrance)
                await relay.close()
        for entrance, address in sorted(wanted.items()):
            if entrance not in self._open:
                self._open[entrance] = await self._start(entrance, address)
        now = [relay for _, relay in self._open.values()]
        if now != before:
            self._publish(sorted(now, key=lambda relay: relay.port))

    async def _start(self, entrance: Entrance, address: str) -> tuple[TcpRelay, Relay]:
        listener, port = await self._listen(self._ports.get(entrance, self._first[entrance.cluster]))
        self._ports[entrance] = port
        relay = TcpRelay(listener, address, entrance.port)
        await relay.start()
        return relay, Relay(
            cluster=entrance.cluster,
            namespace=entrance.namespace,
            service=entrance.service,
            service_port=entrance.port,
            address=address,
            port=port,
        )
