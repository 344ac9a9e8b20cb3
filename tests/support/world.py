"""What a client sees of a node: one interface over the real kernel, for tests that ask what happens to packets."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Protocol

from moorage.dataplane import sessions
from moorage.dataplane.capabilities import Capabilities, probe
from moorage.dataplane.conntrack import KernelConntrack
from moorage.dataplane.model import Key, ServicePort
from moorage.dataplane.nft import KernelNft, Nft
from moorage.dataplane.sync import Synced, Synchronizer
from tests.support.network import Network, network

NETLINK_NETFILTER = 12


class World(Protocol):
    """A node that carries Services, and clients behind it. Endpoints answer with their address."""

    nft: Nft
    capabilities: Capabilities

    async def carry(self, ports: Iterable[ServicePort]) -> Synced:
        """Bring the node to these ports, and nothing else."""

    def restart(self) -> None:
        """The agent is gone, and a new one knows nothing but what the kernel holds."""

    async def connect(self, client: str, key: Key) -> str:
        """One new connection (or, over UDP, one datagram): who answers, `refused` or `timed out`."""

    async def open(self, name: str, client: str, key: Key) -> str:
        """A new TCP connection that stays open; who answers."""

    async def say(self, name: str) -> str:
        """Send on an open connection: who answers, `reset` or `timed out`."""

    async def expire(self) -> None:
        """Let time pass until every session has timed out."""


class _Base:
    """What worlds have in common: the synchronizer and what it is to carry."""

    nft: Nft
    capabilities: Capabilities

    def __init__(self) -> None:
        self._carried: dict[Key, ServicePort] = {}
        self._synchronizer: Synchronizer | None = None

    async def carry(self, ports: Iterable[ServicePort]) -> Synced:
        desired = {port.key: port for port in ports}
        if self._synchronizer is None:
            self._synchronizer = self._new()
        changed = {key for key in desired.keys() | self._carried.keys() if desired.get(key) != self._carried.get(key)}
        self._carried = desired
        return await self._synchronizer.sync(desired, changed)

    def restart(self) -> None:
        self._synchronizer = None

    def _new(self) -> Synchronizer:
        raise NotImplementedError


class KernelWorld(_Base):
    """Three network namespaces on the real kernel."""

    def __init__(self, net: Network, capabilities: Capabilities) -> None:
        super().__init__()
        self.net = net
        self.nft = KernelNft(net.node.prefix)
        self.capabilities = capabilities

    def _new(self) -> Synchronizer:
        node = self.net.node
        conntrack = KernelConntrack(
            node.prefix, lambda: node.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        )
        return Synchronizer(self.nft, conntrack, self.capabilities)

    async def connect(self, client: str, key: Key) -> str:
        if key.protocol == "udp":
            return await self._ask("udp", client, 0, key.address, key.port)
        return await self._ask("tcp", client, key.address, key.port)

    async def open(self, name: str, client: str, key: Key) -> str:
        return await self._ask("open", name, client, key.address, key.port)

    async def say(self, name: str) -> str:
        return await self._ask("say", name)

    async def expire(self) -> None:
        async with asyncio.timeout(30):
            while await sessions.read(self.nft):  # noqa: ASYNC110  # the kernel tells nobody that an element expired
                await asyncio.sleep(0.1)

    async def _ask(self, *request: str | int) -> str:
        return await asyncio.to_thread(self.net.ask, *request)


@asynccontextmanager
async def kernel_world() -> AsyncIterator[KernelWorld]:
    """A world on the real kernel until the end of the block."""
    with network() as net:
        yield KernelWorld(net, await probe(KernelNft(net.node.prefix)))
