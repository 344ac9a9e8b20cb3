"""The process `moorage lab-control`: everything of this package for one cluster."""

import asyncio
import os
from collections.abc import Awaitable
from pathlib import Path
from random import SystemRandom

import msgspec

from moorage import __version__
from moorage.api.core_v1 import Pod
from moorage.cluster import kubeconfig
from moorage.cluster.client import Client
from moorage.cluster.clock import timestamp
from moorage.cluster.errors import ApiError
from moorage.cluster.recorder import Recorder
from moorage.errors import MoorageError
from moorage.serving.stopping import stopped
from moorage_lab.control.cluster_dns import ClusterDns
from moorage_lab.control.kubelet import Kubelet, Runtime
from moorage_lab.control.manager import Controller, Manager, run_controllers
from moorage_lab.control.names import random_suffix
from moorage_lab.control.runtime import ProcessRuntime
from moorage_lab.control.stores import Stores
from moorage_lab.topology import ClusterPlan


class ApiPodClient:
    """The kubelet's reports to the API server (`kubelet.PodClient`)."""

    def __init__(self, client: Client, recorder: Recorder) -> None:
        self._client, self._recorder = client, recorder

    async def report(self, pod: Pod, status: dict[str, object]) -> None:
        meta = pod.metadata
        body = {"metadata": {"uid": meta.uid}, "status": status}
        await _unless_gone(self._client.patch(Pod, meta.namespace, meta.name, body, subresource="status"))

    async def finish(self, pod: Pod) -> None:
        meta = pod.metadata
        await _unless_gone(self._client.delete(Pod, meta.namespace, meta.name, uid=meta.uid, grace_period_seconds=0))

    def event(self, pod: Pod, type: str, reason: str, message: str) -> None:
        self._recorder.record(pod, type, reason, message)


async def _unless_gone(request: Awaitable[object]) -> None:
    try:
        await request
    except ApiError as error:
        # A patch with the uid of a predecessor is invalid, a deletion a conflict.
        made_again = error.status == 409 or (error.status == 422 and "metadata.uid" in error.message)
        if error.status != 404 and not made_again:
            raise


async def control(plan: ClusterPlan, client: Client, state: Path, runtime: Runtime) -> None:
    """Play the control plane and the kubelets of one cluster until cancelled; its pods end with it."""
    suffix = random_suffix(SystemRandom())
    stores, recorder = Stores(client), Recorder(client, "moorage-lab")
    manager = Manager(plan, stores, recorder, suffix, timestamp, version=__version__, kernel=os.uname().release)
    async with asyncio.TaskGroup() as group:
        kubelet = Kubelet(group, plan, runtime, ApiPodClient(client, recorder), timestamp)

        async def sync_pods() -> None:
            kubelet.sync(stores.list(Pod))

        controllers = [
            *manager.controllers(),
            *ClusterDns(plan, stores, state).controllers(),
            Controller("kubelet", (Pod,), sync_pods),
        ]
        group.create_task(recorder.run())
        try:
            await run_controllers(stores, controllers)
        finally:
            await kubelet.close()


def read_plan(topology: Path, cluster: str) -> ClusterPlan:
    """The plan in the file. Raises MoorageError if it is not a plan, or for another cluster."""
    try:
        plan = msgspec.json.decode(topology.read_bytes(), type=ClusterPlan)
    except (OSError, msgspec.DecodeError) as error:
        raise MoorageError(f"topology {topology}: {error}") from None
    if plan.name != cluster:
        raise MoorageError(f"topology {topology}: is of cluster {plan.name}, not {cluster}")
    return plan


async def run(kubeconfig_file: Path, cluster: str, state: Path, topology: Path) -> None:
    """`control` with real processes, until SIGTERM or SIGINT. Raises MoorageError for files that cannot be used."""
    plan = read_plan(topology, cluster)
    runtime = ProcessRuntime(plan, state)
    await runtime.clear()
    async with Client(kubeconfig.load(kubeconfig_file)) as client:
        await stopped(control(plan, client, state, runtime))
