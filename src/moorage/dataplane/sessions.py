"""Learned sessions, which pin clients to endpoints: read back from the kernel, and put right. Pure but `read`."""

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from moorage.dataplane.model import Key, NodeState, Target
from moorage.dataplane.nft import Nft
from moorage.dataplane.ruleset import TABLE, text

CHUNK = 500
"""Sessions in one transaction; each is named up to three times."""


class Session(NamedTuple):
    """A client's pin to an endpoint of a Service, on one node."""

    client: str
    key: Key
    target: Target
    timeout: int
    """Seconds that it lasts after the client's last new connection."""
    left: int
    """Seconds until it is forgotten if the client does not connect again."""


class Correction(NamedTuple):
    """A session that the state no longer bears out: to forget, or to keep for another time."""

    session: Session
    timeout: int = 0
    """The new timeout in seconds; 0: forget the session."""
    left: int = 0


async def read(nft: Nft) -> list[Session]:
    """All sessions of the node. Raises NftError."""
    sessions = []
    for name in ("sessions4", "sessions6"):
        for key, value, timeout, expires, _ in await nft.elements(name):
            client, address, protocol, port = key
            assert isinstance(value, tuple)
            service = Key(str(address), str(protocol), int(port))
            target = Target(str(value[0]), int(value[1]))
            sessions.append(Session(str(client), service, target, timeout or 0, expires or 0))
    return sessions


def corrections(
    sessions: Iterable[Session], state: NodeState, keys: Collection[Key] | None = None
) -> list[Correction]:
    """What to change so that every session is one that the state could have made.

    `keys`: look only at sessions of these; None: at all. A session to an endpoint that is not in use, or of a
    Service without affinity, is forgotten. One made under another timeout keeps its age: a shorter timeout can end
    it, a longer one prolongs it.
    """
    result = []
    for session in sessions:
        if keys is not None and session.key not in keys:
            continue
        port = state.get(session.key)
        timeout = port.affinity_seconds if port and session.target in port.targets else 0
        if timeout == session.timeout:
            continue
        left = _left(session, timeout)
        result.append(Correction(session, timeout, left) if left > 0 else Correction(session))
    return result


def _left(session: Session, timeout: int) -> int:
    """Seconds that a session made under another timeout has left under this one.

    A connection that renews a session gives it the new timeout's seconds, while the kernel goes on showing the old
    timeout. What is left then exceeds the old timeout, or, with a shorter one, lies within the new: there a session
    so old that it should have ended looks the same, and has its last seconds.
    """
    if session.left > session.timeout or session.left <= timeout < session.timeout:
        return min(max(session.left, 1), timeout)
    return timeout - (session.timeout - session.left)


def scripts(corrections: list[Correction]) -> Iterator[str]:
    """Transactions that carry the corrections out.

    Deleting an element that has just expired would fail the whole transaction; adding it first (which changes
    nothing where it is still there) makes the deletion safe. A client that was pinned anew in between makes the
    addition fail instead: then read again.
    """
    for start in range(0, len(corrections), CHUNK):
        chunk = corrections[start : start + CHUNK]
        lines = []
        for family in (4, 6):
            those = [each for each in chunk if each.session.key.family == family]
            kept = [
                f"{_key(each.session)} timeout {each.timeout}s expires {each.left}s : {_target(each.session)}"
                for each in those
                if each.timeout
            ]
            for command, elements in (
                ("add", [f"{_key(each.session)} : {_target(each.session)}" for each in those]),
                ("delete", [_key(each.session) for each in those]),
                ("add", kept),
            ):
                if elements:
                    lines.append(f"{command} element {TABLE} sessions{family} {{ {', '.join(elements)} }}")
        yield "\n".join(lines) + "\n"


def _key(session: Session) -> str:
    return f"{session.client} . {text(session.key)}"


def _target(session: Session) -> str:
    return f"{session.target.address} . {session.target.port}"
