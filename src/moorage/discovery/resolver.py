"""Look-ups in the DNS: one question, one answer with its time to live."""

import asyncio
import os
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import dns.asyncresolver
import dns.exception
import dns.message
import dns.name
import dns.nameserver
import dns.rcode
import dns.rdatatype
import dns.resolver

from moorage.api.show import show
from moorage.cluster.pace import Pace
from moorage.errors import MoorageError

SHORTEST, LONGEST = 1.0, 300.0
"""Seconds: bounds of how long an answer is used, whatever its TTL."""
UNSAID = 30.0
"""Seconds that an empty answer is used which has no SOA record, so no TTL (RFC 2308, 5)."""
RECORDS_A_SECOND = 100
"""Of an answer: to read the four thousand that one may have takes as long as a hundred checks or more, so one that is
that large is used for longer than its TTL says."""
MOST_CHAINED = 8
"""CNAMEs that are looked up one by one, where the name server does not follow them itself."""

AddressType = Literal["A", "AAAA"]


class LookupFailedError(MoorageError):
    """No answer: no name server said what records there are, nor that there are none."""


class _ReferralError(dns.exception.DNSException):
    """The name server only said whom else to ask."""


class Addresses(NamedTuple):
    """What A or AAAA records say; none: the name has no such record, or there is no such name."""

    addresses: tuple[str, ...]
    """Each in its canonical spelling, lowest first."""
    ttl: float
    """Seconds that it may be used, from `SHORTEST` to `LONGEST`: the least of the chain's TTLs; more if large."""


class Server(NamedTuple):
    """An SRV record (RFC 2782)."""

    priority: int
    weight: int
    port: int
    target: str
    """Lower case, without the last dot; "" for the root, which says that there is no such service."""


class Servers(NamedTuple):
    """What SRV records say; sorted."""

    servers: tuple[Server, ...]
    ttl: float


class Names(Protocol):
    """Who answers look-ups. Raises LookupFailedError."""

    async def addresses(self, name: str, type: AddressType) -> Addresses: ...

    async def servers(self, name: str) -> Servers: ...


