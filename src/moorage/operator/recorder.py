"""Kubernetes Events: what has happened to an ExternalService, for `kubectl describe`."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from moorage.api.core_v1 import Event, LocalObjectReference
from moorage.api.kinds import kind_of
from moorage.api.meta import ObjectMeta
from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.cluster.client import Client
from moorage.cluster.errors import ApiError
from moorage.core.model import Happening
from moorage.errors import MoorageError
from moorage.log import get_logger

log = get_logger("moorage.operator.events")

COMPONENT = "moorage-operator"
_LONGEST_MESSAGE = 1024
"""Characters, as the API server has it."""


class _Item(NamedTuple):
    about: LocalObjectReference
    happening: Happening
    at: str


class Recorder:
    """Writes Events, one after the other, beside the reconciles that they are about: `record` never waits.

    An Event that says the same again is counted up, as client-go does. Of one object so many are written at once,
    then one now and then (`BURST`, `REFILL_SECONDS`, client-go's spam filter). Those that cannot be written are lost.
    """

    BURST = 25
    REFILL_SECONDS = 300.0
    WAITING = 10_000
    """Events that wait at most; more are dropped."""
    REMEMBERED = 5_000
    """Events that are remembered, to count them up."""

    def __init__(
        self, client: Client, identity: str, now: Callable[[], str], may_write: Callable[[], bool] = lambda: True
    ) -> None:
        self._client = client
        self._identity = identity
        self._now = now
        self._may_write = may_write
        self._line: asyncio.Queue[_Item] = asyncio.Queue(self.WAITING)
        self._counts: OrderedDict[tuple[str, str], int] = OrderedDict()
        """Namespace and name of an Event -> its count."""
        self._budgets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """uid -> how many Events may be written, as of that time of the event loop's clock."""

    @property
    def waiting(self) -> int:
        """How many Events are to be written."""
        return self._line.qsize()

    def record(self, xsvc: ExternalService, happening: Happening) -> None:
        """Have an Event written."""
        meta, kind = xsvc.metadata, kind_of(ExternalService)
        about = LocalObjectReference(
            api_version=kind.api_version,
            kind=kind.kind,
            name=meta.name,
            namespace=meta.namespace,
            uid=meta.uid,
            resource_version=meta.resource_version,
        )
        if self._line.full():
            log.debug("an event is dropped: too many wait", reason=happening.reason)
            return
        self._line.put_nowait(_Item(about, happening, self._now()))

    async def run(self) -> None:
        """Write what is recorded, until cancelled."""
        while True:
            item = await self._line.get()
            if not self._may_write() or not self._within_budget(item.about.uid or ""):
                continue
            try:
                await self._write(item)
            except MoorageError as error:
                log.debug("an event is lost", error=str(error))

    async def _write(self, item: _Item) -> None:
        namespace = item.about.namespace or ""
        name = _name(item)
        count = self._counts.get((namespace, name))
        if count is None:
            try:
                await self._client.create(self._event(namespace, name, item))
                self._remember(namespace, name, 1)
                return
            except ApiError as error:
                if error.reason != "AlreadyExists":
                    raise
                # Written by an earlier leader.
                count = (await self._client.get(Event, namespace, name)).count or 1
        again = {"count": count + 1, "lastTimestamp": item.at, "message": item.happening.message[:_LONGEST_MESSAGE]}
        try:
            await self._client.patch(Event, namespace, name, again)
            self._remember(namespace, name, count + 1)
        except ApiError as error:
            if error.status != 404:
                raise
            # Events last an hour.
            await self._client.create(self._event(namespace, name, item))
            self._remember(namespace, name, 1)

    def _event(self, namespace: str, name: str, item: _Item) -> Event:
        return Event(
            metadata=ObjectMeta(name=name, namespace=namespace),
            involved_object=item.about,
            type=item.happening.type,
            reason=item.happening.reason,
            message=item.happening.message[:_LONGEST_MESSAGE],
            count=1,
            first_timestamp=item.at,
            last_timestamp=item.at,
            reporting_component=COMPONENT,
            source={"component": COMPONENT, "host": self._identity},
        )

    def _remember(self, namespace: str, name: str, count: int) -> None:
        self._counts[namespace, name] = count
        self._counts.move_to_end((namespace, name))
        while len(self._counts) > self.REMEMBERED:
            self._counts.popitem(last=False)

    def _within_budget(self, uid: str) -> bool:
        now = asyncio.get_running_loop().time()
        left, since = self._budgets.get(uid, (float(self.BURST), now))
        left = min(float(self.BURST), left + (now - since) / self.REFILL_SECONDS)
        allowed = left >= 1.0
        self._budgets[uid] = (left - 1.0 if allowed else left, now)
        self._budgets.move_to_end(uid)
        while len(self._budgets) > self.REMEMBERED:
            self._budgets.popitem(last=False)
        return allowed


def _name(item: _Item) -> str:
    """The same for an Event that says the same of the same object, also in the process of another leader."""
    said = "\n".join((item.about.uid or "", item.happening.type, item.happening.reason, item.happening.message))
    return f"{item.about.name}.{hashlib.sha256(said.encode()).hexdigest()[:16]}"
