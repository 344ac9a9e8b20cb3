"""An operator's terms of leadership on the lab's API server, with sources and checks that are played."""

import asyncio
import base64
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from moorage.api.core_v1 import Event, Service
from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.meta import Condition, ObjectKey
from moorage.api.moorage_v1alpha1 import EndpointStatus, ExternalService
from moorage.api.moorings_v1alpha1 import Mooring
from moorage.api.topology import ZONE_LABEL
from moorage.cluster.client import Client
from moorage.cluster.election import NotLeadingError
from moorage.core.admission import Gate
from moorage.core.health import Outcome
from moorage.core.model import Found, Problem, Resolution
from moorage.discovery.addresses import found
from moorage.discovery.secrets import SecretKey, WatchedSecret
from moorage.discovery.shared import Shared
from moorage.operator.config import Admission, Configuration, Moorings
from moorage.operator.metrics import Metrics
from moorage.operator.term import Makers, Term
from moorage.probe.check import Check, Target
from testing.eventually import eventually
from tests.support.apiserver import RunningApiServer, api_server

KEY: ObjectKey = ObjectKey("default", "backend")
REFUSED = "connection refused"


def xsvc(name: str = "backend", *addresses: str, **spec: Any) -> dict[str, Any]:
    """An ExternalService as a person writes it; an address may be `NAME=ADDRESS`."""
    written = [
        {"name": one, "address": other} if other else {"address": one}
        for one, _, other in (address.partition("=") for address in addresses)
    ]
    return {
        "apiVersion": "moorage.dev/v1alpha1",
        "kind": "ExternalService",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "ports": [{"port": 9000, "targetPort": 80}],
            **({"endpoints": [{"addresses": written}]} if written else {}),
            "healthCheck": {"tcp": {}, "intervalSeconds": 2, "timeoutSeconds": 1, "fall": 2, "rise": 1},
            **spec,
        },
    }


class PlayedSources:
    """Addresses are found at once; what other sources find is for the test to say, with `say`."""

    def __init__(self, client: Client, on_change: Callable[[ObjectKey], None], now: Callable[[], str]) -> None:
        self.secrets: Shared[SecretKey, WatchedSecret] = Shared(
            lambda key, changed: WatchedSecret(key, client, changed, now, "moorage-system:moorage-operator")
        )
        self.followed: dict[ObjectKey, ExternalService] = {}
        self.failed: dict[ObjectKey, Mapping[str, str]] = {}
        """What was said of each: which endpoints fail, and where."""
        self.gates = 0
        """How often it was said that the gate is another."""
        self.moved: set[str] = set()
        """The addresses of which it was said that they have come to, or left, an object of the cluster."""
        self._on_change = on_change
        self._said: dict[ObjectKey, tuple[Resolution, ...]] = {}

    def say(self, key: ObjectKey, *endpoints: Found, problem: Problem | None = None, silent: bool = False) -> None:
        """What the one source of this ExternalService knows from now on."""
        known = None if silent else endpoints
        self._said[key] = (Resolution("dns/db.example.com", known, problem),)
        self._on_change(key)

    def set(self, key: ObjectKey, xsvc: ExternalService) -> None:
        self.followed[key] = xsvc

    def remove(self, key: ObjectKey) -> None:
        self.followed.pop(key, None)

    def failing(self, key: ObjectKey, addresses: Mapping[str, str]) -> None:
        self.failed[key] = addresses

    def resolutions(self, key: ObjectKey) -> tuple[Resolution, ...]:
        if key in self._said:
            return self._said[key]
        sources = self.followed[key].spec.endpoints or []
        return tuple(
            Resolution("addresses", found(each.addresses))
            if each.addresses is not None
            else Resolution("dns/db.example.com", None)
            for each in sources
        )

    def gate_changed(self) -> None:
        self.gates += 1

    def addresses_changed(self, addresses: frozenset[str], /) -> None:
        self.moved |= addresses

    async def close(self) -> None:
        self.followed.clear()


