"""DNS look-ups: one question, one answer with its time to live."""

import asyncio
import os
import random
import re
import struct
from collections.abc import Callable
from contextvars import ContextVar
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import dns.exception
import dns.name
import dns.rcode
import dns.resolver

from moorage.api.show import show
from moorage.cluster.pace import Pace
from moorage.discovery import wire
from moorage.discovery.asking import Ask, ask_by_tcp, ask_by_udp
from moorage.discovery.wire import MalformedError, Message, Name, Record
from moorage.errors import MoorageError

PORT = 53
MIN_TTL_SECONDS, MAX_TTL_SECONDS = 1.0, 300.0
"""How long an answer is used at least and at most, whatever its TTL."""
DEFAULT_TTL_SECONDS = 30.0
"""How long an empty answer is used that has no SOA record, and so no TTL (RFC 2308, section 5)."""
RECORDS_PER_SECOND = 100
"""An answer with more is used for longer than its TTL says: it may have four thousand records."""
RECORDS_PER_QUESTION = 50
"""Reading so many records, of whatever type, costs as much as asking one more question."""
MAX_CNAMES = 8
"""Followed one after the other if the name server does not follow them itself."""

_PLAIN = re.compile(rb"[a-z0-9_.-]+")

AddressType = Literal["A", "AAAA"]

account: ContextVar[Callable[[float], object] | None] = ContextVar("account", default=None)
"""Called after each answer with how many further questions it counts as. Set it in the task that does the look-up."""


class LookupFailedError(MoorageError):
    """No name server said which records there are, or that there are none."""


class _FailedError(Exception):
    """One name server gave no answer. The text is for people; it comes after the server's address."""


class Addresses(NamedTuple):
    """The addresses in A or AAAA records; none if there is no such record or no such name."""

    addresses: tuple[str, ...]
    """In canonical spelling, lowest first."""
    ttl: float
    """Seconds for which it may be used: the lowest TTL of the chain, more for a large answer, within the bounds."""


class Server(NamedTuple):
    """An SRV record (RFC 2782)."""

    priority: int
    weight: int
    port: int
    target: str
    """Lower case, without the last dot; "" for the root, which means that there is no such service."""


class Servers(NamedTuple):
    """The SRV records of a name, sorted."""

    servers: tuple[Server, ...]
    ttl: float


class Names(Protocol):
    """Answers look-ups. All methods raise LookupFailedError."""

    async def addresses(self, name: str, type: AddressType) -> Addresses: ...

    async def servers(self, name: str) -> Servers: ...


