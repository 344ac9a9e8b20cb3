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
    got = []
    async for keys in dirty:
        got.append(keys)
        if len(got) == 2:
            break
        dirty.add("a")
    assert got == [["a"], ["a"]]


@pytest.mark.looptime
async def test_taking_waits_for_a_key() -> None:
    dirty: Dirty[str] = Dirty()
    loop = asyncio.get_running_loop()
    loop.call_later(5, dirty.add, "a")
    assert await dirty.take() == ["a"]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(dirty.take(), 5)
