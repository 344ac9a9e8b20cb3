"""What a churn run records of an API server, also where that is gone for a while."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

from msgspec.structs import replace

from e2e.churn import history
from e2e.churn.history import AnyRecord, Pod, Slices
from e2e.churn.recorder import OPERATORS, Journal, Program, Recorder
from moorage.api import core_v1
from moorage.api.meta import ObjectMeta
from moorage.check.rights import LEASE
from moorage.cluster.client import MERGE_PATCH, Client
from testing.eventually import eventually
from tests.support.apiserver import RunningApiServer, api_server
from tests.support.objects import slice_

NAMESPACE = "default"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
SLICES = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"
OTHER = {"name": "other", "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": "backend"}}
SPEC = {"containers": [{"name": "main", "image": "a"}]}


class Recorded:
    """A recorder of a server, and what it has written."""

    def __init__(self, server: RunningApiServer, recorder: Recorder, path: Path) -> None:
        self.server, self.recorder, self.path = server, recorder, path

    async def pod(self, name: str) -> str:
        """Make one; its uid."""
        made = await self.server.create(PODS, {"metadata": {"name": name}, "spec": SPEC})
        return str(made["metadata"]["uid"])

    async def until(self, *records: AnyRecord) -> None:
        """Until these, and no others, are recorded; `at` does not matter."""
        await self.until_so(lambda: [replace(each, at=0) for each in history.read(self.path)] == [*records])

    async def until_so(self, holds: Callable[[], object]) -> None:
        async def held() -> bool:
            return bool(holds())

        await eventually(held)


@asynccontextmanager
async def recorded(directory: Path) -> AsyncIterator[Recorded]:
    path = directory / "run.jsonl"
    async with api_server() as server:
        await server.call("POST", "/api/v1/namespaces", {"metadata": {"name": OPERATORS}})
        with closing(Journal(path)) as journal:
            recorder = Recorder(server.config, lambda: None, NAMESPACE, journal)
            await asyncio.to_thread(recorder.__enter__)
            try:
                yield Recorded(server, recorder, path)
            finally:
                await asyncio.to_thread(recorder.__exit__)


async def test_it_records_what_changes_and_nothing_twice(tmp_path: Path) -> None:
    async with recorded(tmp_path) as run:
        uid = await run.pod("frontend-0")
        pod = Pod(at=0, uid=uid, name="frontend-0")
        await run.until(pod)
        label = {"metadata": {"labels": {"app": "other"}}}
        await run.server.call("PATCH", f"{PODS}/frontend-0", label, content_type=MERGE_PATCH)
        await run.server.call("DELETE", f"{PODS}/frontend-0", {"gracePeriodSeconds": 0})
        await run.until(pod, replace(pod, life="gone"))
        assert run.recorder.pods == {}
        await run.server.create(SLICES, slice_("192.0.2.1"))
        await run.until_so(lambda: run.recorder.slices)
        await run.server.create(SLICES, slice_("192.0.2.2") | {"metadata": OTHER})
        await run.server.call("DELETE", f"{SLICES}/backend-1")
        names = (["192.0.2.1"], ["192.0.2.1", "192.0.2.2"], ["192.0.2.2"])
        await run.until(
            pod,
            replace(pod, life="gone"),
            *(Slices(at=0, service="backend", serving=each, ready=each) for each in names),
        )


async def test_what_happens_while_it_is_told_nothing_is_recorded_afterwards(tmp_path: Path) -> None:
    async with recorded(tmp_path) as run:
        former = Pod(at=0, uid=await run.pod("frontend-0"), name="frontend-0")
        gone = Pod(at=0, uid=await run.pod("frontend-1"), name="frontend-1")
        await run.until(former, gone)
        run.server.faults.fail(1000, code=503, method="GET")
        run.server.faults.drop_watches()
        for name in ("frontend-0", "frontend-1"):
            await run.server.call("DELETE", f"{PODS}/{name}", {"gracePeriodSeconds": 0})
        latter = replace(former, uid=await run.pod("frontend-0"))
        assert await asyncio.to_thread(run.recorder.request, "make a node", make_a_node) == "n1"
        run.server.store.compact()
        run.server.faults.clear()
        await run.until(former, gone, replace(former, life="gone"), latter, replace(gone, life="gone"))


async def make_a_node(api: Client) -> str:
    return (await api.create(core_v1.Node(metadata=ObjectMeta(name="n1")))).metadata.name


async def test_it_knows_who_leads_and_the_pods_of_moorage(tmp_path: Path) -> None:
    async with recorded(tmp_path) as run:
        assert run.recorder.leader == ""
        for name in ("other", LEASE):
            lease = {"metadata": {"name": name}, "spec": {"holderIdentity": f"{name}_1"}}
            await run.server.create(f"/apis/coordination.k8s.io/v1/namespaces/{OPERATORS}/leases", lease)
        pods = PODS.replace(NAMESPACE, OPERATORS)
        await run.server.create(pods, {"metadata": {"name": "operator-1"}, "spec": SPEC})
        await run.until_so(lambda: run.recorder.leader == f"{LEASE}_1" and run.recorder.programs[OPERATORS])
        assert run.recorder.programs[OPERATORS] == {"operator-1": Program("operator-1", "", "", ready=False)}
        state = {"name": "main", "containerID": "containerd://1", "ready": True}
        body = {"status": {"containerStatuses": [state]}}
        await run.server.call("PATCH", f"{pods}/operator-1/status", body, content_type=MERGE_PATCH)
        ready = Program("operator-1", "", "containerd://1", ready=True)
        await run.until_so(lambda: run.recorder.programs[OPERATORS] == {"operator-1": ready})
        await run.server.call("DELETE", f"{pods}/operator-1", {"gracePeriodSeconds": 0})
        await run.until_so(lambda: not run.recorder.programs[OPERATORS])
        assert await asyncio.to_thread(history.read, run.path) == []