class Resolver:
    """Asks the machine's name servers, from `resolv_conf`, which is read again when it changes.

    Names are absolute, and there is no search list: with one, `db` would be another name in every namespace, and an
    NXDOMAIN would only be one of several answers. Questions use EDNS, so that answers of 1,232 bytes fit into a
    datagram; larger ones are fetched over TCP. At most `at_once` questions run at the same time, each for at most
    `lifetime` seconds. There are at most `a_second` questions a second, after a burst of as many; the others wait,
    even beyond their TTL, because each costs about half a millisecond of processor time, which others need, too. The
    records of an answer count as well.
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
        """`name_servers` (address and port) are asked instead of those in `resolv_conf`; `timeout` seconds each
        time."""
        self._resolv_conf = resolv_conf
        self._name_servers = name_servers
        self._lifetime, self._timeout = lifetime, timeout
        self._slots = asyncio.Semaphore(at_once)
        self._pace = Pace(a_second, burst=a_second)
        self._configured: tuple[tuple[str, int], ...] = ()
        self._read_as: tuple[int, ...] | None = None

    async def addresses(self, name: str, type: AddressType) -> Addresses:
        """The addresses of `name`. Raises LookupFailedError."""
        message, records, ttl = await self._look_up(name, type)
        size = 4 if type == "A" else 16
        found = sorted({ip_address(data) for each in records if len(data := message.data(each)) == size}, key=int)
        return Addresses(tuple(map(str, found)), ttl)

    async def servers(self, name: str) -> Servers:
        """The SRV records of `name`. Raises LookupFailedError."""
        message, records, ttl = await self._look_up(name, "SRV")
        try:
            found = {_server(message, each) for each in records}
        except (MalformedError, struct.error):
            raise LookupFailedError(f"{show(name)} SRV: an answer that cannot be understood") from None
        return Servers(tuple(sorted(found)), ttl)

    async def _look_up(self, name: str, type: str) -> tuple[Message, list[Record], float]:
        await self._pace.turn()
        async with self._slots:
            try:
                labels = dns.name.from_text(name).labels
                return await self._follow(b"".join(bytes([len(each)]) + each for each in labels[:-1]).lower(), type)
            except MalformedError:
                why = "an answer that cannot be understood"
            except dns.exception.DNSException as error:
                why = show(str(error))
            except MoorageError as error:
                why = str(error)
        raise LookupFailedError(f"{show(name)} {type}: {why}")

    async def _follow(self, name: Name, type: str) -> tuple[Message, list[Record], float]:
        least = MAX_TTL_SECONDS
        kind = getattr(wire, type)
        for _ in range(MAX_CNAMES):
            message = await self._ask(name, kind)
            asked, found = name, message.answers(kind)
            while records := found.pop(name, None):
                least = min([least, *(each.ttl for each in records)])
                answers = [each for each in records if each.type == kind]
                if answers:
                    return message, answers, max(MIN_TTL_SECONDS, least, message.records / RECORDS_PER_SECOND)
                name = message.name_in(records[0])
            referral, nothing = message.authority()
            if message.rcode == wire.NOERROR and nothing is None:
                if referral:  # it says whom else to ask, not that there is nothing (RFC 2308, 2.2)
                    raise MoorageError("the name server only refers to others; use a recursive one")
                if name != asked:
                    continue
            return message, [], max(MIN_TTL_SECONDS, min(least, DEFAULT_TTL_SECONDS if nothing is None else nothing))
        raise MoorageError("its chain of CNAME records does not end; shorten it")

    async def _ask(self, name: Name, type: int) -> Message:
        """The first answer that says which records there are, or that there are none."""
        servers = list(self._servers())
        if not servers:
            raise MoorageError(f"no name server is known; put one into {self._resolv_conf}")
        failures: dict[str, str] = {}
        pause = 0.1
        try:
            async with asyncio.timeout(self._lifetime):
                while servers:
                    for server in tuple(servers):
                        where = server[0] if server[1] == PORT else f"{server[0]} port {server[1]}"
                        try:
                            message = await self._exchange(server, name, type)
                        except TimeoutError:
                            failures[where] = f"{where}: no answer"
                            continue
                        except _FailedError as failed:
                            failures[where] = f"{where}: {failed}"
                        else:
                            if message.rcode in (wire.NOERROR, wire.NXDOMAIN):
                                return message
                            failures[where] = (
                                f"{where} answered {dns.rcode.to_text(dns.rcode.Rcode.make(message.rcode))}"
                            )
                        servers.remove(server)
                    if servers:
                        await asyncio.sleep(pause)
                        pause *= 2
        except TimeoutError:
            asked = ", ".join(failures) or ", ".join(each for each, _ in servers)
            raise MoorageError(f"no answer from {asked} within {self._lifetime:g} s; can it be reached?") from None
        raise MoorageError("; ".join(failures.values()))

    async def _exchange(self, server: tuple[str, int], name: Name, type: int) -> Message:
        """One server's answer. Raises TimeoutError, _FailedError."""
        message = await self._once(ask_by_udp, server, name, type, edns=True)
        if message.rcode in (dns.rcode.FORMERR, dns.rcode.NOTIMP):
            message = await self._once(ask_by_udp, server, name, type, edns=False)  # RFC 6891, 7
        if not message.truncated:
            return message
        try:
            return await self._once(ask_by_tcp, server, name, type, edns=True)
        except (TimeoutError, _FailedError) as error:
            why = str(error) or "no answer"
            raise _FailedError(f"the answer is too large for UDP, and there is none over TCP: {why}") from None

    async def _once(self, ask: Ask, server: tuple[str, int], name: Name, type: int, *, edns: bool) -> Message:
        id = random.SystemRandom().randrange(2**16)

        def fits(data: bytes) -> Message | None:
            try:
                message = Message(data)
            except MalformedError:
                return None
            good = message.rcode in (wire.NOERROR, wire.NXDOMAIN)
            asked = message.asked == (name, type, wire.CLASS_IN) or (message.asked is None and not good)
            return message if message.id == id and asked else None

        try:
            async with asyncio.timeout(self._timeout):
                message = await ask(server, wire.question(id, name, type, edns=edns), fits)
        except MalformedError:
            raise _FailedError("an answer that cannot be understood") from None
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise
            raise _FailedError(error.strerror or str(error)) from None
        cost = message.records / RECORDS_PER_QUESTION
        self._pace.take(cost)
        if (told := account.get()) is not None:
            told(cost)
        return message

    def _servers(self) -> tuple[tuple[str, int], ...]:
        if self._name_servers:
            return self._name_servers
        state = self._state()
        if state != self._read_as:
            self._read_as = state
            self._configured = _name_servers(self._resolv_conf)
        return self._configured

    def _state(self) -> tuple[int, ...]:
        try:
            found = os.stat(self._resolv_conf)
        except OSError:
            return ()
        return found.st_mtime_ns, found.st_ino, found.st_size


def _name_servers(resolv_conf: Path) -> tuple[tuple[str, int], ...]:
    try:
        return tuple((str(each), PORT) for each in dns.resolver.Resolver(str(resolv_conf)).nameservers)
    except dns.resolver.NoResolverConfiguration:
        return ()


def _server(message: Message, record: Record) -> Server:
    priority, weight, port = struct.unpack_from("!HHH", message.data(record))
    return Server(priority, weight, port, _text(message.name_in(record, 6)))


def _text(name: Name) -> str:
    parts = wire.labels(name)
    text = b".".join(parts)
    if _PLAIN.fullmatch(text) and text.count(b".") == len(parts) - 1:
        return text.decode()
    return dns.name.Name((*parts, b"")).to_text().rstrip(".")
