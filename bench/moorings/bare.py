"""The operator's writes of Moorings by a client that does nothing else: what of its time is the API server's.

Everything is decided beforehand, by the operator's own rules; nothing is checked, and nobody watches.
"""

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bench.bare import each
from bench.moorings import clients
from moorage.api.core_v1 import Pod
from moorage.api.meta import ObjectKey
from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.api.moorings_v1alpha1 import Mooring
from moorage.cluster.client import Client
from moorage.cluster.clock import timestamp
from moorage.core.assignment import decide_group
from moorage.core.clients import Owners, clients_of
from moorage.core.model import Create, Patch, Write
from moorage.core.mooring_model import Member, MemberEndpoint
from moorage.core.roster import Roster
from moorage.core.snapshot import GroupSnapshot


class Seconds(NamedTuple):
    """What the writes of Moorings take."""

    all_made: float
    """Of all groups."""
    rewritten: float
    """Of those that were at the first group's first endpoint, once it has failed."""


async def seconds(client: Client, namespace: str, pods: Sequence[Pod], groups: int) -> Seconds:
    """Measure both; the Moorings stay. As many requests are under way at once as the operator has."""
    made: list[Mooring] = []

    async def make(write: Create) -> None:
        assert isinstance(write.obj, Mooring)
        made.append(await client.create(write.obj))

    async def patch(write: Patch) -> None:
        await client.patch(Mooring, namespace, write.name, write.body)

    creations = [write for number in range(groups) for write in decided(number, namespace, pods)]
    began = time.monotonic()
    await each([write for write in creations if isinstance(write, Create)], make)
    all_made = time.monotonic() - began
    first = [mooring for mooring in made if mooring.spec.group == clients.group(0)]
    patches = decided(0, namespace, pods, first, failed=True)
    began = time.monotonic()
    await each([write for write in patches if isinstance(write, Patch)], patch)
    rewritten = time.monotonic() - began
    return Seconds(all_made, rewritten)


def decided(
    number: int, namespace: str, pods: Sequence[Pod], moorings: Sequence[Mooring] = (), *, failed: bool = False
) -> tuple[Write, ...]:
    """What is to be written for a group. `failed`: its first endpoint does not serve."""
    xsvc = clients.of_pods(number)
    config = clients.config_of(xsvc)
    member = Member(
        key=ObjectKey(namespace, xsvc.metadata.name),
        created="",
        config=config,
        by_kube_proxy=False,
        counts=True,
        panic_threshold_percent=0,
        endpoints=tuple(_endpoints(xsvc, failed)),
    )
    snapshot = GroupSnapshot(
        key=ObjectKey(namespace, clients.group(number)),
        members=[member],
        roster=Roster.of(clients_of(config, namespace, pods, (), Owners()).present, moorings),
        expected=frozenset(),
        absent={},
        now=timestamp(),
    )
    return decide_group(snapshot).writes


def _endpoints(xsvc: ExternalService, failed: bool) -> Iterator[MemberEndpoint]:
    addresses = (one for source in xsvc.spec.endpoints or () for one in source.addresses or ())
    for index, one in enumerate(addresses):
        serves = not (failed and index == 0)
        yield MemberEndpoint(one.name or "", takes=serves, keeps=serves, weight=one.weight or 1)
