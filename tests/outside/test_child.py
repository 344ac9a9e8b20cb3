"""The loop of a child, in this process and without its limits: how it works, and how it ends."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from moorage.outside import child
from moorage.outside.channel import Channel, SocketChannel
from moorage.outside.messages import Ping, Pong


class Noted:
    """The work of a child that takes Pongs."""

    def __init__(self) -> None:
        self.taken: list[Any] = []
        self.closed = False

    def take(self, message: Any) -> None:
        self.taken.append(message)

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.closed = True


class Running:
    """A child, and the operator's end of its channel."""

    def __init__(self, task: asyncio.Task[None], operator: Channel[Any], work: Noted) -> None:
        self.task = task
        self.operator = operator
        self.work = work


@pytest.fixture
async def running(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    work = Noted()

    async def made(sock: socket.socket) -> tuple[Channel[Any], child.Worker]:
        return await SocketChannel.over(sock, Ping | Pong), work

    monkeypatch.setattr(child, "limit", lambda limits: None)
    monkeypatch.setattr(child, "_checks", made)
    ours, theirs = socket.socketpair()
    operator: Channel[Any] = await SocketChannel.over(ours, Pong)
    task = asyncio.create_task(child.run("checks", theirs))
    operator.send(Ping(1))
    assert await operator.receive() == Pong(1)
    yield Running(task, operator, work)
    operator.close()
    task.cancel()
    await asyncio.wait([task])


async def test_it_takes_messages_and_ends_in_order_when_its_channel_closes(running: Running) -> None:
    running.operator.send(Pong(7))
    running.operator.close()
    await asyncio.wait_for(running.task, 20)
    assert running.work.taken == [Pong(7)]
    assert running.work.closed
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_what_it_does_not_understand_ends_it_with_an_error(running: Running) -> None:
    running.operator.send("text")
    with pytest.raises(msgspec.DecodeError):
        await asyncio.wait_for(running.task, 20)
    assert running.work.closed


async def test_out_of_memory_anywhere_ends_it(running: Running) -> None:
    loop = asyncio.get_running_loop()
    loop.call_soon(lambda: bytearray(2**62))
    with pytest.raises(MemoryError, match="more than 160 MiB"):
        await asyncio.wait_for(running.task, 20)


async def test_another_mistake_in_a_callback_is_logged_and_ends_nothing(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    asyncio.get_running_loop().call_soon(lambda: [][0])
    running.operator.send(Ping(2))
    assert await running.operator.receive() == Pong(2)
    assert "IndexError" in caplog.text
    assert not running.task.done()
