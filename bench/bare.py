"""The operator's writes by a client that does nothing else: what of its time is the API server's.

Everything is decided beforehand, nothing is checked, and nobody watches.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from moorage.api.core_v1 import Service
from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.kinds import kind_of
from moorage.api.meta import Object
from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.cluster.client import Client
from moorage.cluster.clock import timestamp
from moorage.cluster.paths import collection_path
from moorage.core.admission import Gate
from moorage.core.decide import decide
from moorage.core.model import Create, Decision, Resolution, Verdict
from moorage.core.snapshot import Snapshot
from moorage.discovery import addresses
from moorage.operator.config import Configuration

T = TypeVar("T")


class _Job(NamedTuple):
    xsvc: ExternalService
    decision: Decision


async def seconds(client: Client, namespace: str, xsvcs: Iterable[ExternalService]) -> float:
    """How long it takes to write the Services, slices and statuses of these, once they are there themselves.

    All is gone afterwards. As many requests are under way at once as the operator has workers.
    """
    made: list[ExternalService] = []

    async def make(xsvc: ExternalService) -> None:
        made.append(await client.create(xsvc))

    await each(list(xsvcs), make)
    jobs = [_Job(xsvc, _decision(xsvc)) for xsvc in made]

    async def write(job: _Job) -> None:
        for one in job.decision.writes:
            assert isinstance(one, Create)
            await client.create(one.obj)
        meta = job.xsvc.metadata
        body = {
            "metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version},
            "status": msgspec.to_builtins(job.decision.status),
        }
        await client.patch(ExternalService, namespace, meta.name, body, subresource="status")

    began = time.monotonic()
    await each(jobs, write)
    took = time.monotonic() - began
    kinds: tuple[type[Object], ...] = (ExternalService, Service, EndpointSlice)
    for kind in kinds:
        await client.raw("DELETE", collection_path(kind_of(kind), namespace))
    return took


async def each(what: Sequence[T], do: Callable[[T], Awaitable[None]]) -> None:
    """Do it with each, as many at once as the operator has workers."""
    pending = list(reversed(what))

    async def work() -> None:
        while pending:
            await do(pending.pop())

    await asyncio.gather(*(work() for _ in range(Configuration().workers)))


def _decision(xsvc: ExternalService) -> Decision:
    """What is to be done about one whose endpoints have all turned out healthy."""
    now = timestamp()
    found = [one for source in xsvc.spec.endpoints or () for one in addresses.found(source.addresses or ())]
    resolutions = (Resolution("addresses", tuple(found)),)
    verdicts = {each.name: Verdict("Healthy", now) for each in found}
    return decide(Snapshot(xsvc, resolutions, Gate(), now, verdicts=verdicts).merge())
