"""Messages between two processes, and those that are sent together."""

import asyncio
import socket
from collections.abc import AsyncIterator

import msgspec
import pytest

from moorage.outside import channel as channel_module
from moorage.outside.channel import HIGH_WATER_BYTES, Coalesced, SocketChannel
from moorage.outside.child import LIMITS
from moorage.outside.messages import Ping, Pong

Channel = SocketChannel[Ping | Pong]


@pytest.fixture
async def both() -> AsyncIterator[tuple[Channel, Channel]]:
    one, other = socket.socketpair()
    ends: tuple[Channel, Channel] = (
        await SocketChannel.over(one, Ping | Pong),
        await SocketChannel.over(other, Ping | Pong),
    )
    yield ends
    for each in ends:
        each.close()


async def test_messages_arrive_as_they_are_in_their_order_until_the_other_end_closes(
    both: tuple[Channel, Channel],
) -> None:
    one, other = both
    for number in range(3):
        one.send(Ping(number))
    one.send(Pong(7))
    one.close()
    assert [await other.receive() for _ in range(5)] == [Ping(0), Ping(1), Ping(2), Pong(7), None]


async def test_what_is_no_message_is_told_from_the_end(both: tuple[Channel, Channel]) -> None:
    one, other = both
    one.send("text")
    with pytest.raises(msgspec.DecodeError):
        await other.receive()


async def test_a_message_that_is_too_long_is_not_even_read(
    both: tuple[Channel, Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = both
    most = len(msgspec.msgpack.encode(Ping(7)))
    monkeypatch.setattr(channel_module, "MAX_MESSAGE_BYTES", most)
    one.send(Ping(7))
    assert await other.receive() == Ping(7)
    one.send(Ping(700))
    with pytest.raises(ValueError, match=rf"a message of {most + 2} bytes, more than {most}"):
        await other.receive()


async def test_with_much_that_the_other_end_has_not_taken_it_is_full_and_not_ready(
    both: tuple[Channel, Channel],
) -> None:
    one, other = both
    assert not one.full
    text = "x" * HIGH_WATER_BYTES
    for _ in range(4):
        one.send(text)
    assert one.full
    ready = asyncio.ensure_future(one.ready())
    await asyncio.sleep(0)
    assert not ready.done()
    for _ in range(4):
        with pytest.raises(msgspec.ValidationError):
            await other.receive()
    await asyncio.wait_for(ready, 20)
    assert not one.full


async def test_an_end_whose_other_end_has_closed_is_never_ready(both: tuple[Channel, Channel]) -> None:
    one, other = both
    other.close()
    assert await one.receive() is None

    async def go_on() -> None:
        for _ in range(100):
            one.send(Ping(7))
            await one.ready()

    with pytest.raises(ConnectionError):
        await go_on()


class Work:
    """What is done, and when."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.can_be_done = True

    def __call__(self) -> bool:
        self.times.append(asyncio.get_running_loop().time())
        return self.can_be_done


@pytest.mark.looptime
async def test_what_is_asked_for_within_a_moment_is_done_once() -> None:
    work = Work()
    soon = Coalesced(work, 5.0)
    for _ in range(2):
        began = asyncio.get_running_loop().time()
        for _ in range(3):
            soon()
            await asyncio.sleep(1)
        await asyncio.sleep(20)
        assert work.times == [began + 5]
        work.times.clear()


@pytest.mark.looptime
async def test_what_cannot_be_done_is_tried_again_until_it_can_and_not_more_often_for_being_asked_for() -> None:
    work = Work()
    work.can_be_done = False
    soon = Coalesced(work, 0.0)
    for _ in range(10):
        soon()
        await asyncio.sleep(0.5)
    assert 3 <= len(work.times) <= 6
    work.can_be_done = True
    await asyncio.sleep(5)
    tried = len(work.times)
    await asyncio.sleep(5)
    assert len(work.times) == tried


def test_no_message_takes_the_memory_that_a_child_may_use() -> None:
    assert min(limits.memory for limits in LIMITS.values()) > channel_module.MAX_MESSAGE_BYTES
