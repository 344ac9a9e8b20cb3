import asyncio

import pytest

from moorage.cluster.dirty import Dirty


async def test_keys_are_merged_and_taken_oldest_first() -> None:
    dirty: Dirty[str] = Dirty()
    for key in ("b", "a", "b"):
        dirty.add(key)
    assert await dirty.take() == ["b", "a"]


async def test_what_comes_while_one_works_comes_next() -> None:
    dirty: Dirty[str] = Dirty()
    dirty.add("a")
    assert await dirty.take() == ["a"]
    dirty.add("a")
    assert await dirty.take() == ["a"]


async def test_taking_what_is_there_does_not_wait() -> None:
    dirty: Dirty[str] = Dirty()
    assert dirty.take_now() == []
    dirty.add("a")
    assert dirty.take_now() == ["a"]
    assert dirty.take_now() == []


@pytest.mark.looptime
async def test_taking_waits_for_a_key() -> None:
    dirty: Dirty[str] = Dirty()
    loop = asyncio.get_running_loop()
    loop.call_later(5, dirty.add, "a")
    assert await dirty.take() == ["a"]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(dirty.take(), 5)


async def test_whoever_waits_can_be_woken_without_a_key() -> None:
    dirty: Dirty[str] = Dirty()
    waiting = asyncio.create_task(dirty.take())
    await asyncio.sleep(0)
    dirty.wake()
    assert await waiting == []
    dirty.add("a")
    assert await dirty.take() == ["a"]
