"""What each kind of neighbour does."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple

from bench.hostile import objects
from bench.hostile.certificates import Bundles, Server
from moorage.api.core_v1 import Secret
from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.cluster.certificates import MAX_CERTIFICATES
from moorage.cluster.client import Client

REWRITES_PER_SECOND = 10
"""Of each CA Secret."""
CHANGES_PER_SECOND = 1
"""Of each large ExternalService."""
SILENT_CONNECTIONS = 5000
"""To the metrics port."""
NAME_SERVER = "127.0.0.1"


class Material(NamedTuple):
    """What there is to be hostile with."""

    plain: Server
    dear: Sequence[Server]
    """With the longest chain, and with one that is not."""
    metrics: tuple[str, int]
    """Address and port of the operator's."""
    bundles: Bundles


class Kind(NamedTuple):
    name: str
    what: str
    """For people."""
    made: Callable[[Material], objects.Made] = lambda material: []
    """What the neighbour writes into its namespace."""
    program: Callable[[Material], Sequence[object]] | None = None
    """Name in `servers`, and its arguments."""
    act: Callable[[Client, Material], Coroutine[Any, Any, None]] | None = None
    """What it goes on doing, until cancelled."""


async def _rewrite(client: Client, material: Material) -> None:
    while True:
        pause = asyncio.create_task(asyncio.sleep(1 / REWRITES_PER_SECOND))
        for number in range(objects.BUNDLES):
            body = objects.bundle_patch(material.bundles.another())
            await client.patch(Secret, objects.HOSTILE, f"ca-{number}", body)
        await pause


async def _turn(client: Client, material: Material) -> None:
    turn = 0
    while True:
        pause = asyncio.create_task(asyncio.sleep(1 / CHANGES_PER_SECOND))
        turn += 1
        for number in range(objects.LARGE):
            body = objects.large_patch(number, turn)
            await client.patch(ExternalService, objects.HOSTILE, objects.large_name(number), body)
        await pause


def _api(name: str, what: str, *behaviours: str) -> Kind:
    return Kind(
        name,
        what,
        lambda material: objects.clusters(material.plain.ca, behaviours),
        lambda material: ("api", material.plain.chain, material.plain.key, objects.API),
    )


KINDS = (
    Kind("nobody", "nobody hostile"),
    Kind(
        "certificates",
        f"{objects.DEAR} endpoints with long chains of certificates that take 7 ms each to verify",
        lambda material: objects.tls_endpoints(material.dear[0].ca, objects.CHAINED_TLS, objects.DEAR),
        lambda material: (
            *("tls", material.dear[0].key),
            *(
                word
                for port, each in zip(objects.CHAINED_TLS, material.dear, strict=True)
                for word in (port, each.chain)
            ),
        ),
    ),
    Kind(
        "renegotiation",
        f"{objects.RENEGOTIATING} endpoints that begin TLS 1.2 handshakes anew, without end",
        lambda material: objects.tls_endpoints(
            material.dear[1].ca, [objects.RENEGOTIATING_TLS], objects.RENEGOTIATING
        ),
        lambda material: (
            "renegotiating",
            *(material.dear[1].chain, material.dear[1].key, objects.RENEGOTIATING_TLS),
            *objects.tls_addresses(objects.RENEGOTIATING),
        ),
    ),
    _api("lists", "64 clusters whose lists have no end, and pages of 8 MiB", "fat", "endless", "fat", "token"),
    _api("answers", "64 clusters whose chunk extensions or 1xx answers have no end", "chunked", "early"),
    _api("watches", "64 clusters with 1,000 events a second each", "watched"),
    Kind(
        "bundles",
        f"{objects.BUNDLES} CA Secrets that are rewritten {REWRITES_PER_SECOND} times a second",
        lambda material: objects.bundled(material.bundles.another()),
        act=_rewrite,
    ),
    Kind(
        "listener",
        f"{SILENT_CONNECTIONS:,} silent connections to the metrics port, 10 that ask all the time",
        program=lambda material: ("silent", *material.metrics, SILENT_CONNECTIONS),
    ),
    Kind(
        "names",
        "320 DNS names whose answers are 64 KiB of records that are none",
        lambda material: objects.names(),
        lambda material: ("names", NAME_SERVER),
    ),
    Kind(
        "addresses",
        f"{objects.LARGE} ExternalServices with 2,048 addresses each, others every second",
        lambda material: objects.large(),
        act=_turn,
    ),
)


def bundles() -> Bundles:
    """CA bundles as large as the operator takes."""
    return Bundles(MAX_CERTIFICATES)
