"""Answers to look-ups that a test writes down, without a name server."""

import asyncio
from collections import Counter

from moorage.discovery.resolver import Addresses, AddressType, LookupFailedError, Server, Servers


class FakeNames:
    """`moorage.discovery.resolver.Names`. A name that was not put has no records."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], Addresses | Servers | Exception] = {}
        self.asked: Counter[tuple[str, str]] = Counter()
        self.gate = asyncio.Event()
        """While it is not set, no answer comes."""
        self.gate.set()

    def put(self, name: str, *addresses: str, ttl: float = 10.0, type: str = "A") -> None:
        self.records[(name, type)] = Addresses(addresses, ttl)

    def put_servers(self, name: str, *servers: Server, ttl: float = 10.0) -> None:
        self.records[(name, "SRV")] = Servers(servers, ttl)

    def fail(self, name: str, type: str = "A", error: Exception | None = None) -> None:
        self.records[(name, type)] = error or LookupFailedError(f"{name} {type}: 192.0.2.53 answered SERVFAIL")

    async def addresses(self, name: str, type: AddressType) -> Addresses:
        found = await self._ask(name, type) or Addresses((), 10.0)
        assert isinstance(found, Addresses)
        return found

    async def servers(self, name: str) -> Servers:
        found = await self._ask(name, "SRV") or Servers((), 10.0)
        assert isinstance(found, Servers)
        return found

    async def _ask(self, name: str, type: str) -> Addresses | Servers | None:
        self.asked[(name, type)] += 1
        await self.gate.wait()
        found = self.records.get((name, type))
        if isinstance(found, Exception):
            raise found
        return found
