"""Learned sessions, which pin clients to endpoints: reads and corrects them. Pure, except for `read`."""

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from moorage.dataplane.model import NodeState, ServiceAddress, Target
from moorage.dataplane.nft import Nft
from moorage.dataplane.schema import OF_FAMILY, TABLE, Container, service_of, text

MAX_CORRECTIONS = 500
"""How many sessions one transaction corrects; it names each of them up to three times."""


class Session(NamedTuple):
    """A client's pin to an endpoint of a Service, on one node."""

    client: str
    key: ServiceAddress
    target: Target
    timeout: int
    """Seconds that it lasts after the client's last new connection."""
    left: int
    """Seconds until it is forgotten if the client does not connect again."""

    @property
    def container(self) -> Container:
        """The map that it is in."""
        return OF_FAMILY[self.key.family].sessions

    @property
    def text(self) -> str:
        """Its key in that map, as nft writes it."""
        return text((self.client, *self.key))


class Correction(NamedTuple):
    """A session that this state would not have made: it must be forgotten, or get another timeout."""

    session: Session
    timeout: int = 0
    """The new timeout in seconds; 0: forget the session."""
    left: int = 0


async def read(nft: Nft) -> list[Session]:
    """All sessions of the node. Raises NftError."""
    sessions = []
    for containers in OF_FAMILY.values():
        for key, value, timeout, expires, _ in await nft.elements(containers.sessions.name):
            assert isinstance(value, tuple)
            address, port = value
            service, target = service_of(containers.sessions, key), Target(str(address), int(port))
            sessions.append(Session(str(key[0]), service, target, timeout or 0, expires or 0))
    return sessions


def corrections(
    sessions: Iterable[Session], state: NodeState, keys: Collection[ServiceAddress] | None = None
) -> list[Correction]:
    """The corrections after which every session is one that the state could have made.

    `keys`: look only at their sessions; None: at all. A session with an endpoint that is not in use, or of a Service
    without affinity, is forgotten. A session that was made under another timeout keeps its age: a shorter timeout can
    end it, a longer one prolongs it.
    """
    result = []
    for session in sessions:
        if keys is not None and session.key not in keys:
            continue
        port = state.get(session.key)
        timeout = (port.affinity.session_seconds or 0) if port and session.target in port.targets else 0
        if timeout == session.timeout:
            continue
        left = _left(session, timeout)
        result.append(Correction(session, timeout, left) if left > 0 else Correction(session))
    return result


def _left(session: Session, timeout: int) -> int:
    """Seconds that a session made under another timeout has left under this one.

    A connection that renews a session gives it the seconds of the new timeout, but the kernel goes on showing the old
    timeout. With a longer new timeout, the seconds left then exceed the old one. With a shorter one they lie within
    the new: a session so old that it should have ended looks the same, so it gets its last seconds.
    """
    if session.left > session.timeout or session.left <= timeout < session.timeout:
        return min(max(session.left, 1), timeout)
    return timeout - (session.timeout - session.left)


def scripts(corrections: list[Correction]) -> Iterator[str]:
    """Transactions that make the corrections.

    Deleting an element that has just expired would make the whole transaction fail; adding it first (which changes
    nothing if it still exists) makes the deletion safe. If the client has been pinned again in between, the addition
    fails: then read again.
    """
    for start in range(0, len(corrections), MAX_CORRECTIONS):
        chunk = corrections[start : start + MAX_CORRECTIONS]
        lines = []
        for family, containers in OF_FAMILY.items():
            those = [each for each in chunk if each.session.key.family == family]
            kept = [
                f"{each.session.text} timeout {each.timeout}s expires {each.left}s : {_target(each.session)}"
                for each in those
                if each.timeout
            ]
            for command, elements in (
                ("add", [f"{each.session.text} : {_target(each.session)}" for each in those]),
                ("delete", [each.session.text for each in those]),
                ("add", kept),
            ):
                if elements:
                    lines.append(f"{command} element {TABLE} {containers.sessions.name} {{ {', '.join(elements)} }}")
        yield "\n".join(lines) + "\n"


def _target(session: Session) -> str:
    return text(session.target)
