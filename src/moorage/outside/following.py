"""The child process for sources: follows them and reports what they find."""

from collections.abc import Callable
from functools import partial
from ipaddress import ip_network

from moorage.api.core_v1 import Secret
from moorage.api.meta import ObjectMeta
from moorage.cluster.clock import timestamp
from moorage.core.admission import Gate, Ranges
from moorage.core.model import Problem
from moorage.discovery.follower import LocalFollower
from moorage.discovery.resolver import Names
from moorage.discovery.secrets import ReadSecret, SecretKey
from moorage.discovery.source import Setting
from moorage.discovery.sources import FollowedSource
from moorage.outside.channel import Channel, Coalesced
from moorage.outside.sources_messages import (
    Follow,
    RemoveSecret,
    SecretContent,
    SetGate,
    SetOwnAddresses,
    SetSecret,
    SourceState,
    ToSources,
    Unfollow,
)

_EVERYTHING = Ranges((ip_network(each), "not known to be outside this cluster yet") for each in ("0.0.0.0/0", "::/0"))


class SourcesWorker:
    """Follows the sources that the operator sends, and reports what they find."""

    def __init__(self, channel: Channel[ToSources], names: Names, now: Callable[[], str] = timestamp) -> None:
        self._channel = channel
        self._now = now
        self._own: dict[str, str] = {}
        self.gate = Gate(refused=_EVERYTHING, own=self._own)
        self._secrets = ReceivedSecrets()
        self.follower = LocalFollower(names, lambda: self.gate, self._secrets, now)
        self._running: dict[int, FollowedSource] = {}
        self._news: dict[int, None] = {}
        self._flush_soon = Coalesced(self._flush, 0.0)

    def take(self, message: ToSources) -> None:
        match message:
            case Follow():
                self._follow(message)
            case Unfollow(number):
                self._news.pop(number, None)
                if running := self._running.pop(number, None):
                    running.stop()
            case SetSecret(key, content, problem):
                self._secrets.tell(key, content, problem)
            case RemoveSecret(key):
                self._secrets.forget(key)
            case SetGate(allowed, refused):
                self.gate = Gate(_ranges(allowed), _ranges(refused), self._own)
                self.follower.gate_changed()
            case SetOwnAddresses(what):
                for address, kind in what.items():
                    if kind is None:
                        self._own.pop(address, None)
                    else:
                        self._own[address] = kind
                self.follower.gate_changed()

    async def close(self) -> None:
        await self.follower.close()

    def _follow(self, message: Follow) -> None:
        number = message.number
        if number not in self._running:
            changed = partial(self._changed, number)
            setting = Setting(changed, message.families, message.ports, message.known, self._now)
            self._running[number] = self.follower.follow(message.namespace, message.label, message.entry, setting)
        self._running[number].set_ports(message.ports)
        self._running[number].set_failing(message.failing)

    def _changed(self, number: int) -> None:
        if number in self._running:
            self._news[number] = None
            self._flush_soon()

    def _flush(self) -> bool:
        while self._news and not self._channel.full:
            number = next(iter(self._news))
            del self._news[number]
            self._channel.send(SourceState(number, self._running[number].state))
        return not self._news


class ReceivedSecret(ReadSecret):
    """A key of a Secret, as the operator sent it."""

    def __init__(self, key: SecretKey) -> None:
        super().__init__(key)
        self.listeners: list[Callable[[], None]] = []
        self._secret: Secret | None = None
        self._problem: Problem | None = None

    @property
    def secret(self) -> Secret | None:
        return self._secret

    @property
    def problem(self) -> Problem | None:
        return self._problem

    def tell(self, content: SecretContent | None, problem: Problem | None) -> None:
        namespace, name, _ = self._key
        self._secret, self._problem = None, problem
        if content is not None:
            meta = ObjectMeta(name=name, namespace=namespace, uid=content.uid, resource_version=content.version)
            self._secret = Secret(metadata=meta, data=content.data)
        self._made.clear()
        for each in tuple(self.listeners):
            each()


class ReceivedSecrets:
    """The keys of Secrets that the operator has sent or will send."""

    def __init__(self) -> None:
        self._known: dict[SecretKey, ReceivedSecret] = {}

    def take(self, key: SecretKey, on_change: Callable[[], None]) -> ReceivedSecret:
        """As `discovery.secrets.Secrets`."""
        given = self._known.setdefault(key, ReceivedSecret(key))
        given.listeners.append(on_change)
        return given

    def give_back(self, key: SecretKey, on_change: Callable[[], None]) -> None:
        """As `discovery.secrets.Secrets`."""
        given = self._known.get(key)
        if given is not None and on_change in given.listeners:
            given.listeners.remove(on_change)

    def tell(self, key: SecretKey, content: SecretContent | None, problem: Problem | None) -> None:
        self._known.setdefault(key, ReceivedSecret(key)).tell(content, problem)

    def forget(self, key: SecretKey) -> None:
        """Drop it: no source needs it any more."""
        self._known.pop(key, None)


def _ranges(texts: list[tuple[str, str]]) -> Ranges:
    return Ranges((ip_network(text), what) for text, what in texts)
