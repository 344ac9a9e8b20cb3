"""The controllers' loops: read the stores, ask the pure functions, write what differs."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from moorage.api.apps_v1 import Deployment, StatefulSet
from moorage.api.core_v1 import Endpoints, LoadBalancerIngress, Node, Pod, Service
from moorage.api.discovery_v1 import MANAGED_BY_LABEL, SERVICE_NAME_LABEL, EndpointSlice
from moorage.api.meta import Object
from moorage.api.mirroring import is_mirrored
from moorage.cluster.errors import ApiError
from moorage.cluster.recorder import Recorder
from moorage.errors import MoorageError
from moorage.log import get_logger
from moorage_lab.control import deployments, loadbalancers, mirroring, nodes, scheduling, slices, statefulsets
from moorage_lab.control.names import Suffix
from moorage_lab.control.stores import Stores
from moorage_lab.topology import ClusterPlan

W = TypeVar("W", Deployment, StatefulSet)

MIN_RETRY_SECONDS, MAX_RETRY_SECONDS = 0.05, 5.0
"""Seconds until a failed round is repeated."""

_log = get_logger("moorage_lab.control.manager")


class Controller(NamedTuple):
    """One loop: what wakes it up, and one round of it."""

    name: str
    wakes: tuple[type[Object], ...]
    sync: Callable[[], Awaitable[None]]


async def keep(controller: Controller, changed: asyncio.Event) -> None:
    """Make a round at each change, until cancelled; a failed round is repeated after a growing pause."""
    failures = 0
    while True:
        await changed.wait()
        changed.clear()
        try:
            await controller.sync()
            failures = 0
        except MoorageError as error:
            failures += 1
            # A conflict, or a namespace or owner that is just being deleted: the next round sees the new state.
            usual = isinstance(error, ApiError) and error.status in (403, 404, 409) and failures < 5
            log = _log.debug if usual else _log.warning
            log("round failed", controller=controller.name, error=str(error), failures=failures)
            await asyncio.sleep(min(MAX_RETRY_SECONDS, MIN_RETRY_SECONDS * 2.0 ** min(failures - 1, 10)))
            changed.set()


class Manager:
    """The controllers of one cluster, except for kubelet and DNS."""

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
            Controller("statefulset", (StatefulSet, Pod), self.sync_stateful_sets),
            Controller("scheduler", (Pod, Node), self.schedule),
            Controller("endpointslice", (Service, Pod, EndpointSlice), self.sync_slices),
            Controller("endpointslicemirroring", (Service, Endpoints, EndpointSlice), self.mirror),
            Controller("cloud-load-balancer", (Service,), self.sync_load_balancers),
        ]

    async def sync_nodes(self) -> None:
        for node in nodes.nodes(self._plan, self._version, self._kernel, self._now()):
            if self._stores.get(Node, None, node.metadata.name) is None:
                await self._stores.seen([await self._client.create(node)])

    async def sync_deployments(self) -> None:
        await _each(self._sync_deployment(each, pods) for each, pods in self._with_pods(Deployment))

    async def _sync_deployment(self, deployment: Deployment, pods: Sequence[Pod]) -> None:
        plan = deployments.plan(deployment, pods, self._suffix, self._now())
        await self._carry_out(deployment, plan)
        for verb, count in (("Scaled up", len(plan.create)), ("Scaled down", len(plan.delete))):
            if count:
                message = f"{verb} {deployment.metadata.name}'s pods by {count}"
                self._recorder.record(deployment, "Normal", "ScalingReplicaSet", message)

    async def sync_stateful_sets(self) -> None:
        await _each(self._sync_stateful_set(each, pods) for each, pods in self._with_pods(StatefulSet))

    async def _sync_stateful_set(self, stateful_set: StatefulSet, pods: Sequence[Pod]) -> None:
        plan = statefulsets.plan(stateful_set, pods)
        await self._carry_out(stateful_set, plan)
        done = [("create", "SuccessfulCreate", pod) for pod in plan.create]
        done += [("delete", "SuccessfulDelete", pod) for pod in plan.delete]
        for verb, reason, pod in done:
            message = f"{verb} Pod {pod.metadata.name} in StatefulSet {stateful_set.metadata.name} successful"
            self._recorder.record(stateful_set, "Normal", reason, message)

    def _with_pods(self, kind: type[W]) -> list[tuple[W, list[Pod]]]:
        """The workloads of a kind that are not being deleted, with the pods that each owns."""
        pods = self._stores.list(Pod)
        living = [each for each in self._stores.list(kind) if each.metadata.deletion_timestamp is None]
        return [(each, deployments.owned(each, pods)) for each in living]

    async def _carry_out(self, workload: Deployment | StatefulSet, plan: deployments.Plan) -> None:
        meta = workload.metadata
        if changed := _changes(workload.status, plan.status):
            body = {"status": changed}
            written = await self._client.patch(type(workload), meta.namespace, meta.name, body, subresource="status")
            await self._stores.seen([written])
        for pod in plan.delete:
            await self._delete(Pod, pod)
        await self._stores.seen([await self._client.create(pod) for pod in plan.create])

    async def schedule(self) -> None:
        nodes = [self._stores.get(Node, None, node.name) for node in self._plan.nodes]
        decision = scheduling.assign(self._stores.list(Pod), [node for node in nodes if node])
        await _each(self._bind(pod, node) for pod, node in decision.placed)
        await _each(self._say_why(pod, reason) for pod, reason in decision.waiting)

    async def _say_why(self, pod: Pod, reason: str) -> None:
        """Once for each reason, by the pod's condition."""
        before = pod.status.conditions or []
        if any(each.get("message") == reason for each in before):
            return
        condition: dict[str, object] = {"type": "PodScheduled", "status": "False"}
        conditions = deployments.with_times(
            [{**condition, "reason": "Unschedulable", "message": reason}], before, self._now()
        )
        meta = pod.metadata
        body = {"metadata": {"uid": meta.uid}, "status": {"conditions": conditions}}
        written = await self._client.patch(Pod, meta.namespace, meta.name, body, subresource="status")
        self._recorder.record(pod, "Warning", "FailedScheduling", reason)
        await self._stores.seen([written])

    async def _bind(self, pod: Pod, node: str) -> None:
        meta = pod.metadata
        body = {"metadata": {"uid": meta.uid}, "spec": {"nodeName": node}}
        written = await self._client.patch(Pod, meta.namespace, meta.name, body)
        message = f"Successfully assigned {meta.namespace}/{meta.name} to {node}"
        self._recorder.record(pod, "Normal", "Scheduled", message)
        await self._stores.seen([written])

    async def sync_slices(self) -> None:
        existing = self._managed(slices.MANAGED_BY)
        wanted = [
            slices.wanted(service, self._stores.list(Pod, service.metadata.namespace))
            for service in self._stores.list(Service)
            if service.spec.selector
            and service.metadata.deletion_timestamp is None
            and service.spec.type != "ExternalName"
        ]
        await self._reconcile(wanted, existing)

    async def mirror(self) -> None:
        existing = self._managed(mirroring.MANAGED_BY)
        wanted = [
            mirroring.wanted(endpoints)
            for endpoints in self._stores.list(Endpoints)
            if is_mirrored(
                endpoints, self._stores.get(Service, endpoints.metadata.namespace, endpoints.metadata.name)
            )
        ]
        still = {(want.namespace, want.owner.name) for want in wanted}
        gone = [slice_ for key, of_key in existing.items() if key not in still for slice_ in of_key]
        await self._write(slices.Changes([], [], gone))
        await self._reconcile(wanted, existing)

    async def sync_load_balancers(self) -> None:
        await _each(
            self._set_ingress(service, ingress)
            for service, ingress in loadbalancers.assign(self._stores.list(Service), self._plan.load_balancer_ranges)
        )

    async def _set_ingress(self, service: Service, ingress: list[LoadBalancerIngress]) -> None:
        meta = service.metadata
        body = {
            "metadata": {"resourceVersion": meta.resource_version},
            "status": {"loadBalancer": {"ingress": ingress or None}},
        }
        written = await self._client.patch(Service, meta.namespace, meta.name, body, subresource="status")
        if ingress:
            self._recorder.record(service, "Normal", "EnsuredLoadBalancer", "Ensured load balancer")
        await self._stores.seen([written])

    def _managed(self, by: str) -> dict[tuple[str, str], list[EndpointSlice]]:
        """The slices of one controller, by namespace and name of their Service."""
        found: dict[tuple[str, str], list[EndpointSlice]] = {}
        for slice_ in self._stores.list(EndpointSlice):
            labels = slice_.metadata.labels or {}
            if labels.get(MANAGED_BY_LABEL) == by and slice_.metadata.deletion_timestamp is None:
                key = slice_.metadata.namespace or "", labels.get(SERVICE_NAME_LABEL, "")
                found.setdefault(key, []).append(slice_)
        return found

    async def _reconcile(
        self, wanted: Iterable[slices.Wanted], existing: Mapping[tuple[str, str], Sequence[EndpointSlice]]
    ) -> None:
        await _each(
            self._write(slices.reconcile(want, existing.get((want.namespace, want.owner.name), ()), self._suffix))
            for want in wanted
        )

    async def _write(self, changes: slices.Changes) -> None:
        """Creates new slices first, so that no endpoint is missing in between."""
        written = [await self._client.create(slice_) for slice_ in changes.create]
        written += [await self._client.replace(slice_) for slice_ in changes.update]
        for slice_ in changes.delete:
            await self._delete(EndpointSlice, slice_)
        await self._stores.seen(written)

    async def _delete(self, kind: type[Any], obj: Object) -> None:
        meta = obj.metadata
        try:
            await self._client.delete(kind, meta.namespace, meta.name, uid=meta.uid)
        except ApiError as error:
            if error.status not in (404, 409):
                raise


async def _each(parts: Iterable[Awaitable[None]]) -> None:
    """Do all parts of a round, one after the other, even if some fail; then raise the first MoorageError."""
    failed: MoorageError | None = None
    for part in parts:
        try:
            await part
        except MoorageError as error:
            failed = failed or error
    if failed is not None:
        raise failed


def _changes(before: msgspec.Struct, after: dict[str, object]) -> dict[str, object]:
    """The fields of a status that a merge patch must set (None: remove)."""
    have = msgspec.to_builtins(before)
    return {key: value for key, value in after.items() if have.get(key) != value}


async def run_controllers(stores: Stores, controllers: Sequence[Controller]) -> None:
    """Once the stores are filled, run the loops until cancelled."""
    wakes = [stores.subscribe(*controller.wakes) for controller in controllers]
    async with asyncio.TaskGroup() as group:
        group.create_task(stores.run())
        await stores.synced()
        for controller, changed in zip(controllers, wakes, strict=True):
            group.create_task(keep(controller, changed))
