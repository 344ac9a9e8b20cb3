"""The `dns` source: endpoints from DNS records."""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from moorage.api.show import show
from moorage.api.sources_v1alpha1 import DnsSource
from moorage.cluster.backoff import backoff
from moorage.core.model import Found, Problem
from moorage.core.names import of_address, of_dns_name
from moorage.discovery.choice import Choices, addresses_of
from moorage.discovery.following import FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS, RepeatedLookup
from moorage.discovery.resolver import Addresses, AddressType, LookupFailedError, Names, Server
from moorage.discovery.source import MAX_ENDPOINTS, MAX_LOOKUPS_PER_SECOND, Setting, Source, State

REASON = "LookupFailed"


class AddressRecords(Source):
    """A or AAAA records: each address is an endpoint, named after itself."""

    def __init__(self, spec: DnsSource, type: AddressType, names: Names, setting: Setting) -> None:
        super().__init__(setting)
        self._empty = (f"{show(spec.name)} has no {type} record",)

        async def look_up() -> tuple[Addresses, float]:
            found = await names.addresses(spec.name, type)
            return found, found.ttl

        self._following = RepeatedLookup(look_up, self._changed, now=setting.now, jitter=setting.jitter)

    async def run(self) -> None:
        await self._following.run()

    def _changed(self) -> None:
        answer, failure = self._following.answer, self._following.failure
        endpoints = tuple(Found(of_address(each), each) for each in answer.addresses) if answer else None
        notes = self._empty if endpoints == () else ()
        self.become(State(endpoints, Problem(REASON, *failure) if failure else None, notes))


class _Answer(NamedTuple):
    """The answer to an SRV look-up, with the addresses of the targets."""

    servers: tuple[Server, ...]
    notes: tuple[str, ...]
    targets: Mapping[str, Addresses | str]
    """The addresses of each target, or why there is no answer."""

    @property
    def failed(self) -> tuple[str, ...]:
        return tuple(each for each in self.targets.values() if isinstance(each, str))


class ServiceRecords(Source):
    """SRV records (RFC 2782): each target is an endpoint, with the record's port, priority and weight.

    A weight of 0 becomes 1, the smallest possible. A target with several ports becomes several endpoints: the one
    with the lowest port has the target's name, the others have their port after it.
    """

    def __init__(self, spec: DnsSource, names: Names, setting: Setting) -> None:
        super().__init__(setting)
        self._name = spec.name
        self._names = names
        self._choices = Choices(setting.families, setting.known)
        self._due: asyncio.TimerHandle | None = None
        self._right = setting.now()
        """When there was last an answer for every target."""
        self._failures = 0
        """Look-ups in a row without an answer for some target."""
        self._following = RepeatedLookup(self._look_up, self._changed, now=setting.now, jitter=setting.jitter)

    async def run(self) -> None:
        try:
            await self._following.run()
        finally:
            self._wake(None)

    def set_failing(self, addresses: Mapping[str, str]) -> None:
        self._choices.failing = addresses
        self._changed()

    async def _look_up(self) -> tuple[_Answer, float]:
        found = await self._names.servers(self._name)
        servers, notes = _used(self._name, found.servers)
        names = sorted({each.target for each in servers})
        targets = dict(zip(names, await asyncio.gather(*map(self._addresses, names)), strict=True))
        answer = _Answer(servers, tuple(notes), targets)
        self._failures = self._failures + 1 if answer.failed else 0
        if not answer.failed:
            self._right = self.setting.now()
        return answer, self._seconds(found.ttl, targets.values())

    def _seconds(self, ttl: float, answers: Collection[Addresses | str]) -> float:
        """Seconds until the next look-up: when the first answer expires, or soon if there is none for some target."""
        waits = [ttl, *(each.ttl for each in answers if isinstance(each, Addresses))]
        if self._failures:
            jitter = self.setting.jitter()
            waits.append(backoff(self._failures, jitter, first=FIRST_RETRY_SECONDS, longest=MAX_RETRY_SECONDS))
        return max(min(waits), len(answers) / MAX_LOOKUPS_PER_SECOND)

    async def _addresses(self, target: str) -> Addresses | str:
        """The addresses of a target, or why there is no answer."""
        try:
            return await addresses_of(self._names, target, self.setting.families)
        except LookupFailedError as error:
            return str(error)

    def _changed(self) -> None:
        answer, failure = self._following.answer, self._following.failure
        problem = Problem(REASON, *failure) if failure else None
        if answer is None:
            self.become(State(None, problem))
            return
        if answer.failed and not problem:
            others = f"; and {len(answer.failed) - 1} more targets" if answer.failed[1:] else ""
            problem = Problem(REASON, answer.failed[0] + others, self._right)
        notes = list(answer.notes)
        endpoints = tuple(sorted(self._endpoints(answer, notes)))
        self._choices.take({each.name: each.address for each in endpoints})
        self._wake(self._choices.due)
        # If there are targets but an answer for none of them, nothing is known.
        self.become(State(endpoints if endpoints or not answer.failed else None, problem, tuple(notes)))

    def _endpoints(self, answer: _Answer, notes: list[str]) -> Iterator[Found]:
        for name, server in _named(answer.servers):
            found = answer.targets[server.target]
            if isinstance(found, str):
                address = self._choices.current.get(name)
            else:
                address = self._choices.of(name, found.addresses)
            if address is not None:
                yield Found(name, address, server.port, max(1, server.weight), server.priority)
            elif not isinstance(found, str):
                notes.append(f"{server.target}, a target of {self._name}, has no address")

    def _wake(self, seconds: float | None) -> None:
        if self._due is not None:
            self._due.cancel()
        self._due = None if seconds is None else asyncio.get_running_loop().call_later(seconds, self._changed)


def _used(name: str, servers: Sequence[Server]) -> tuple[tuple[Server, ...], list[str]]:
    """The records that become endpoints, and notes about the others."""
    notes = []
    if not servers:
        notes.append(f"{show(name)} has no SRV record")
    elif not any(each.target for each in servers):
        notes.append(f'{name} says that there is no such service (target ".", RFC 2782)')
    used = {(each.target, each.port): each for each in reversed(servers) if each.target}
    if len(used) > MAX_ENDPOINTS:
        notes.append(f"{name} has {len(used)} targets, of which the first {MAX_ENDPOINTS} are used")
    return tuple(sorted(used.values())[:MAX_ENDPOINTS]), notes


def _named(servers: Iterable[Server]) -> Iterator[tuple[str, Server]]:
    by_target = sorted(servers, key=lambda each: (each.target, each.port))
    for target, group in groupby(by_target, key=lambda each: each.target):
        for number, server in enumerate(group):
            yield of_dns_name(target if number == 0 else f"{target}-{server.port}"), server