class PlayedProber:
    """Every endpoint that is to be checked is checked at once, and again whenever the test says so."""

    def __init__(self, on_outcome: Callable[[ObjectKey, str, Outcome], None], changed: Callable[[], None]) -> None:
        self.problem: Problem | None = None
        self.down: set[str] = set()
        """Addresses that do not answer."""
        self.slow: set[str] = set()
        """Addresses of which no check ends."""
        self.checked: dict[ObjectKey, tuple[Mapping[str, Target], Check]] = {}
        self._on_outcome = on_outcome
        self._changed = changed

    def interrupt(self, problem: Problem | None) -> None:
        """Nothing is checked, for this reason; None: everything is again."""
        self.problem = problem
        self._changed()

    def set(self, key: ObjectKey, targets: Mapping[str, Target], check: Check) -> None:
        before = self.checked.get(key, ({}, check))[0]
        self.checked[key] = targets, check
        for name, target in targets.items():
            if before.get(name) != target:
                asyncio.get_running_loop().call_soon(self._check, key, name)

    def remove(self, key: ObjectKey) -> None:
        self.checked.pop(key, None)

    async def close(self) -> None:
        self.checked.clear()

    def check(self, times: int = 1) -> None:
        """Check everything so many times."""
        for _, key in itertools.product(range(times), list(self.checked)):
            for name in list(self.checked[key][0]):
                self._check(key, name)

    def tell(self, key: ObjectKey, name: str, outcome: Outcome) -> None:
        """One check went so."""
        self._on_outcome(key, name, outcome)

    def _check(self, key: ObjectKey, name: str) -> None:
        target = self.checked[key][0].get(name) if key in self.checked else None
        if target is not None and target.address not in self.slow:
            down = target.address in self.down
            self._on_outcome(key, name, Outcome(not down, REFUSED if down else None))


