"""Sources of endpoints in a process of their own: the operator's side."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from msgspec.structs import replace

from moorage.api.meta import ObjectKey
from moorage.api.moorage_v1alpha1 import ExternalServicePort
from moorage.api.sources_v1alpha1 import EndpointSource
from moorage.cluster.clock import timestamp
from moorage.cluster.reflector import ListWatch
from moorage.core.admission import Gate, Ranges
from moorage.core.model import Problem
from moorage.discovery.secrets import ReadSecret, SecretKey, Secrets, WatchedSecret
from moorage.discovery.shared import Shared
from moorage.discovery.source import Setting, State
from moorage.discovery.sources import FollowedSources
from moorage.outside.link import Link, Start
from moorage.outside.sources_messages import (
    Follow,
    FromSources,
    RemoveSecret,
    SecretContent,
    SetGate,
    SetOwnAddresses,
    SetSecret,
    SourceState,
    Unfollow,
)

_GATE, _OWN = "gate", "own"
ADDRESSES_PER_MESSAGE = 2000
"""A large cluster has a hundred thousand pods."""


class _RemoteSource:
    """A source that the child follows, and its last report."""

    def __init__(self, follower: "RemoteFollower", follow: Follow, setting: Setting) -> None:
        self.on_change = setting.on_change
        self._follower = follower
        self._follow = follow
        self._known = State()

    @property
    def state(self) -> State:
        problem = self._follower.problem
        return self._known._replace(problem=problem) if problem else self._known

    def set_ports(self, ports: Sequence[ExternalServicePort]) -> None:
        if ports != self._follow.ports:
            self._follow = replace(self._follow, ports=ports)
            self._follower.send(self)

    def set_failing(self, addresses: Mapping[str, str]) -> None:
        if addresses != self._follow.failing:
            self._follow = replace(self._follow, failing=dict(addresses))
            self._follower.send(self)

    def stop(self) -> None:
        self._follower.stop(self)

    @property
    def number(self) -> int:
        return self._follow.number

    @property
    def secret(self) -> SecretKey | None:
        """The key of a Secret that the child needs for it."""
        return secret_of(self._follow.namespace, self._follow.entry)

    def messages(self) -> Iterator[Follow]:
        """The message to the child. A new child keeps the addresses that the last one had chosen."""
        if self._known.endpoints is None:
            yield self._follow
        else:
            yield replace(self._follow, known={each.name: each.address for each in self._known.endpoints})

    def take(self, state: State) -> None:
        if state.endpoints is None:
            # A new child knows less than the one before.
            state = state._replace(endpoints=self._known.endpoints)
        if state != self._known:
            self._known = state
            self.on_change()


class RemoteFollower:
    """Follows sources in a child process, like `discovery.follower.LocalFollower` in this one.

    The child gets the content of the Secrets that they name, and the gate; it reads nothing from this cluster.
    """

    def __init__(
        self,
        start: Start[FromSources],
        gate: Callable[[], Gate],
        secrets: Secrets,
        *,
        restarted: Callable[[], None] = lambda: None,
        now: Callable[[], str] = timestamp,
    ) -> None:
        self._gate = gate
        self._secrets = secrets
        self._running: dict[int, _RemoteSource] = {}
        self._last = 0
        self._taken: dict[SecretKey, tuple[ReadSecret, Callable[[], None], set[int]]] = {}
        """Each with the callback that took it, and the sources that need it."""
        self._changed: set[str] = set()
        """Addresses of this cluster that the child does not know about yet."""
        self._link = Link(
            "sources",
            start,
            self._take,
            now=now,
            started=self._started,
            changed=self._problem_changed,
            restarted=restarted,
        )
        # First, so that no source of a new child connects to anything before the child knows what is allowed.
        self._link.set(_GATE, self._set_gate)
        self._link.set(_OWN, self._set_own_addresses)

    @property
    def problem(self) -> Problem | None:
        """Why the known endpoints may be out of date."""
        return self._link.problem

    def follow(self, namespace: str, label: str, entry: EndpointSource, setting: Setting) -> _RemoteSource:
        """As `discovery.sources.Follower`."""
        self._last += 1
        follow = Follow(
            self._last, namespace, label, entry, setting.families, tuple(setting.ports), {}, dict(setting.known)
        )
        remote = self._running[follow.number] = _RemoteSource(self, follow, setting)
        if key := remote.secret:
            self._need(key, remote.number)
        self.send(remote)
        return remote

    def gate_changed(self) -> None:
        """See `discovery.sources.Follower`. For single addresses there is `addresses_changed`."""
        self._link.set(_GATE, self._set_gate)

    def addresses_changed(self, addresses: Iterable[str]) -> None:
        """These addresses of this cluster now belong to something else."""
        self._changed.update(addresses)
        self._link.set(_OWN, self._set_own_addresses)

    async def close(self) -> None:
        """End everything, and wait for it."""
        await self._link.close()
        for key in list(self._taken):
            _, on_change, _ = self._taken.pop(key)
            self._secrets.give_back(key, on_change)

    # --- of its sources --------------------------------------------------------------------------------------------

    def send(self, remote: _RemoteSource) -> None:
        self._link.set(remote.number, remote.messages)

    def stop(self, remote: _RemoteSource) -> None:
        del self._running[remote.number]
        self._link.unset(remote.number, Unfollow(remote.number))
        if key := remote.secret:
            _, on_change, needed = self._taken[key]
            needed.discard(remote.number)
            if not needed:
                del self._taken[key]
                self._secrets.give_back(key, on_change)
                self._link.unset(key, RemoveSecret(key))

    # --- what is sent ----------------------------------------------------------------------------------------------

    def _need(self, key: SecretKey, number: int) -> None:
        if key not in self._taken:
            on_change = partial(self._send_secret, key)
            self._taken[key] = self._secrets.take(key, on_change), on_change, set()
            self._send_secret(key)
        self._taken[key][2].add(number)

    def _send_secret(self, key: SecretKey) -> None:
        self._link.set(key, partial(_set_secret, key, self._taken[key][0]))

    def _started(self) -> None:
        self._changed = set(self._gate().own)

    def _set_gate(self) -> Iterator[SetGate]:
        gate = self._gate()
        yield SetGate(_texts(gate.allowed), _texts(gate.refused))

    def _set_own_addresses(self) -> Iterator[SetOwnAddresses]:
        while self._changed:
            own = self._gate().own
            told = [self._changed.pop() for _ in range(min(len(self._changed), ADDRESSES_PER_MESSAGE))]
            yield SetOwnAddresses({address: own.get(address) for address in told})

    def _take(self, message: FromSources) -> None:
        assert isinstance(message, SourceState)
        if remote := self._running.get(message.number):
            remote.take(message.state)

    def _problem_changed(self) -> None:
        for remote in list(self._running.values()):
            remote.on_change()


class RemoteSources(FollowedSources):
    """The sources of all ExternalServices, followed by a child process."""

    def __init__(
        self,
        start: Start[FromSources],
        client: ListWatch,
        gate: Callable[[], Gate],
        on_change: Callable[[ObjectKey], None],
        *,
        account: str,
        restarted: Callable[[], None],
        now: Callable[[], str],
    ) -> None:
        """`client` reads Secrets of this cluster; `account` is who it is, for messages about what it may not."""
        self.secrets: Shared[SecretKey, WatchedSecret] = Shared(
            lambda key, changed: WatchedSecret(key, client, changed, now, account)
        )
        follower = RemoteFollower(start, gate, self.secrets, restarted=restarted, now=now)
        self.addresses_changed = follower.addresses_changed
        super().__init__(follower, on_change, now=now)


def secret_of(namespace: str, entry: EndpointSource) -> SecretKey | None:
    """The key of a Secret in `namespace` that an entry of `spec.endpoints` names."""
    if entry.cluster is None:
        return None
    ref = entry.cluster.kubeconfig_secret_ref
    return SecretKey(namespace, ref.name, ref.key)


def _set_secret(key: SecretKey, watched: ReadSecret) -> Iterator[SetSecret]:
    content, secret = None, watched.secret
    if secret is not None:
        content = SecretContent(secret.metadata.uid, secret.metadata.resource_version, secret.data or {})
    yield SetSecret(key, content, watched.problem)


def _texts(ranges: Ranges) -> list[tuple[str, str]]:
    return [(str(network), what) for network, what in ranges]
