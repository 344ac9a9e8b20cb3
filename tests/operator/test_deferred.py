"""Events wait for what is urgent, in their order, and not for ever."""

import asyncio
from typing import cast

import pytest

from moorage.api.meta import Object
from moorage.cluster.recorder import Recorder
from moorage.operator.deferred import Deferred


class Recorded:
    """A recorder, and what it was told at which time."""

    def __init__(self) -> None:
        self.urgent = True
        self.reasons: list[tuple[float, str]] = []
        self.started = asyncio.get_running_loop().time()
        self.deferred = Deferred(cast("Recorder", self), lambda: self.urgent)

    def record(self, about: Object, type: str, reason: str, message: str) -> None:
        self.reasons.append((asyncio.get_running_loop().time() - self.started, reason))


@pytest.mark.looptime
async def test_they_are_told_in_their_order_as_soon_as_nothing_is_urgent() -> None:
    told = Recorded()
    running = asyncio.create_task(told.deferred.run())
    for reason in ("First", "Second"):
        told.deferred.record(Object(), "Normal", reason, "")
    await asyncio.sleep(5)
    assert told.reasons == []
    told.urgent = False
    await asyncio.sleep(Deferred.POLL_SECONDS)
    assert [reason for _, reason in told.reasons] == ["First", "Second"]
    running.cancel()


@pytest.mark.looptime
async def test_they_are_told_after_a_while_in_any_case_each_by_its_own_time() -> None:
    told = Recorded()
    running = asyncio.create_task(told.deferred.run())
    told.deferred.record(Object(), "Normal", "First", "")
    await asyncio.sleep(3)
    told.deferred.record(Object(), "Normal", "Second", "")
    await asyncio.sleep(30)
    assert [(round(at), reason) for at, reason in told.reasons] == [(10, "First"), (13, "Second")]
    running.cancel()