class Leading:
    """Whether the term leads; `leave_after(n)` lets it do so many writes more."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.refused = 0

    def leave_after(self, writes: int) -> None:
        self.left = writes

    def check(self) -> None:
        if self.left is not None:
            if self.left == 0:
                self.refused += 1
                raise NotLeadingError("not leading any more")
            self.left -= 1


class Operator:
    """An API server, and terms of leadership on it, one after the other."""

    def __init__(self, server: RunningApiServer, client: Client) -> None:
        self.server = server
        self.client = client
        self.down: set[str] = set()
        self.metrics = Metrics()
        self.admission = Admission()
        self.grace_seconds = 300
        self.sources: PlayedSources
        self.prober: PlayedProber
        self.leading = Leading()
        self.term: Term
        self._seconds = itertools.count()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Term]:
        """A term, begun anew."""
        self.metrics, self.leading = Metrics(), Leading()
        self.term = Term(
            self.client,
            Configuration(admission=self.admission, moorings=Moorings(grace_seconds=self.grace_seconds)),
            self.metrics,
            Makers(self._make_sources, self._make_prober, self._now),
            identity="me",
            check=self.leading.check,
            may_write=lambda: True,
        )
        task = asyncio.create_task(self.term.run())
        try:
            yield self.term
        finally:
            assert not task.done() or task.cancelled(), task.exception()
            task.cancel()
            await asyncio.wait([task])

    def _make_sources(
        self,
        client: Client,
        gate: Callable[[], Gate],
        on_change: Callable[[ObjectKey], None],
        *,
        restarted: Callable[[], None],
        now: Callable[[], str],
    ) -> PlayedSources:
        self.sources = PlayedSources(client, on_change, now)
        return self.sources

    def _make_prober(
        self,
        on_outcome: Callable[[ObjectKey, str, Outcome], None],
        *,
        changed: Callable[[], None],
        **_: Any,
    ) -> PlayedProber:
        self.prober = PlayedProber(on_outcome, changed)
        self.prober.down = self.down
        return self.prober

    def _now(self) -> str:
        second = next(self._seconds)
        return f"2027-01-01T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z"

    # --- What there is -------------------------------------------------------------------------------------------

    async def apply(self, *objects: dict[str, Any]) -> None:
        for each in objects:
            await self.client.apply(each, field_manager="test", force=True)

    async def xsvc(self, name: str = "backend") -> ExternalService:
        return await self.client.get(ExternalService, "default", name)

    async def service(self, name: str = "backend") -> Service:
        return await self.client.get(Service, "default", name)

    async def services(self) -> list[str]:
        return [each.metadata.name for each in (await self.client.list(Service, "default")).items]

    async def slices(self, name: str = "backend") -> list[EndpointSlice]:
        return (
            await self.client.list(EndpointSlice, "default", label_selector=f"kubernetes.io/service-name={name}")
        ).items

    async def published(self, name: str = "backend") -> dict[str, bool]:
        """Address -> ready, of all slices of this Service."""
        return {
            endpoint.addresses[0]: endpoint.conditions.ready is not False
            for slice_ in await self.slices(name)
            for endpoint in slice_.endpoints or ()
        }

    async def condition(self, type: str, name: str = "backend") -> Condition | None:
        return next((each for each in (await self.xsvc(name)).status.conditions or () if each.type == type), None)

    async def endpoints(self, name: str = "backend") -> dict[str, EndpointStatus]:
        return {each.name: each for each in (await self.xsvc(name)).status.endpoints or ()}

    async def events(self) -> list[str]:
        return [str(each.reason) for each in (await self.client.list(Event, "default")).items]

    async def node(self, name: str, zone: str | None = None) -> None:
        labels = {ZONE_LABEL: zone} if zone else {}
        await self.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}})

    async def moorings(self) -> dict[str, str]:
        """Name of the client -> endpoint, as the operator has recorded it."""
        found = (await self.client.list(Mooring, "default")).items
        return {each.spec.client.name: str(each.status.endpoint) for each in found}

    async def mooring(self, client: str) -> Mooring:
        found = (await self.client.list(Mooring, "default")).items
        return next(each for each in found if each.spec.client.name == client)

    async def hints(self, name: str = "backend") -> dict[str, list[str]]:
        """Name of the endpoint -> nodes that should use it; of those that are ready."""
        return {
            str(endpoint.hostname): [each.name for each in endpoint.hints.for_nodes or ()] if endpoint.hints else []
            for slice_ in await self.slices(name)
            for endpoint in slice_.endpoints or ()
            if endpoint.conditions.ready is not False
        }

    async def secret(self, name: str, **data: str) -> None:
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
        meta = {"name": name, "namespace": "default"}
        await self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": encoded})

    def writes(self) -> dict[str, int]:
        """`KIND VERB RESULT` -> how many the present term has tried."""
        found = {}
        for metric in self.metrics.writes.collect():
            for sample in metric.samples:
                if sample.name.endswith("_total"):
                    labels = sample.labels
                    found[f"{labels['kind']} {labels['verb']} {labels['result']}"] = int(sample.value)
        return found

    # --- Waiting -------------------------------------------------------------------------------------------------

    async def moors(self, wanted: dict[str, str]) -> None:
        """Until exactly these clients are at these endpoints."""

        async def condition() -> bool:
            return await self.moorings() == wanted

        await eventually(condition)

    async def publishes(self, wanted: dict[str, bool], name: str = "backend") -> None:
        """Until exactly these addresses are in the slices, ready or not."""

        async def condition() -> bool:
            return await self.published(name) == wanted

        await eventually(condition)

    async def says(self, type: str, reason: str, name: str = "backend") -> Condition:
        """Until this condition has this reason."""

        async def condition() -> bool:
            found = await self.condition(type, name)
            return found is not None and found.reason == reason

        await eventually(condition)
        found = await self.condition(type, name)
        assert found is not None
        return found

    async def has_time(self) -> None:
        """As long as a term takes many times to do something, if it is going to: for what must not happen."""
        for _ in range(50):
            await self.client.list(Service, "default")

    async def next_leader_writes_nothing(self) -> None:
        """Hold that a new term leaves all as it is, also while checks go on."""
        before = self.server.store.version
        async with self.running():
            await self.rests()
            self.prober.check(times=10)
            await self.rests()
            assert self.writes() == {}
        assert self.server.store.version == before

    async def rests(self) -> None:
        """Until the term has nothing to do, and has been told of all that it wrote."""

        seen = -1

        async def condition() -> bool:
            nonlocal seen
            before, seen = seen, self.server.store.version
            idle = self.term.queue.idle and self.term.groups.queue.idle
            return self.term.synced and idle and seen == before

        await eventually(condition, every=0.1)


@asynccontextmanager
async def operator() -> AsyncIterator[Operator]:
    async with api_server() as server, Client(server.config) as client:
        yield Operator(server, client)
