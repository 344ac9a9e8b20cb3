"""The kubelets of a cluster's nodes: they run, watch and report every pod that is assigned to a node.

`Kubelet` knows neither the API client nor processes: it reports through `PodClient` and starts pods through
`Runtime`.
"""

import asyncio
import signal
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Protocol

from moorage.api.core_v1 import Container, Pod
from moorage.errors import MoorageError
from moorage.log import get_logger
from moorage_lab.control.podstatus import (
    STEADY_SECONDS,
    ContainerState,
    pod_status,
    previous_restarts,
    restart_delay,
    tcp_port,
)
from moorage_lab.control.scheduling import AddressesExhaustedError, AddressPool
from moorage_lab.topology import ClusterPlan, NodePlan

DEFAULT_GRACE_SECONDS = 30.0
"""Kubernetes' default of terminationGracePeriodSeconds."""
PROBE_INTERVAL_SECONDS = 1.0
PROBE_INTERVAL_AT_START_SECONDS = 0.1
PROBES_AT_START = 100
"""How many probes use the short interval after each start."""
RETRY_SECONDS = 1.0
"""How long until something that failed for outside reasons is tried again."""

_log = get_logger("moorage_lab.control.kubelet")


class Process(Protocol):
    """A running container."""

    async def wait(self) -> int:
        """Its exit code, once it and everything that it started are gone; 128 + n for signal n."""

    def send(self, number: int) -> None:
        """Send a signal; SIGKILL also goes to everything that it started. Does nothing if it is gone."""


class Runtime(Protocol):
    """Starts pods. All methods raise MoorageError."""

    async def create(self, pod: Pod, node: NodePlan, addresses: list[str]) -> None:
        """Make the pod's network and files."""

    async def start(self, pod: Pod, node: NodePlan, container: Container) -> Process: ...

    async def remove(self, pod: Pod, node: NodePlan) -> None:
        """Undo `create`, even if only a part of it was done."""

    async def answers(self, address: str, port: int) -> bool:
        """Whether the pod accepts a TCP connection within a second. Raises nothing."""


class PodClient(Protocol):
    """Reports to the API server. Raises MoorageError if that fails for now; a pod that is gone is no error."""

    async def report(self, pod: Pod, status: dict[str, object]) -> None: ...

    async def finish(self, pod: Pod) -> None:
        """Delete exactly this pod (by uid) without grace."""

    def event(self, pod: Pod, type: str, reason: str, message: str) -> None:
        """Record an Event; never fails."""


