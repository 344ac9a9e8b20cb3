"""What a client sees of a node: one interface over the real kernel and over the packet tracer."""

import asyncio
import itertools
import random
import socket
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Collection, Iterable
from contextlib import asynccontextmanager
from typing import Protocol

from moorage.dataplane import sessions
from moorage.dataplane.capabilities import Capabilities, probe
from moorage.dataplane.conntrack import Flow, KernelConntrack
from moorage.dataplane.fake import FakeNft
from moorage.dataplane.model import NodeState, ServiceAddress, Unit
from moorage.dataplane.nft import Nft
from moorage.dataplane.schema import OF_FAMILY
from moorage.dataplane.sync import Synced, Synchronizer
from moorage.dataplane.waking import KernelWaker, whole
from tests.support.network import Network, network
from tests.support.states import node_state
from tests.support.tracer import ACK, Packet, Tracer

SENT_AGAIN_SECONDS = (1.0, 1.0, 1.0)
"""How long a client waits before it sends its SYN again, and again."""


class World(Protocol):
    """A node that carries Services, and clients behind it. Endpoints answer with their address."""

    nft: Nft
    capabilities: Capabilities

    async def carry(self, units: Iterable[Unit]) -> Synced:
        """Bring the node to these ports and moorings, and nothing else."""

    def restart(self) -> None:
        """The agent is gone, and a new one knows nothing but what the kernel holds."""

    async def connect(self, client: str, key: ServiceAddress) -> str:
        """One new connection (or, over UDP, one datagram): who answers, `refused` or `timed out`."""

    async def knock(self, client: str, key: ServiceAddress) -> Awaitable[str]:
        """A new TCP connection whose first SYN has to wait; what `connect` says of it in the end."""

    async def open(self, name: str, client: str, key: ServiceAddress) -> str:
        """A new TCP connection that stays open; who answers."""

    async def say(self, name: str) -> str:
        """Send on an open connection: who answers, `reset` or `timed out`."""

    async def expire(self) -> None:
        """Let time pass until every session has timed out."""


class _Base(ABC):
    """What worlds have in common: the synchronizer and what it is to carry."""

    nft: Nft
    capabilities: Capabilities

    def __init__(self) -> None:
        self._carried: NodeState = {}
        self._synchronizer: Synchronizer | None = None

    async def carry(self, units: Iterable[Unit]) -> Synced:
        desired = node_state(units)
        if self._synchronizer is None:
            self._synchronizer = self._new()
        changed = {key for key in desired.keys() | self._carried.keys() if desired.get(key) != self._carried.get(key)}
        self._carried = desired
        return await self._synchronizer.sync(desired, changed)

    def restart(self) -> None:
        self._synchronizer = None

    @abstractmethod
    def _new(self) -> Synchronizer:
        """A synchronizer that knows nothing yet."""


class KernelWorld(_Base):
    """Three network namespaces on the real kernel."""

    def __init__(self, net: Network, capabilities: Capabilities) -> None:
        super().__init__()
        self.net = net
        self.nft = net.node.nft
        self.capabilities = capabilities

    def _new(self) -> Synchronizer:
        node = self.net.node
        conntrack = KernelConntrack(node.prefix, node.netlink)
        return Synchronizer(self.nft, conntrack, self.capabilities, KernelWaker(self._raw))

    def _raw(self, family: int) -> socket.socket:
        raw = self.net.node.socket(
            socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW
        )
        return whole(raw)

    async def read(self, name: str) -> str:
        """Wait for something on an open connection: as `say`, but without sending."""
        return await self._ask("read", name)

    async def connect(self, client: str, key: ServiceAddress) -> str:
        if key.protocol == "udp":
            return await self._ask("udp", client, 0, key.address, key.port)
        return await self._ask("tcp", client, key.address, key.port)

    async def knock(self, client: str, key: ServiceAddress) -> Awaitable[str]:
        waited = OF_FAMILY[key.family].waited.name
        knocking = asyncio.create_task(self.connect(client, key))
        async with asyncio.timeout(30):
            while (client, key.address, key.port) not in [each.key for each in await self.nft.elements(waited)]:
                assert not knocking.done(), f"it did not wait: {knocking.result()}"
                await asyncio.sleep(0.01)
        return knocking

    async def open(self, name: str, client: str, key: ServiceAddress) -> str:
        return await self._ask("open", name, client, key.address, key.port)

    async def say(self, name: str) -> str:
        return await self._ask("say", name)

    async def expire(self) -> None:
        # Sessions so short that they could be waited for would end while they are still needed.
        old = [sessions.Correction(each, each.timeout, left=1) for each in await sessions.read(self.nft)]
        assert await sessions.correct(self.nft, old) is None
        async with asyncio.timeout(30):
            while await sessions.read(self.nft):  # noqa: ASYNC110  # the kernel tells nobody that an element expired
                await asyncio.sleep(0.1)

    async def _ask(self, *request: str | int) -> str:
        return await asyncio.to_thread(self.net.ask, *request)