class Resolver:
    """Asks the machine's name servers, those of `resolv_conf`, which is read again when it changes.

    Names are absolute, no search list is gone through: `db` would otherwise be another name in every namespace, and
    an NXDOMAIN would only be one of several answers. An answer that does not fit into a datagram is asked for over
    TCP. At most `at_once` questions are under way together, each for at most `lifetime` seconds; of more than
    `a_second` that are to be asked, after a burst of as many, some are asked later than their TTL says: one costs
    about half a millisecond of the processor, which others need too.
    """

    def __init__(
        self,
        resolv_conf: Path = Path("/etc/resolv.conf"),
        *,
        name_servers: tuple[tuple[str, int], ...] = (),
        lifetime: float = 5.0,
        timeout: float = 2.0,
        at_once: int = 128,
        a_second: float = 200.0,
    ) -> None:
        """`name_servers` (address and port) are asked in place of `resolv_conf`'s; `timeout` seconds each time."""
        self._resolv_conf = resolv_conf
        self._name_servers = name_servers
        self._lifetime, self._timeout = lifetime, timeout
        self._slots = asyncio.Semaphore(at_once)
        self._pace = Pace(a_second, burst=a_second)
        self._resolver: dns.asyncresolver.Resolver | None = None
        self._read_as: tuple[int, ...] | None = None

    async def addresses(self, name: str, type: AddressType) -> Addresses:
        """The addresses of `name`. Raises LookupFailedError."""
        records, ttl = await self._look_up(name, type)
        found = sorted({ip_address(record.address) for record in records}, key=int)
        return Addresses(tuple(map(str, found)), ttl)

    async def servers(self, name: str) -> Servers:
        """The SRV records of `name`. Raises LookupFailedError."""
        records, ttl = await self._look_up(name, "SRV")
        found = {
            Server(record.priority, record.weight, record.port, record.target.to_text(omit_final_dot=True).lower())
            for record in records
        }
        return Servers(tuple(sorted(each._replace(target=each.target.rstrip(".")) for each in found)), ttl)

    async def _look_up(self, name: str, type: str) -> tuple[list[Any], float]:
        await self._pace.turn()
        async with self._slots:
            try:
                return await self._follow(dns.name.from_text(name), type)
            except dns.exception.DNSException as error:
                raise LookupFailedError(f"{show(name)} {type}: {self._why(error)}") from None
            finally:
                _end_if_cancelled()

    async def _follow(self, name: dns.name.Name, type: str) -> tuple[list[Any], float]:
        least = LONGEST
        for _ in range(MOST_CHAINED):
            response = await self._ask(name, type)
            chain = response.resolve_chaining()
            least = min(least, float(chain.minimum_ttl))
            if chain.answer is not None:
                return list(chain.answer), max(SHORTEST, least, len(chain.answer) / RECORDS_A_SECOND)
            kinds = {rrset.rdtype for rrset in response.authority}
            if response.rcode() == dns.rcode.NOERROR and dns.rdatatype.SOA not in kinds:
                if dns.rdatatype.NS in kinds:  # whom else to ask, not that there is nothing (RFC 2308, 2.2)
                    raise _ReferralError
                if chain.canonical_name != name:
                    name = chain.canonical_name
                    continue
            if dns.rdatatype.SOA not in kinds:
                least = min(least, UNSAID)
            return [], max(SHORTEST, least)
        raise dns.message.ChainTooLong

    async def _ask(self, name: dns.name.Name, type: str) -> dns.message.QueryMessage:
        try:
            answer = await self._configured().resolve(
                name, type, raise_on_no_answer=False, search=False, lifetime=self._lifetime
            )
            return answer.response
        except dns.resolver.NXDOMAIN as error:
            response: dns.message.QueryMessage = error.response(name)  # type: ignore[no-untyped-call]
            return response

    def _configured(self) -> dns.asyncresolver.Resolver:
        state = self._state()
        if self._resolver is None or state != self._read_as:
            resolver = dns.asyncresolver.Resolver(str(self._resolv_conf), configure=not self._name_servers)
            if self._name_servers:
                resolver.nameservers = [dns.nameserver.Do53Nameserver(*each) for each in self._name_servers]
            resolver.timeout = self._timeout
            self._resolver, self._read_as = resolver, state
        return self._resolver

    def _state(self) -> tuple[int, ...]:
        if self._name_servers:
            return ()
        try:
            found = os.stat(self._resolv_conf)
        except OSError:
            return ()
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _why(self, error: dns.exception.DNSException) -> str:
        match error:
            case dns.resolver.NoResolverConfiguration():
                return f"no name server is known; put one into {self._resolv_conf}"
            case dns.resolver.LifetimeTimeout():
                asked = ", ".join(_asked(error)) or "any name server"
                return f"no answer from {asked} within {self._lifetime:g} s; can it be reached?"
            case dns.resolver.NoNameservers():
                return "; ".join(_asked(error, with_answer=True)) or "no name server is known"
            case _ReferralError():
                return "the name server only names others to ask; name a recursive one"
            case dns.message.ChainTooLong():
                return "its CNAME records lead on and on; end the chain"
            case _:
                return show(str(error) or type(error).__name__)


def _end_if_cancelled() -> None:
    """dnspython waits with `asyncio.wait_for`, which before Python 3.12 loses a cancellation that comes at the same
    time as the answer: whoever cancels a source once would wait for it for ever."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _asked(error: dns.exception.DNSException, *, with_answer: bool = False) -> list[str]:
    """Each name server that was asked, and what came of it, once."""
    found: dict[str, str] = {}
    for server, _, port, what, _ in error.kwargs.get("errors") or ():
        address = server.partition(":")[2].rpartition("@")[0] or server
        where = address if port == 53 else f"{address} port {port}"
        found[where] = f"{where} answered {what}" if isinstance(what, str) else f"{where}: {_words(what)}"
    return [answer if with_answer else where for where, answer in found.items()]


def _words(error: Exception) -> str:
    if isinstance(error, dns.exception.Timeout):
        return "no answer"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "an answer that makes no sense"
