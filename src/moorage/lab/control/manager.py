"""The controllers' loops: read the stores, ask the pure functions, write what differs."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from moorage.api.apps_v1 import Deployment
from moorage.api.core_v1 import Endpoints, Node, Pod, Service
from moorage.api.discovery_v1 import SERVICE_NAME_LABEL, EndpointSlice
from moorage.api.meta import Object
from moorage.cluster.errors import ApiError
from moorage.errors import MoorageError
from moorage.lab.control import deployments, loadbalancers, mirroring, nodes, scheduling, slices
from moorage.lab.control.events import Recorder
from moorage.lab.control.names import Suffix
from moorage.lab.control.stores import Stores
from moorage.lab.topology import ClusterPlan
from moorage.log import get_logger

FIRST_RETRY, LONGEST_RETRY = 0.05, 5.0
"""Seconds until a round that failed is made again."""

_log = get_logger("moorage.lab.control.manager")


class Controller(NamedTuple):
    """One loop: what wakes it, and one round of it."""

    name: str
    wakes: tuple[type[Object], ...]
    sync: Callable[[], Awaitable[None]]


async def keep(controller: Controller, changed: asyncio.Event) -> None:
    """Make a round at each change, until cancelled; a round that fails is made again after a growing pause."""
    failures = 0
    while True:
        await changed.wait()
        changed.clear()
        try:
            await controller.sync()
            failures = 0
        except MoorageError as error:
            failures += 1
            # A conflict, or a namespace or an owner that is just going: the next round sees it.
            usual = isinstance(error, ApiError) and error.status in (403, 404, 409) and failures < 5
            log = _log.debug if usual else _log.warning
            log("round failed", controller=controller.name, error=str(error), failures=failures)
            await asyncio.sleep(min(LONGEST_RETRY, FIRST_RETRY * 2.0 ** min(failures - 1, 10)))
            changed.set()


class Manager:
    """The controllers of one cluster, kubelet and DNS aside."""

    def __init__(
        self,
        plan: ClusterPlan,
        stores: Stores,
        recorder: Recorder,
        suffix: Suffix,
        now: Callable[[], str],
        *,
        version: str,
        kernel: str,
    ) -> None:
        self._plan, self._stores, self._recorder = plan, stores, recorder
        self._suffix, self._now = suffix, now
        self._version, self._kernel = version, kernel
        self._client = stores.client

    def controllers(self) -> list[Controller]:
        return [
            Controller("node", (Node,), self.sync_nodes),
            Controller("deployment", (Deployment, Pod), self.sync_deployments),
            Controller("scheduler", (Pod, Node), self.schedule),
            Controller("endpointslice", (Service, Pod, EndpointSlice), self.sync_slices),
            Controller("endpointslicemirroring", (Service, Endpoints, EndpointSlice), self.mirror),
            Controller("cloud-load-balancer", (Service,), self.sync_load_balancers),
        ]

    async def sync_nodes(self) -> None:
        for node in nodes.nodes(self._plan, self._version, self._kernel, self._now()):
            name = node.metadata.name
            stored = self._stores.get(Node, None, name)
            if stored is None:
                stored = await self._client.create(node)
            if not stored.status.conditions:
                await self._stores.seen(
                    [await self._client.patch(Node, None, name, {"status": node.status}, subresource="status")]
                )

    async def sync_deployments(self) -> None:
        listed, pods = self._stores.list(Deployment), self._stores.list(Pod)
        for pod in deployments.orphans(listed, pods):
            await self._delete(Pod, pod)
        for deployment in listed:
            if deployment.metadata.deletion_timestamp is None:
                await self._sync_deployment(deployment, deployments.owned(deployment, pods))

    async def _sync_deployment(self, deployment: Deployment, pods: Sequence[Pod]) -> None:
        meta = deployment.metadata
        plan = deployments.plan(deployment, pods, self._suffix, self._now())
        if changed := _changes(deployment.status, plan.status):
            await self._stores.seen(
                [
                    await self._client.patch(
                        Deployment, meta.namespace, meta.name, {"status": changed}, subresource="status"
                    )
                ]
            )
        for verb, count in (("Scaled up", len(plan.create)), ("Scaled down", len(plan.delete))):
            if count:
                message = f"{verb} {meta.name} by {count} to {len(pods) + len(plan.create) - len(plan.delete)} pods"
                self._recorder.record(deployment, "Normal", "ScalingReplicaSet", message)
        for pod in plan.delete:
            await self._delete(Pod, pod)
        await self._stores.seen([await self._client.create(pod) for pod in plan.create])

    async def schedule(self) -> None:
        ready = [node.name for node in self._plan.nodes if self._stores.get(Node, None, node.name)]
        placed = scheduling.assign(self._stores.list(Pod), ready)
        written = []
        for pod, node in placed:
            meta = pod.metadata
            body = {"metadata": {"uid": meta.uid}, "spec": {"nodeName": node}}
            written.append(await self._client.patch(Pod, meta.namespace, meta.name, body))
            message = f"Successfully assigned {meta.namespace}/{meta.name} to {node}"
            self._recorder.record(pod, "Normal", "Scheduled", message)
        for pod in self._stores.list(Pod):
            # A pod that no kubelet ever saw has nobody else to finish it.
            if pod.spec.node_name is None and pod.metadata.deletion_timestamp is not None:
                await self._delete(Pod, pod, grace_period_seconds=0)
        await self._stores.seen(written)

    async def sync_slices(self) -> None:
        services = self._stores.list(Service)
        existing = self._managed(slices.MANAGED_BY)
        for service in services:
            meta = service.metadata
            if service.spec.selector and meta.deletion_timestamp is None and service.spec.type != "ExternalName":
                mine = existing.pop((meta.namespace or "", meta.name), [])
                want = slices.wanted(service, self._stores.list(Pod, meta.namespace))
                await self._write(slices.reconcile(want, mine, self._suffix))
            else:
                existing.pop((meta.namespace or "", meta.name), None)
        for orphaned in existing.values():
            await self._write(slices.Changes([], [], orphaned))

    async def mirror(self) -> None:
        existing = self._managed(mirroring.MANAGED_BY)
        for endpoints in self._stores.list(Endpoints):
            meta = endpoints.metadata
            if mirroring.is_mirrored(endpoints, self._stores.get(Service, meta.namespace, meta.name)):
                mine = existing.pop((meta.namespace or "", meta.name), [])
                await self._write(slices.reconcile(mirroring.wanted(endpoints), mine, self._suffix))
        for orphaned in existing.values():
            await self._write(slices.Changes([], [], orphaned))

    async def sync_load_balancers(self) -> None:
        written = []
        for service, ingress in loadbalancers.assign(self._stores.list(Service), self._plan.load_balancer_ranges):
            meta = service.metadata
            body = {
                "metadata": {"resourceVersion": meta.resource_version},
                "status": {"loadBalancer": {"ingress": ingress or None}},
            }
            written.append(await self._client.patch(Service, meta.namespace, meta.name, body, subresource="status"))
            if ingress:
                self._recorder.record(service, "Normal", "EnsuredLoadBalancer", "Ensured load balancer")
        await self._stores.seen(written)

    def _managed(self, by: str) -> dict[tuple[str, str], list[EndpointSlice]]:
        """The slices of one controller, by namespace and name of their Service."""
        found: dict[tuple[str, str], list[EndpointSlice]] = {}
        for slice_ in self._stores.list(EndpointSlice):
            labels = slice_.metadata.labels or {}
            if labels.get(slices.MANAGED_BY_LABEL) == by and slice_.metadata.deletion_timestamp is None:
                key = slice_.metadata.namespace or "", labels.get(SERVICE_NAME_LABEL, "")
                found.setdefault(key, []).append(slice_)
        return found

    async def _write(self, changes: slices.Changes) -> None:
        """New slices first, so that no endpoint is missing in between."""
        written = [await self._client.create(slice_) for slice_ in changes.create]
        written += [await self._client.replace(slice_) for slice_ in changes.update]
        for slice_ in changes.delete:
            await self._delete(EndpointSlice, slice_)
        await self._stores.seen(written)

    async def _delete(self, kind: type[Any], obj: Object, *, grace_period_seconds: int | None = None) -> None:
        meta = obj.metadata
        try:
            await self._client.delete(
                kind, meta.namespace, meta.name, uid=meta.uid, grace_period_seconds=grace_period_seconds
            )
        except ApiError as error:
            if error.status not in (404, 409):
                raise


def _changes(before: msgspec.Struct, after: dict[str, object]) -> dict[str, object]:
    """The fields of a status that a merge patch must set (None: remove)."""
    have = msgspec.to_builtins(before)
    return {key: value for key, value in after.items() if have.get(key) != value}


async def run_controllers(stores: Stores, controllers: Sequence[Controller]) -> None:
    """Run the loops until cancelled, from when the stores are filled."""
    wakes = [stores.subscribe(*controller.wakes) for controller in controllers]
    async with asyncio.TaskGroup() as group:
        group.create_task(stores.run())
        await stores.synced()
        for controller, changed in zip(controllers, wakes, strict=True):
            group.create_task(keep(controller, changed))
