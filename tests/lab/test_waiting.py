import asyncio
import errno
import math
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from moorage.api.apps_v1 import (
    Deployment,
    DeploymentSpec,
    DeploymentStatus,
    StatefulSet,
    StatefulSetSpec,
    StatefulSetStatus,
)
from moorage.api.meta import ObjectMeta
from moorage_lab import waiting
from testing.eventually import eventually

UP = DeploymentStatus(observed_generation=3, replicas=2, updated_replicas=2, ready_replicas=2)


@pytest.mark.parametrize(
    ("replicas", "status", "expected"),
    [
        (2, UP, True),
        (0, DeploymentStatus(observed_generation=3), True),
        (None, DeploymentStatus(observed_generation=3, replicas=1, updated_replicas=1, ready_replicas=1), True),
        (2, DeploymentStatus(observed_generation=2, replicas=2, updated_replicas=2, ready_replicas=2), False),
        (2, DeploymentStatus(observed_generation=3, replicas=2, updated_replicas=2, ready_replicas=1), False),
        (2, DeploymentStatus(observed_generation=3, replicas=3, updated_replicas=2, ready_replicas=2), False),
        (0, UP, False),
    ],
)
def test_a_deployment_is_complete_with_exactly_its_pods(
    replicas: int | None, status: DeploymentStatus, expected: bool
) -> None:
    spec = DeploymentSpec(replicas=replicas)
    assert waiting.is_complete(Deployment(metadata=ObjectMeta(generation=3), spec=spec, status=status)) is expected


def test_a_stateful_set_is_complete_likewise() -> None:
    spec = StatefulSetSpec(replicas=2)
    for ready in (1, 2):
        status = StatefulSetStatus(observed_generation=3, replicas=2, updated_replicas=2, ready_replicas=ready)
        web = StatefulSet(metadata=ObjectMeta(generation=3), spec=spec, status=status)
        assert waiting.is_complete(web) is (ready == 2)


async def test_what_is_waited_for_is_asked_until_it_holds_or_the_time_is_over() -> None:
    answers = iter(range(9))

    async def ask() -> int:
        return next(answers)

    assert await waiting.until(ask, lambda found: found == 2, 60) == 2
    assert await waiting.until(ask, lambda found: False, 0) in (3, 4)


@asynccontextmanager
async def relay(refusals: float) -> AsyncIterator[tuple[int, list[bool]]]:
    """A port whose first connections are reset; and of every connection so far, whether it was let through."""
    seen: list[bool] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(len(seen) >= refusals)
        if seen[-1]:
            await reader.read()
        else:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], seen


@pytest.mark.parametrize("refusals", [0, 2])
async def test_a_relay_is_waited_for_until_it_lets_a_connection_through(
    refusals: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_ANSWER_SECONDS", 60)
    async with relay(refusals) as (port, seen):
        await waiting.connections(port, seconds=60)
        assert seen == [False] * refusals + [True]


async def test_a_relay_that_lets_nothing_through_is_asked_again_and_again_but_not_for_ever() -> None:
    async with relay(math.inf) as (port, seen):
        asking = asyncio.create_task(waiting.connections(port, seconds=1000))

        async def asked_twice() -> bool:
            return len(seen) >= 2

        await eventually(asked_twice)
        assert not asking.done()
        asking.cancel()
        await waiting.connections(port, seconds=0.1)
        assert not any(seen)


async def test_a_relay_that_takes_no_connection_is_waited_for_too() -> None:
    async with relay(0) as (port, _):
        pass
    started = asyncio.get_running_loop().time()
    await waiting.connections(port, seconds=0.3)
    assert asyncio.get_running_loop().time() - started >= 0.3


async def test_a_relay_that_has_reset_already_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the kernel says that the socket is not connected."""
    open_connection = asyncio.open_connection

    async def reset(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        monkeypatch.setattr(asyncio, "open_connection", open_connection)
        reader, writer = await open_connection(host, port)

        def write_eof() -> None:
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

        monkeypatch.setattr(writer, "write_eof", write_eof)
        return reader, writer

    async with relay(0) as (port, seen):
        monkeypatch.setattr(asyncio, "open_connection", reset)
        await waiting.connections(port, seconds=60)
        assert len(seen) == 2
