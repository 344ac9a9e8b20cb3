"""The kubelet in virtual time, with a runtime and an API in memory."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from moorage.api.core_v1 import Pod
from moorage.errors import MoorageError
from moorage_lab.control.kubelet import RETRY_SECONDS, Kubelet
from tests.support.lab_objects import NOW, cluster, pod
from tests.support.lab_runtime import FakeRuntime

pytestmark = pytest.mark.looptime


class Api:
    """`kubelet.PodClient` in memory."""

    def __init__(self) -> None:
        self.statuses: dict[str, dict[str, object]] = {}
        self.finished: list[str] = []
        self.events: list[str] = []
        self.failures = 0

    async def report(self, pod: Pod, status: dict[str, object]) -> None:
        self._fail()
        self.statuses[pod.metadata.name] = status

    async def finish(self, pod: Pod) -> None:
        self._fail()
        self.finished.append(pod.metadata.name)

    def event(self, pod: Pod, type: str, reason: str, message: str) -> None:
        self.events.append(reason)

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise MoorageError("not now")

    def ready(self, name: str) -> bool:
        conditions = self.statuses.get(name, {}).get("conditions", [])
        assert isinstance(conditions, list)
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    def container(self, name: str) -> dict[str, object]:
        statuses = self.statuses[name]["containerStatuses"]
        assert isinstance(statuses, list)
        status = statuses[0]
        assert isinstance(status, dict)
        return status


class World:
    def __init__(self, group: asyncio.TaskGroup) -> None:
        self.runtime, self.api = FakeRuntime(), Api()
        self.kubelet = Kubelet(group, cluster(), self.runtime, self.api, lambda: NOW)

    async def until(self, condition: Callable[[], bool], seconds: float = 100) -> float:
        """Waits for it, and how many seconds that took."""
        now = asyncio.get_running_loop().time
        began = now()
        while not condition():
            assert now() - began < seconds, "it did not happen"
            await asyncio.sleep(0.01)
        return now() - began

    async def starts(self, name: str, times: int) -> float:
        """Waits until the pod has been started so many times, and how many seconds that took."""
        return await self.until(lambda: len(self.runtime.processes[name]) == times)

    def waits_for(self, name: str, reason: str) -> bool:
        state = self.api.container(name)["state"]
        assert isinstance(state, dict)
        return bool(state.get("waiting", {}).get("reason") == reason)


@asynccontextmanager
async def started(*pods: Pod) -> AsyncIterator[World]:
    """A world whose pods are all ready."""
    async with asyncio.TaskGroup() as group:
        world = World(group)
        world.kubelet.sync(pods)
        await world.until(lambda: all(world.api.ready(one.metadata.name) for one in pods))
        yield world
        await world.kubelet.close()


def leaving(one: Pod, grace: int = 30) -> Pod:
    meta = replace(one.metadata, deletion_timestamp=NOW, deletion_grace_period_seconds=grace)
    return replace(one, metadata=meta)


async def test_a_pod_is_started_with_addresses_of_its_node_and_reported_ready_when_it_answers() -> None:
    async with started(pod("a"), pod("b"), pod("c", node="node-2")) as world:
        assert world.runtime.addresses["a"] == ["10.244.1.2", "fd00:10:244:1::2"]
        assert world.runtime.addresses["b"] == ["10.244.1.3", "fd00:10:244:1::3"]
        assert world.runtime.addresses["c"] == ["10.244.2.2", "fd00:10:244:2::2"]
        assert world.api.statuses["c"]["podIP"] == "10.244.2.2"
        assert world.api.statuses["c"]["hostIP"] == "10.240.0.12"
        assert "Started" in world.api.events


async def test_pods_of_no_node_or_of_an_unknown_one_are_left_alone() -> None:
    async with started() as world:
        world.kubelet.sync([pod("a", node=None), pod("b", node="elsewhere")])
        await asyncio.sleep(5)
        assert (world.runtime.addresses, world.api.statuses) == ({}, {})


async def test_a_pod_keeps_the_addresses_that_it_already_has() -> None:
    async with started(pod("new"), pod("old", "10.244.1.2", "fd00:10:244:1::2")) as world:
        assert world.runtime.addresses["old"] == ["10.244.1.2", "fd00:10:244:1::2"]
        assert world.runtime.addresses["new"] == ["10.244.1.3", "fd00:10:244:1::3"]


async def test_a_host_network_pod_has_its_nodes_addresses() -> None:
    one = pod("a")
    async with started(replace(one, spec=replace(one.spec, host_network=True))) as world:
        assert world.runtime.addresses["a"] == ["10.240.0.11", "fd00:10:240::11"]


async def test_a_container_that_dies_is_not_ready_at_once_and_started_again() -> None:
    async with started(pod("a")) as world:
        world.runtime.newest("a").die(137)
        assert await world.until(lambda: len(world.runtime.processes["a"]) == 2) < 0.05
        await world.until(lambda: world.api.ready("a") and world.api.container("a")["restartCount"] == 1)


async def test_a_container_that_goes_on_dying_is_backed_off() -> None:
    async with started(pod("a")) as world:
        pauses = []
        for number in range(2, 7):
            world.runtime.newest("a").die(1)
            pauses.append(await world.starts("a", number))
        assert pauses == pytest.approx([0, 1, 2, 4, 8], abs=0.05)
        world.runtime.newest("a").die(1)
        await world.until(lambda: world.api.events.count("BackOff") == 5)
        await world.until(lambda: world.waits_for("a", "CrashLoopBackOff"), RETRY_SECONDS)
        assert not world.api.ready("a")


async def test_the_back_off_begins_anew_after_a_steady_run() -> None:
    async with started(pod("a")) as world:
        for number in range(2, 5):
            world.runtime.newest("a").die(1)
            await world.starts("a", number)
        await asyncio.sleep(61)
        world.runtime.newest("a").die(1)
        assert await world.until(lambda: len(world.runtime.processes["a"]) == 5) < 0.05


async def test_a_pod_that_stops_answering_is_not_ready_and_ready_again_when_it_answers() -> None:
    async with started(pod("a")) as world:
        world.runtime.silent.add("a")
        assert await world.until(lambda: not world.api.ready("a")) < 4
        world.runtime.silent.clear()
        await world.until(lambda: world.api.ready("a"))
        assert len(world.runtime.processes["a"]) == 1


async def test_a_deleted_pod_gets_sigterm_and_is_then_finished() -> None:
    one = pod("a")
    async with started(one) as world:
        world.kubelet.sync([leaving(one)])
        assert await world.until(lambda: world.api.finished == ["a"]) < 1
        assert world.runtime.newest("a").signals == [signal.SIGTERM]
        assert world.runtime.addresses == {}


async def test_a_stubborn_pod_goes_on_answering_and_is_killed_after_its_grace() -> None:
    one = pod("a")
    async with started() as world:
        world.runtime.stubborn = True
        world.kubelet.sync([one])
        await world.until(lambda: world.api.ready("a"))
        world.kubelet.sync([leaving(one, 7)])
        await asyncio.sleep(6)
        assert world.api.ready("a")
        assert await world.until(lambda: world.api.finished == ["a"]) == pytest.approx(1, abs=0.1)
        assert world.runtime.newest("a").signals == [signal.SIGTERM, signal.SIGKILL]


async def test_a_pod_that_is_gone_from_the_api_is_killed_at_once_also_within_its_grace() -> None:
    one = pod("a")
    async with started() as world:
        world.runtime.stubborn = True
        world.kubelet.sync([one])
        await world.until(lambda: world.api.ready("a"))
        world.kubelet.sync([leaving(one)])
        await asyncio.sleep(1)
        world.kubelet.sync([])
        assert await world.until(lambda: world.runtime.addresses == {}) < 0.1


async def test_a_pod_in_its_back_off_is_deleted_at_once() -> None:
    one = pod("a")
    async with started(one) as world:
        for number in range(2, 5):
            world.runtime.newest("a").die(1)
            await world.starts("a", number)
        world.runtime.newest("a").die(1)
        await asyncio.sleep(0.1)
        world.kubelet.sync([leaving(one)])
        assert await world.until(lambda: world.api.finished == ["a"]) < 0.1


async def test_a_failure_of_the_network_is_tried_again() -> None:
    async with started() as world:
        world.runtime.failures = 2
        world.kubelet.sync([pod("a")])
        assert await world.until(lambda: world.api.ready("a")) >= 2 * RETRY_SECONDS
        assert "FailedCreatePodSandBox" in world.api.events


async def test_reports_are_repeated_until_the_api_takes_them() -> None:
    async with started() as world:
        world.api.failures = 3
        world.kubelet.sync([one := pod("a")])
        await world.until(lambda: world.api.ready("a"))
        world.api.failures = 2
        world.kubelet.sync([leaving(one)])
        await world.until(lambda: world.api.finished == ["a"])


async def test_closing_ends_all_processes_and_finishes_no_pod() -> None:
    async with started(pod("a"), pod("b", node="node-2")) as world:
        await world.kubelet.close()
        assert world.runtime.addresses == {}
        assert not world.runtime.newest("a").running
        assert world.api.finished == []
