"""A namespace's share of the look-ups that are made at once."""

import asyncio

from moorage.discovery.resolver import Addresses, AddressType, Names, Servers

AT_ONCE = 8
"""Questions of one namespace. Those of all namespaces stand in one line, and hold a place in it for up to 5 seconds:
a namespace with thousands of names, or with name servers that never answer, would fill it."""


class Share(Names):
    """Asks `names`, at most `AT_ONCE` questions at a time."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def addresses(self, name: str, type: AddressType) -> Addresses:
        async with self._slots:
            return await self._names.addresses(name, type)

    async def servers(self, name: str) -> Servers:
        async with self._slots:
            return await self._names.servers(name)