@asynccontextmanager
async def kernel_world() -> AsyncIterator[KernelWorld]:
    """A world on the real kernel until the end of the block."""
    with network() as net:
        yield KernelWorld(net, await probe(net.node.nft))


class TracerWorld(_Base):
    """The fake nftables, the packet tracer, and a clock that stands still until told."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.nft = self.fake = FakeNft(lambda: self.now)
        self.capabilities = Capabilities()
        self.tracer = Tracer(self.fake, random.Random(1).randrange, clock=lambda: self.now)
        self._ports = itertools.count(20_000)
        self._opened: dict[str, Packet] = {}

    def _new(self) -> Synchronizer:
        return Synchronizer(self.nft, _Tracked(self.tracer), self.capabilities)

    async def connect(self, client: str, key: ServiceAddress) -> str:
        packet = Packet(client, next(self._ports), key.address, key.port, key.protocol)
        return self._answer(packet, self._send(packet))

    async def knock(self, client: str, key: ServiceAddress) -> Awaitable[str]:
        packet = Packet(client, next(self._ports), key.address, key.port)
        first = self._send(packet)
        assert first == "timed out", f"it did not wait: {first}"

        async def answer() -> str:
            return self._answer(packet, first)

        return answer()

    async def open(self, name: str, client: str, key: ServiceAddress) -> str:
        packet = self._opened[name] = Packet(client, next(self._ports), key.address, key.port)
        return self._send(packet)

    async def say(self, name: str) -> str:
        return self._send(self._opened[name]._replace(flags=ACK))

    async def expire(self) -> None:
        self.now += 1 + max((each.left for each in await sessions.read(self.nft)), default=0)

    def _answer(self, packet: Packet, first: str) -> str:
        """What becomes of a connection whose first packet met `first`."""
        answer = first
        for seconds in SENT_AGAIN_SECONDS if packet.proto == "tcp" else ():
            if answer == "timed out":
                self.now += seconds
                answer = self._send(packet)
        self.tracer.forget(packet)
        return answer

    def _send(self, packet: Packet) -> str:
        trace = self.tracer.connect(packet)
        if trace.verdict == "rejected":
            return "reset" if packet.flags == ACK else "refused"
        return "timed out" if trace.verdict == "dropped" else trace.destination[0]


class _Tracked:
    """The tracer's connections as the flows that the kernel would list."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    async def flows(self, family: int, source: str | None = None) -> list[Flow]:
        found = []
        for each in self._tracer.connections:
            protocol, source, source_port, address, port = each.original
            flow = Flow(6 if ":" in source else 4, protocol, source, source_port, address, port, *each.reply[1:])
            if flow.family == family and source in (None, flow.source):
                found.append(flow)
        return found

    async def delete(self, flows: Collection[Flow]) -> int:
        return sum(
            self._tracer.forget(
                Packet(each.source, each.source_port, each.destination, each.destination_port, each.protocol)
            )
            for each in flows
        )


@asynccontextmanager
async def tracer_world() -> AsyncIterator[TracerWorld]:
    """A world in memory."""
    yield TracerWorld()
