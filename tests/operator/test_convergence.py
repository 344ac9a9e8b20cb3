"""Whatever has happened, and in whatever order, the end is what the ExternalService says."""

import random

import pytest

from moorage.api.core_v1 import Service
from moorage.api.discovery_v1 import EndpointSlice
from moorage.cluster.errors import ApiError
from testing.eventually import eventually
from tests.support.operators import Operator, xsvc

ALWAYS_UP = "203.0.113.200"
"""So that the checks are believed."""
STEPS = 15


class Fate:
    """What happens to one ExternalService."""

    def __init__(self, op: Operator, seed: int) -> None:
        self.op = op
        self._random = random.Random(seed)
        self.addresses: set[str] = set()

    async def begin(self) -> None:
        await self._other_addresses()

    async def strike(self) -> None:
        """One thing, of those that may happen."""
        happen = self._random.choice(
            (
                self._other_addresses,
                self._up_or_down,
                self._checks,
                self._delete_service,
                self._delete_slice,
                self._spoil_slice,
                self._spoil_service,
                self._failing_server,
                self._broken_watches,
            )
        )
        await happen()

    async def _other_addresses(self) -> None:
        some = self._random.sample(range(1, 150), self._random.choice((0, 1, 2, 5, 120)))
        self.addresses = {ALWAYS_UP, *(f"203.0.113.{number}" for number in some)}
        affinity = self._random.choice(("None", "ClientIP"))
        await self._insist(xsvc("backend", *sorted(self.addresses), sessionAffinity=affinity))

    async def _insist(self, manifest: dict[str, object]) -> None:
        """The faults are for the operator, not for who writes manifests."""
        while True:
            try:
                await self.op.apply(manifest)
                return
            except ApiError:
                continue

    async def _up_or_down(self) -> None:
        self.op.down.symmetric_difference_update(
            self._random.sample(sorted(self.addresses), self._random.randint(0, len(self.addresses)))
        )
        self.op.down.discard(ALWAYS_UP)
        await self._checks()

    async def _checks(self) -> None:
        self.op.prober.check(times=self._random.randint(1, 2))

    async def _delete_service(self) -> None:
        await self._perhaps(self.op.client.delete(Service, "default", "backend"))

    async def _delete_slice(self) -> None:
        for slice_ in await self._slices():
            await self._perhaps(self.op.client.delete(EndpointSlice, "default", slice_.metadata.name))

    async def _spoil_slice(self) -> None:
        wrong = {"endpoints": [{"addresses": ["203.0.113.250"]}], "metadata": {"labels": {"mine": "yes"}}}
        for slice_ in await self._slices():
            await self._perhaps(self.op.client.patch(EndpointSlice, "default", slice_.metadata.name, wrong))

    async def _spoil_service(self) -> None:
        wrong = {"spec": {"selector": {"app": "mine"}, "sessionAffinity": "None"}}
        await self._perhaps(self.op.client.patch(Service, "default", "backend", wrong))

    async def _failing_server(self) -> None:
        method = self._random.choice(("POST", "PATCH", "DELETE"))
        code = self._random.choice((500, 409, 429, 503, 404))
        path = self._random.choice(("endpointslices", "services", "backend/status"))
        self.op.server.faults.fail(self._random.randint(1, 4), code=code, method=method, path=path)

    async def _broken_watches(self) -> None:
        if self._random.random() < 0.5:
            self.op.server.store.compact()
        self.op.server.faults.drop_watches()

    async def _slices(self) -> list[EndpointSlice]:
        try:
            return await self.op.slices()
        except ApiError:
            return []

    async def _perhaps(self, request: object) -> None:
        try:
            await request  # type: ignore[misc]
        except ApiError:
            return

    def expected(self) -> dict[str, bool]:
        return {address: address not in self.op.down for address in self.addresses}


@pytest.mark.parametrize("seed", range(4))
async def test_the_end_is_what_the_spec_and_the_checks_say(op: Operator, seed: int) -> None:
    fate = Fate(op, seed)
    rng = random.Random(1000 + seed)
    async with op.running():
        await fate.begin()
        await op.publishes(fate.expected())
    for _ in range(3):
        async with op.running():
            for _ in range(STEPS):
                await fate.strike()
                if rng.random() < 0.3:
                    await op.rests()
    op.server.faults.clear()
    async with op.running():

        async def converged() -> bool:
            op.prober.check(times=2)
            return await op.published() == fate.expected()

        await eventually(converged, seconds=30)
        ready = await op.says("Ready", "Ready")
        assert ready.status == "True"
        await op.rests()
        before = op.server.store.version
        op.prober.check(times=3)
        await op.rests()
        assert op.server.store.version == before
        names = [each.hostname for slice_ in await op.slices() for each in slice_.endpoints or ()]
        assert len(names) == len(set(names)) == len(fate.addresses)
        assert all(len(slice_.endpoints or ()) <= 100 for slice_ in await op.slices())
        assert not (await op.service()).spec.selector
