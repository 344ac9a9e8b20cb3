"""Learned sessions, which pin clients to endpoints. Pure, except for `read` and `correct`."""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache, lru_cache

import msgspec
from msgspec.structs import replace

from moorage.dataplane.elements import MAX_SMALL, RawElement
from moorage.dataplane.layout import Layout, pack_address, unpack_address
from moorage.dataplane.model import MooringKey, ServiceAddress, ServicePort, Target, Unit, UnitKey, moored_to, port_of
from moorage.dataplane.nft import Nft, NftError, Word
from moorage.dataplane.schema import FAMILIES, OF_FAMILY, Container, Family, text

MAX_REMEMBERED = 4096
"""How many services and endpoints are remembered in the form in which the kernel has them."""

MAX_REFUSED = 100
"""How many transactions may be refused in one go."""


class Session(msgspec.Struct, frozen=True, gc=False, order=True):
    """A client's pin to an endpoint of a Service, on one node.

    Of fifty thousand most are only looked at, so the rest is decoded where it is asked for.
    """

    element: RawElement
    """As the kernel has it."""
    key: ServiceAddress
    target: Target

    @classmethod
    def of(cls, client: str, key: ServiceAddress, target: Target, timeout: int, left: int) -> "Session":
        """The session of that client (an address); `timeout` and `left` are as below."""
        packed = pack_address(client) + _LAYOUTS[key.family].service(key)
        value = _LAYOUTS[key.family].target(target)
        return cls(RawElement(packed, value, timeout * 1000, left * 1000), key, target)

    @property
    def client(self) -> str:
        """Its address."""
        return unpack_address(self.element.key[: _LAYOUTS[self.key.family].client_bytes])

    @property
    def timeout(self) -> int:
        """Seconds that it lasts after the client's last new connection."""
        return (self.element.timeout or 0) // 1000

    @property
    def left(self) -> int:
        """Seconds until it is forgotten if the client does not connect again."""
        return (self.element.expires or 0) // 1000

    @property
    def container(self) -> Container:
        """The map that it is in."""
        return OF_FAMILY[self.key.family].sessions

    @property
    def text(self) -> str:
        """Its key in that map, as nft writes it."""
        return text((self.client, *self.key))


class Correction(msgspec.Struct, frozen=True, gc=False):
    """A session that this state would not have made: it must be forgotten, or get another timeout."""

    session: Session
    timeout: int = 0
    """The new timeout in seconds; 0: forget the session."""
    left: int = 0


async def read(nft: Nft) -> list[Session]:
    """All sessions of the node. Raises NftError."""
    found: list[Session] = []
    for number, layout in _LAYOUTS.items():
        elements = await nft.learned(OF_FAMILY[number].sessions.name)
        # In a thread: 262,144 take a tenth of a second.
        found += await asyncio.to_thread(layout.read, elements)
    return found


async def correct(nft: Nft, corrections: Sequence[Correction], most: int = MAX_SMALL) -> NftError | None:
    """Make the corrections, at most so many in a transaction. Returns why one was refused; None if none was.

    Those whose client has been pinned to another endpoint since they were read are refused, and with them the others
    of their transaction: then read again. After MAX_REFUSED transactions the rest is left.
    """
    refused: list[NftError] = []
    for number in _LAYOUTS:
        those = [each for each in corrections if each.session.key.family == number]
        for start in range(0, len(those), most):
            chunk = those[start : start + most]
            old = [each.session.element for each in chunk]
            new = [
                replace(each.session.element, timeout=each.timeout * 1000, expires=each.left * 1000)
                for each in chunk
                if each.timeout
            ]
            try:
                await nft.relearn(OF_FAMILY[number].sessions.name, old, new)
            except NftError as error:
                refused.append(error)
                if len(refused) == MAX_REFUSED:
                    return error
    return refused[-1] if refused else None


class _Layout:
    """How sessions of one family lie in the kernel. Many have the same service and endpoint, which are remembered."""

    def __init__(self, family: Family) -> None:
        self.client_bytes = Layout([family.type]).size
        service, target = Layout([family.type, "inet_proto", "inet_service"]), Layout([family.type, "inet_service"])
        self._read_service = lru_cache(MAX_REMEMBERED)(lambda data: _service(*service.unpack(data)))
        self._read_target = lru_cache(MAX_REMEMBERED)(lambda data: _target(*target.unpack(data)))
        self.service, self.target = service.pack, target.pack

    def read(self, elements: Iterable[RawElement]) -> list[Session]:
        """The sessions."""
        start, service, target = self.client_bytes, self._read_service, self._read_target
        return [Session(each, service(each.key[start:]), target(each.value)) for each in elements]


_LAYOUTS = {family.number: _Layout(family) for family in FAMILIES}


def _service(address: Word, protocol: Word, port: Word) -> ServiceAddress:
    return ServiceAddress(str(address), str(protocol), int(port))


def _target(address: Word, port: Word) -> Target:
    return Target(str(address), int(port))


def corrections(
    sessions: Iterable[Session],
    state: Mapping[UnitKey, Unit],
    keys: Collection[ServiceAddress] | None = None,
    moved: Collection[MooringKey] = (),
) -> list[Correction]:
    """The corrections after which every session is one that the state could have made.

    `keys`: look only at their sessions, and at those of `moved`; None: at all. A session with an endpoint that is not
    in use, or of a Service without affinity, is forgotten. A session that was made under another timeout keeps its
    age: a shorter timeout can end it, a longer one prolongs it. `moved`: clients whose mooring has moved; their
    session goes unless it is one with the new endpoint.
    """
    usual = cache(lambda key, target: _timeout(port_of(state, key), target))  # many sessions have the same two
    result = []
    for session in sessions:
        key, target = session.key, session.target
        has_moved = bool(moved) and MooringKey(session.client, key) in moved
        if keys is not None and key not in keys and not has_moved:
            continue
        timeout = usual(key, target)
        if has_moved and target != moored_to(state, MooringKey(session.client, key)):
            timeout = 0
        if timeout == session.timeout:
            continue
        left = _left(session, timeout) if timeout else 0
        result.append(Correction(session, timeout, left) if left > 0 else Correction(session))
    return result


def _timeout(port: ServicePort | None, target: Target) -> int:
    """Seconds of the sessions that this port makes with that endpoint; 0: it makes none."""
    return (port.affinity.session_seconds or 0) if port and target in port.targets else 0


def _left(session: Session, timeout: int) -> int:
    """Seconds that a session made under another timeout has left under this one.

    A connection that renews a session gives it the seconds of the new timeout, but the kernel goes on showing the old
    timeout. With a longer new timeout, the seconds left then exceed the old one. With a shorter one they lie within
    the new: a session so old that it should have ended looks the same, so it gets its last seconds.
    """
    if session.left > session.timeout or session.left <= timeout < session.timeout:
        return min(max(session.left, 1), timeout)
    return timeout - (session.timeout - session.left)
