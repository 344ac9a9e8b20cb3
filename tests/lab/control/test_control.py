"""All loops together against the lab's API server, with a runtime in memory."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from moorage.api.apps_v1 import Deployment, StatefulSet
from moorage.api.core_v1 import Endpoints, Event, Namespace, Node, Pod, Service
from moorage.api.discovery_v1 import MANAGED_BY_LABEL, SERVICE_NAME_LABEL, Endpoint, EndpointSlice
from moorage.api.meta import ObjectMeta
from moorage.cluster.client import Client
from moorage_lab.control import DNS_HOSTS
from moorage_lab.control.main import control
from moorage_lab.control.mirroring import MANAGED_BY
from testing.beside import beside
from tests.support.apiserver import api_server
from tests.support.lab_objects import cluster
from tests.support.lab_runtime import FakeRuntime

PATIENCE = 20
"""Seconds of the real clock that anything may take."""


class World:
    def __init__(self, client: Client, state: Path) -> None:
        self.client, self.state, self.runtime = client, state, FakeRuntime()

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not await condition():
            assert time.monotonic() < deadline, "it did not happen"
            await asyncio.sleep(0.02)

    async def apply(self, kind: str, name: str, api_version: str = "v1", **fields: object) -> None:
        meta = {"name": name, "namespace": "shop"}
        await self.client.apply(
            {"apiVersion": api_version, "kind": kind, "metadata": meta, **fields}, field_manager="test", force=True
        )

    async def deploy(self, name: str, replicas: int, image: str = "one") -> None:
        container = {"name": "c", "image": image, "ports": [{"containerPort": 9000, "name": "http"}]}
        template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
        spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
        await self.apply("Deployment", name, "apps/v1", spec=spec)

    async def pods(self) -> list[Pod]:
        return (await self.client.list(Pod, "shop")).items

    async def rolled_out(self, name: str, replicas: int) -> bool:
        deployment = await self.client.get(Deployment, "shop", name)
        status = deployment.status
        return (
            status.observed_generation == deployment.metadata.generation
            and (status.updated_replicas or 0) == (status.available_replicas or 0) == replicas
            and (status.replicas or 0) == replicas
        )

    async def endpoints(self, name: str) -> list[Endpoint]:
        slices = await self.client.list(EndpointSlice, "shop", label_selector=f"{SERVICE_NAME_LABEL}={name}")
        return [endpoint for slice_ in slices.items for endpoint in slice_.endpoints or ()]

    async def ready_addresses(self, name: str) -> set[str]:
        return {one.addresses[0] for one in await self.endpoints(name) if one.conditions.ready}

    async def hosts(self) -> set[str]:
        with suppress(FileNotFoundError):
            return set((self.state / DNS_HOSTS).read_text().splitlines())
        return set()


@asynccontextmanager
async def running(state: Path) -> AsyncIterator[World]:
    plan = cluster(2)
    async with api_server(service_ranges=plan.service_ranges) as server, Client(server.config) as client:
        world = World(client, state)
        await client.create(Namespace(metadata=ObjectMeta(name="shop")))
        async with beside(control(plan, client, state, world.runtime)):
            yield world
        assert world.runtime.addresses == {}, "no pod is left behind"


async def test_a_deployment_runs_spread_over_the_nodes_and_scales(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        await world.deploy("web", 4)
        await world.until(lambda: world.rolled_out("web", 4))
        pods = await world.pods()
        assert sorted(pod.spec.node_name or "" for pod in pods) == ["node-1", "node-1", "node-2", "node-2"]
        assert set(world.runtime.addresses) == {pod.metadata.name for pod in pods}
        for replicas in (6, 1, 0):
            await world.deploy("web", replicas)

            async def settled(replicas: int = replicas) -> bool:
                return await world.rolled_out("web", replicas) and len(await world.pods()) == replicas

            await world.until(settled)


async def test_a_changed_template_replaces_the_pods_and_a_deleted_deployment_takes_them_along(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        await world.deploy("web", 2)
        await world.until(lambda: world.rolled_out("web", 2))
        before = {pod.metadata.uid for pod in await world.pods()}
        await world.deploy("web", 2, "two")

        async def replaced() -> bool:
            pods = await world.pods()
            return len(pods) == 2 and not before & {pod.metadata.uid for pod in pods}

        await world.until(replaced)
        await world.until(lambda: world.rolled_out("web", 2))
        await world.client.delete(Deployment, "shop", "web")

        async def gone() -> bool:
            return not await world.pods() and not world.runtime.addresses

        await world.until(gone)


async def test_a_stateful_set_s_pod_moves_to_another_node_under_its_name_and_its_service_names_it(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as world:
        container = {"name": "c", "image": "one", "ports": [{"containerPort": 9000}]}
        template = {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [container]}}
        spec = {"replicas": 2, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}}, "template": template}
        headless = {"clusterIP": "None", "selector": {"app": "db"}, "ports": [{"port": 9000}]}
        await world.apply("Service", "db", spec=headless)
        await world.apply("StatefulSet", "db", "apps/v1", spec=spec)

        async def ready(replicas: int) -> bool:
            status = (await world.client.get(StatefulSet, "shop", "db")).status
            return status.replicas == (status.ready_replicas or 0) == (status.updated_replicas or 0) == replicas

        await world.until(lambda: ready(2))
        pods = {pod.metadata.name: pod for pod in await world.pods()}
        assert sorted(pods) == ["db-0", "db-1"]
        assert pods["db-0"].spec.node_name != pods["db-1"].spec.node_name
        name = f"{pods['db-0'].status.pod_ip} db-0.db.shop.svc.cluster.local"

        async def named() -> bool:
            return name in await world.hosts()

        await world.until(named)
        await cordon(world, pods["db-0"].spec.node_name or "")
        await world.client.delete(Pod, "shop", "db-0")

        async def moved() -> bool:
            again = [pod for pod in await world.pods() if pod.metadata.name == "db-0"]
            return [pod.spec.node_name for pod in again] == [pods["db-1"].spec.node_name]

        await world.until(moved)
        await world.until(lambda: ready(2))
        await world.apply("StatefulSet", "db", "apps/v1", spec={**spec, "replicas": 1})

        async def scaled() -> bool:
            return await ready(1) and [pod.metadata.name for pod in await world.pods()] == ["db-0"]

        await world.until(scaled)
        events = (await world.client.list(Event, "shop")).items
        assert {"SuccessfulCreate", "SuccessfulDelete"} <= {event.reason for event in events}


async def test_a_pod_leaves_a_cordoned_node_when_it_is_deleted_and_one_that_fits_nowhere_says_why(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as world:
        await world.deploy("web", 1)
        await world.until(lambda: world.rolled_out("web", 1))
        [before] = await world.pods()

        async def living() -> list[Pod]:
            return [each for each in await world.pods() if each.metadata.deletion_timestamp is None]

        async def at(node: str | None) -> bool:
            return [each.spec.node_name for each in await living()] == [node]

        async def told(reason: str) -> bool:
            conditions = [each for pod in await living() for each in pod.status.conditions or ()]
            return any(each.get("message") == reason for each in conditions)

        first, second = sorted(("node-1", "node-2"), key=lambda name: name != before.spec.node_name)
        await cordon(world, first)
        await world.client.delete(Pod, "shop", before.metadata.name)
        await world.until(lambda: at(second))
        [moved] = await living()
        await cordon(world, second)
        await world.client.delete(Pod, "shop", moved.metadata.name)
        await world.until(lambda: told("0/2 nodes are available: 2 node(s) were unschedulable."))
        assert await at(None)
        await cordon(world, first, on=False)
        await world.until(lambda: at(first))
        events = (await world.client.list(Event, "shop")).items
        assert "FailedScheduling" in {event.reason for event in events}


async def cordon(world: World, node: str, *, on: bool = True) -> None:
    await world.client.patch(Node, None, node, {"spec": {"unschedulable": on or None}})


async def test_a_service_lists_its_pods_while_they_answer(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        ports = [{"port": 80, "targetPort": "http"}]
        await world.apply("Service", "web", spec={"selector": {"app": "web"}, "ports": ports})
        await world.deploy("web", 2)

        async def listed(count: int) -> bool:
            return len(await world.ready_addresses("web")) == count

        await world.until(lambda: listed(2))
        silent = (await world.pods())[0]
        world.runtime.silent.add(silent.metadata.name)
        await world.until(lambda: listed(1))
        assert silent.status.pod_ip not in await world.ready_addresses("web")
        world.runtime.silent.clear()
        await world.until(lambda: listed(2))


async def test_a_pod_that_is_being_deleted_is_terminating_and_serving(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        world.runtime.stubborn = True
        await world.apply("Service", "web", spec={"selector": {"app": "web"}, "ports": [{"port": 80}]})
        await world.deploy("web", 1)
        await world.until(lambda: world.rolled_out("web", 1))
        (pod,) = await world.pods()
        await world.client.delete(Pod, "shop", pod.metadata.name, grace_period_seconds=600)

        async def terminating() -> bool:
            states = {
                one.addresses[0]: (one.conditions.ready, one.conditions.serving, one.conditions.terminating)
                for one in await world.endpoints("web")
            }
            return states.get(pod.status.pod_ip or "") == (False, True, True)

        await world.until(terminating)
        world.runtime.newest(pod.metadata.name).die(0)

        async def replaced() -> bool:
            return pod.metadata.name not in {one.metadata.name for one in await world.pods()}

        await world.until(replaced)


async def test_endpoints_by_hand_are_mirrored_and_slices_by_hand_left_alone(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        await world.apply("Service", "backend", spec={"ports": [{"port": 9000}]})
        by_hand = {"addressType": "IPv4", "ports": [{"port": 80}], "endpoints": [{"addresses": ["203.0.113.9"]}]}
        meta = {"name": "by-hand", "namespace": "shop", "labels": {SERVICE_NAME_LABEL: "backend"}}
        slice_ = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": meta, **by_hand}
        stored = await world.client.apply(slice_, field_manager="test")
        subsets = [{"addresses": [{"ip": "203.0.113.1"}, {"ip": "203.0.113.2"}], "ports": [{"port": 80}]}]
        await world.apply("Endpoints", "backend", subsets=subsets)

        async def mirrored(*addresses: str) -> bool:
            slices = await world.client.list(EndpointSlice, "shop", label_selector=f"{MANAGED_BY_LABEL}={MANAGED_BY}")
            found = [one.addresses[0] for each in slices.items for one in each.endpoints or ()]
            return sorted(found) == sorted(addresses)

        await world.until(lambda: mirrored("203.0.113.1", "203.0.113.2"))
        await world.apply("Endpoints", "backend", subsets=[{**subsets[0], "addresses": [{"ip": "203.0.113.2"}]}])
        await world.until(lambda: mirrored("203.0.113.2"))
        await world.client.delete(Endpoints, "shop", "backend")
        await world.until(lambda: mirrored())
        left = await world.client.get(EndpointSlice, "shop", "by-hand")
        assert left.metadata.resource_version == stored["metadata"]["resourceVersion"]


async def test_load_balancers_get_addresses_and_give_them_back(tmp_path: Path) -> None:
    async with running(tmp_path) as world:

        async def ingress(name: str) -> list[str | None]:
            balancer = (await world.client.get(Service, "shop", name)).status.load_balancer
            return [entry.ip for entry in (balancer.ingress if balancer else None) or ()]

        async def has(name: str, *addresses: str) -> bool:
            return await ingress(name) == list(addresses)

        for name in ("one", "two"):
            await world.apply("Service", name, spec={"type": "LoadBalancer", "ports": [{"port": 80}]})
        await world.until(lambda: has("one", "203.0.113.1"))
        await world.until(lambda: has("two", "203.0.113.2"))
        await world.client.delete(Service, "shop", "one")
        dual = {"ipFamilyPolicy": "RequireDualStack", "type": "LoadBalancer", "ports": [{"port": 80}]}
        await world.apply("Service", "three", spec=dual)
        await world.until(lambda: has("three", "203.0.113.1", "2001:db8:203:1::1"))
        assert await ingress("two") == ["203.0.113.2"]


async def test_nodes_kube_dns_and_names_are_there(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        await world.apply("Service", "web", spec={"clusterIP": "10.96.1.1", "ports": [{"port": 80}]})

        async def named() -> bool:
            return {
                "10.96.1.1 web.shop.svc.cluster.local",
                "10.96.0.10 kube-dns.kube-system.svc.cluster.local",
            } <= await world.hosts()

        await world.until(named)
        assert [node.metadata.name for node in (await world.client.list(Node)).items] == ["node-1", "node-2"]

        async def sliced() -> bool:
            slices = (await world.client.list(EndpointSlice, "kube-system")).items
            return {one.addresses[0] for each in slices for one in each.endpoints or ()} >= {"10.240.0.53"}

        await world.until(sliced)
        await world.client.delete(Service, "shop", "web")

        async def unnamed() -> bool:
            return not any("web.shop" in line for line in await world.hosts())

        await world.until(unnamed)


async def test_what_is_deleted_by_mistake_comes_back(tmp_path: Path) -> None:
    async with running(tmp_path) as world:

        async def there() -> bool:
            services = {one.metadata.name for one in (await world.client.list(Service, "kube-system")).items}
            slices = (await world.client.list(EndpointSlice, "kube-system")).items
            nodes = (await world.client.list(Node)).items
            return "kube-dns" in services and len(slices) == 2 and len(nodes) == 2

        await world.until(there)
        await world.client.delete(Service, "kube-system", "kube-dns")
        await world.client.delete(Node, None, "node-1")
        await world.until(there)


async def test_events_tell_what_happened(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        await world.deploy("web", 1)

        async def told() -> bool:
            events = (await world.client.list(Event, "shop")).items
            return {"ScalingReplicaSet", "Scheduled", "Started"} <= {event.reason for event in events}

        await world.until(told)
