"""Waits until the lab has done what its API servers were asked for."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from moorage.api.apps_v1 import Deployment, StatefulSet
from moorage.api.core_v1 import Node
from moorage.cluster.client import Client
from moorage.errors import MoorageError

T = TypeVar("T")
W = TypeVar("W", Deployment, StatefulSet)

POLL_SECONDS = 0.05
_ANSWER_SECONDS = 1.0
"""If a connection is still open after this time, its relay has let it through."""


async def until(
    ask: Callable[[], Awaitable[T]], holds: Callable[[T], bool], seconds: float, every: float = POLL_SECONDS
) -> T:
    """What `ask` finds as soon as it holds; or after `seconds`, whatever that is. `every`: seconds between two."""
    end = time.monotonic() + seconds
    while True:
        found = await ask()
        if holds(found) or time.monotonic() > end:
            return found
        await asyncio.sleep(every)


async def deployments(client: Client, names: Iterable[tuple[str, str]], seconds: float = 60.0) -> None:
    """Wait until each deployment (namespace, name) has exactly the pods that it should have, all of them ready.

    Raises MoorageError that names one that has not, after `seconds`.
    """
    await _workloads(client, Deployment, names, seconds)


async def stateful_sets(client: Client, names: Iterable[tuple[str, str]], seconds: float = 60.0) -> None:
    """The same for StatefulSets."""
    await _workloads(client, StatefulSet, names, seconds)


async def _workloads(client: Client, kind: type[W], names: Iterable[tuple[str, str]], seconds: float) -> None:
    for namespace, name in names:
        workload: W | None = None
        try:
            async with asyncio.timeout(seconds):
                while workload is None or not is_complete(workload):
                    if workload is not None:
                        await asyncio.sleep(POLL_SECONDS)
                    workload = await client.get(kind, namespace, name)
        except TimeoutError:
            ready = (workload.status.ready_replicas or 0) if workload else 0
            message = f"{kind.__name__} {namespace}/{name}: {ready} pods ready after {seconds:g} s"
            raise MoorageError(message) from None


async def nodes(client: Client, count: int, seconds: float = 60.0) -> None:
    """Wait until the cluster has `count` nodes. Raises MoorageError after `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                if len((await client.list(Node)).items) == count:
                    return
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise MoorageError(f"the cluster does not have {count} nodes after {seconds:g} s") from None


async def connections(port: int, seconds: float = 5.0) -> None:
    """Wait until the relay of this port of 127.0.0.1 lets a connection through, or `seconds` have passed.

    Pods can be ready some time before the load balancer's kernel has their addresses. Until then it refuses
    connections, and the relay resets its own.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                if await _is_let_through(port):
                    return
                await asyncio.sleep(POLL_SECONDS)


async def _is_let_through(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:  # The reset can come before the result of connect(2) is seen.
        return False
    try:
        writer.write_eof()  # Most servers react to that at once, by closing their side.
        async with asyncio.timeout(_ANSWER_SECONDS):
            await reader.read(1)
    except TimeoutError:
        return True
    except OSError:  # Where the reset has come before the end is written, ENOTCONN, which is no ConnectionError.
        return False
    finally:
        writer.transport.abort()
    return True


def is_complete(workload: Deployment | StatefulSet) -> bool:
    """Whether its status says that exactly the pods of its newest generation are running, all ready."""
    status, wanted = workload.status, 1 if workload.spec.replicas is None else workload.spec.replicas
    counts = (status.replicas, status.updated_replicas, status.ready_replicas)
    return status.observed_generation == workload.metadata.generation and all((n or 0) == wanted for n in counts)