class Worker:
    """Runs one pod until it is stopped."""

    def __init__(
        self,
        pod: Pod,
        node: NodePlan,
        addresses: list[str],
        runtime: Runtime,
        client: PodClient,
        now: Callable[[], str],
    ) -> None:
        self.pod = pod
        self._node, self._addresses = node, addresses
        self._runtime, self._client, self._now = runtime, client, now
        self._states = [
            ContainerState(container=container, restarts=previous_restarts(pod, container.name))
            for container in pod.spec.containers
        ]
        self._stopping, self._killing, self._changed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._grace: float | None = None

    def stop(self, grace: float) -> None:
        """Begin to stop it: SIGTERM now, SIGKILL after `grace` seconds; a later call can only shorten that."""
        if self._grace is not None and grace >= self._grace:
            return
        self._grace = grace
        self._stopping.set()
        asyncio.get_running_loop().call_later(grace, self._killing.set)

    async def run(self) -> None:
        """Returns when the pod is stopped and nothing of it is left. Cancelling it does the same without grace."""
        try:
            reporter = asyncio.create_task(self._report())
            try:
                if await self._create():
                    await self._run_containers()
            finally:
                reporter.cancel()
                await asyncio.wait({reporter})
        finally:
            await asyncio.shield(self._remove())

    async def _create(self) -> bool:
        while not self._stopping.is_set():
            try:
                await self._runtime.create(self.pod, self._node, self._addresses)
                return True
            except MoorageError as error:
                self._client.event(self.pod, "Warning", "FailedCreatePodSandBox", str(error))
                _log.warning("pod's network failed", pod=self.pod.metadata.name, error=str(error))
                await self._remove()
                await self._pause(RETRY_SECONDS)
        return False

    async def _remove(self) -> None:
        try:
            await self._runtime.remove(self.pod, self._node)
        except MoorageError as error:
            _log.warning("pod's network stays behind", pod=self.pod.metadata.name, error=str(error))

    async def _run_containers(self) -> None:
        async with asyncio.TaskGroup() as group:
            probes = [group.create_task(self._probe(state)) for state in self._states]
            await asyncio.gather(*(group.create_task(self._keep_running(state)) for state in self._states))
            for probe in probes:
                probe.cancel()

    async def _keep_running(self, state: ContainerState) -> None:
        deaths = 0
        clock = asyncio.get_running_loop().time
        while not self._stopping.is_set():
            began = clock()
            try:
                process = await self._runtime.start(self.pod, self._node, state.container)
            except MoorageError as error:
                self._client.event(self.pod, "Warning", "Failed", str(error))
                state.exited(128, self._now())
            else:
                state.started(self._now())
                self._client.event(self.pod, "Normal", "Started", f"Started container {state.container.name}")
                self._changed.set()
                state.exited(await self._until_exit(process, state), self._now())
            self._changed.set()
            if self._stopping.is_set():
                return
            deaths = 1 if clock() - began >= STEADY_SECONDS else deaths + 1
            if delay := restart_delay(deaths):
                name = state.container.name
                self._client.event(self.pod, "Warning", "BackOff", f"Back-off restarting failed container {name}")
                await self._pause(delay)
            state.restarts += 1

    async def _until_exit(self, process: Process, state: ContainerState) -> int:
        exit_ = asyncio.create_task(process.wait())
        try:
            if not await self._first(exit_, self._stopping):
                self._client.event(self.pod, "Normal", "Killing", f"Stopping container {state.container.name}")
                process.send(signal.SIGTERM)
                if not await self._first(exit_, self._killing):
                    process.send(signal.SIGKILL)
            return await exit_
        finally:
            if not exit_.done():
                process.send(signal.SIGKILL)
                await asyncio.wait({exit_})

    async def _first(self, task: asyncio.Task[int], event: asyncio.Event) -> bool:
        """Waits for either; returns whether the task is done."""
        waiter = asyncio.create_task(event.wait())
        try:
            await asyncio.wait({task, waiter}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiter.cancel()
        return task.done()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _probe(self, state: ContainerState) -> None:
        """Keeps `state.ready` up to date with the container's answers, also while it is stopping."""
        port, since, probes = tcp_port(state.container), None, 0
        while True:
            if state.started_at != since:
                since, probes = state.started_at, 0
            if state.started_at is not None:
                answered = port is None or await self._runtime.answers(self._addresses[0], port)
                before, probes = state.ready, probes + 1
                if state.started_at == since:
                    state.probed(answered)
                if state.ready != before:
                    self._changed.set()
            early = not state.ready and probes < PROBES_AT_START
            await asyncio.sleep(PROBE_INTERVAL_AT_START_SECONDS if early else PROBE_INTERVAL_SECONDS)

    async def _report(self) -> None:
        began = self.pod.status.start_time or self._now()
        conditions = self.pod.status.conditions or []
        while True:
            self._changed.clear()
            status = pod_status(self._states, self._addresses, self._node.addresses, conditions, began, self._now())
            conditions = status["conditions"]  # type: ignore[assignment]
            try:
                await self._client.report(self.pod, status)
            except MoorageError as error:
                _log.warning("pod's status not reported", pod=self.pod.metadata.name, error=str(error))
                await asyncio.sleep(RETRY_SECONDS)
            else:
                await self._changed.wait()


class Kubelet:
    """One worker for each pod of the plan's nodes, as tasks of `group`."""

    def __init__(
        self,
        group: asyncio.TaskGroup,
        plan: ClusterPlan,
        runtime: Runtime,
        client: PodClient,
        now: Callable[[], str],
    ) -> None:
        self._group = group
        self._nodes = {node.name: node for node in plan.nodes}
        self._pools = {node.name: [AddressPool(cidr) for cidr in node.pod_ranges] for node in plan.nodes}
        self._runtime, self._client, self._now = runtime, client, now
        self._workers: dict[str, tuple[Worker, asyncio.Task[None]]] = {}

    def sync(self, pods: Collection[Pod]) -> None:
        """Start workers for new pods, and stop those of pods that are being deleted or gone. Returns at once."""
        mine = {pod.metadata.uid or "": pod for pod in pods if pod.spec.node_name in self._nodes}
        for uid, (worker, _) in self._workers.items():
            pod = mine.get(uid)
            if pod is None:
                worker.stop(0)
            elif pod.metadata.deletion_timestamp is not None:
                worker.stop(_grace(pod))
        # Pods that have addresses first, so that they keep them.
        for uid, pod in sorted(mine.items(), key=lambda item: item[1].status.pod_ip is None):
            if uid not in self._workers:
                self._start(uid, pod)

    async def close(self) -> None:
        """Stop all pods without grace and without reporting it."""
        tasks = [task for _, task in self._workers.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _start(self, uid: str, pod: Pod) -> None:
        node = self._nodes[pod.spec.node_name or ""]
        try:
            addresses = node.addresses if pod.spec.host_network else self._addresses(uid, pod, node)
        except AddressesExhaustedError as error:
            self._release(uid, node)
            self._client.event(pod, "Warning", "FailedCreatePodSandBox", str(error))
            return
        worker = Worker(pod, node, addresses, self._runtime, self._client, self._now)
        self._workers[uid] = worker, self._group.create_task(self._work(uid, worker, node))
        if pod.metadata.deletion_timestamp is not None:
            worker.stop(0)

    async def _work(self, uid: str, worker: Worker, node: NodePlan) -> None:
        await worker.run()
        self._release(uid, node)
        while True:
            try:
                await self._client.finish(worker.pod)
                break
            except MoorageError as error:
                _log.warning("pod not deleted", pod=worker.pod.metadata.name, error=str(error))
                await asyncio.sleep(RETRY_SECONDS)
        del self._workers[uid]

    def _addresses(self, uid: str, pod: Pod, node: NodePlan) -> list[str]:
        wishes = [ip.ip for ip in pod.status.pod_ips or ()]
        wishes += [""] * (len(node.pod_ranges) - len(wishes))
        pools = self._pools[node.name]
        return [pool.take(uid, wish or None) for pool, wish in zip(pools, wishes, strict=False)]

    def _release(self, uid: str, node: NodePlan) -> None:
        for pool in self._pools[node.name]:
            pool.release(uid)


def _grace(pod: Pod) -> float:
    seconds = pod.metadata.deletion_grace_period_seconds
    if seconds is None:
        seconds = pod.spec.termination_grace_period_seconds
    return DEFAULT_GRACE_SECONDS if seconds is None else float(seconds)
