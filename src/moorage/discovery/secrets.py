"""Watches Secrets of tenants, each by its name: a Role in the tenant's namespace is enough for that."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

from moorage.api.core_v1 import Secret
from moorage.api.meta import ObjectKey, ObjectMeta
from moorage.cluster.errors import ApiError, one_line
from moorage.cluster.reflector import ListWatch, Reflector
from moorage.core.model import Problem
from moorage.discovery.watched import MonitoredWatch
from moorage.errors import MoorageError

R = TypeVar("R")

MAX_VALUE_BYTES = 64 * 2**10
"""Of a kubeconfig, or of some forty certificates. Reading and keeping them takes time and memory that all share, and
a Secret may have a MiB."""
_MAX_BASE64_CHARACTERS = (MAX_VALUE_BYTES // 3 + 1) * 4
"""How much of a value is kept: enough to see that it is too large."""
_MAX_NAMES = 5


class SecretKey(NamedTuple):
    """A key of a Secret."""

    namespace: str
    name: str
    key: str


OPERATOR = "moorage-system:moorage-operator"
"""Namespace and name of the operator's service account, as `deploy/operator` has them."""


class ReadSecret(ABC):
    """One key of a Secret, and its content as long as it may be read."""

    def __init__(self, key: SecretKey) -> None:
        self._key = key
        self._made: dict[Callable[[Secret, str], Any], Any] = {}

    @property
    @abstractmethod
    def secret(self) -> Secret | None:
        """The Secret; None if it does not exist or may no longer be read.

        It has only the value of the key, which may be cut if it has more than `MAX_VALUE_BYTES`, and the names of
        the first other keys.
        """

    @property
    @abstractmethod
    def problem(self) -> Problem | None:
        """Why there is no Secret; also None before the first answer."""

    def once(self, make: Callable[[Secret, str], R]) -> R:
        """The result of `make` for the existing Secret and the key. It is called once for each version of the Secret.

        All who follow the Secret share the result. `make` must not raise.
        """
        if make not in self._made:
            assert self.secret is not None
            self._made[make] = make(self.secret, self._key.key)
        made: R = self._made[make]
        return made


class Secrets(Protocol):
    """Follows keys of Secrets, each as long as somebody has taken it."""

    def take(self, key: SecretKey, on_change: Callable[[], None]) -> ReadSecret: ...

    def give_back(self, key: SecretKey, on_change: Callable[[], None]) -> None: ...


class WatchedSecret(ReadSecret):
    """One key of a Secret, read from the API server."""

    def __init__(
        self, key: SecretKey, client: ListWatch, on_change: Callable[[], None], now: Callable[[], str], account: str
    ) -> None:
        """`account` is the operator's own service account, such as `moorage-system:moorage-operator`."""
        super().__init__(key)
        self._now = now
        self._account = account
        self._on_change = on_change
        self._watched = MonitoredWatch(client, on_change, now)
        self._reflector = Reflector(
            self._watched,
            Secret,
            key.namespace,
            field_selector=f"metadata.name={key.name}",
            on_change=lambda change: self._changed(change.new),
            transform=self._slim,
        )
        self._missing_since = now()

    @property
    def secret(self) -> Secret | None:
        if self._refused() is not None:
            return None
        return self._reflector.store.get(ObjectKey(self._key.namespace, self._key.name))

    @property
    def problem(self) -> Problem | None:
        where = f"Secret {self._key.namespace}/{self._key.name}"
        if refusal := self._refused():
            return Problem("SecretNotReadable", f"{where} may not be read by the operator; {self._grant()}", refusal)
        trouble = self._watched.trouble
        if not self._reflector.synced.is_set():
            return trouble and Problem("SecretNotReadable", f"{where}: {one_line(str(trouble.error))}", trouble.since)
        if self.secret is None:
            return Problem("SecretMissing", f"{where} does not exist; create it", self._missing_since)
        return None

    async def run(self) -> None:
        try:
            await self._reflector.run()
        finally:
            self._watched.close()

    def crashed(self, error: Exception) -> None:
        self._watched.failed(MoorageError(f"internal error: {type(error).__name__}; the operator's log has more"))

    def _refused(self) -> str | None:
        """Since when it may not be read; None: it may."""
        trouble = self._watched.trouble
        if trouble is not None and isinstance(trouble.error, ApiError) and trouble.error.status in (401, 403):
            return trouble.since
        return None

    def _grant(self) -> str:
        namespace, name, _ = self._key
        return (
            f"grant it: kubectl -n {namespace} create role moorage-{name} --verb=get,list,watch "
            f"--resource=secrets --resource-name={name} && kubectl -n {namespace} create rolebinding moorage-{name} "
            f"--role=moorage-{name} --serviceaccount={self._account}"
        )

    def _slim(self, secret: Secret) -> Secret:
        meta, data, key = secret.metadata, secret.data or {}, self._key.key
        kept = dict.fromkeys(sorted(data)[:_MAX_NAMES], "")
        if key in data:
            kept[key] = data[key][:_MAX_BASE64_CHARACTERS]
        return Secret(
            metadata=ObjectMeta(
                name=meta.name, namespace=meta.namespace, uid=meta.uid, resource_version=meta.resource_version
            ),
            data=kept,
        )

    def _changed(self, secret: Secret | None) -> None:
        self._made.clear()
        if secret is None:
            self._missing_since = self._now()
        self._on_change()
