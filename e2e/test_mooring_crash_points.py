"""The operator is killed at every single write of moorings and of what follows from them, and started again.

Several are under way at once, so all from a certain one on are held back: when it is killed, none of these has been
done, or all have and it knows of none.
"""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.harness.control_plane import ApiServer
from e2e.harness.crashing import BOUND_SECONDS, Crashing
from e2e.harness.proxy import Proxy
from e2e.harness.world import wait

pytestmark = pytest.mark.every_kubernetes
NAME = "backend"
NODES = [f"crash-{number}" for number in range(6)]
BEFORE, AFTER = ("b1", "b2", "b3"), ("b2", "b3")
"""Names of endpoints: one goes, and its clients with it."""


class Scene(Crashing):
    """One ExternalService whose clients are nodes."""

    def want(self, endpoints: tuple[str, ...]) -> None:
        addresses = [{"name": name, "address": f"198.51.100.{name[1:]}"} for name in endpoints]
        xsvc = {
            "apiVersion": "moorage.dev/v1alpha1",
            "kind": "ExternalService",
            "metadata": {"name": NAME},
            "spec": {
                "ports": [{"name": "http", "port": 9000, "targetPort": 80}],
                "endpoints": [{"addresses": addresses}],
                "sessionAffinity": "Mooring",
                "sessionAffinityConfig": {"mooring": {"client": "Node"}},
            },
        }
        self.call("PATCH", f"{self.path('externalservices')}/{NAME}?fieldManager=test&force=true", xsvc)

    def come_to(self, endpoints: tuple[str, ...]) -> None:
        """Until every node is moored to one of these, slices and status say so, and nothing more is written."""
        wait("what is wanted", lambda: self._settled(endpoints), BOUND_SECONDS)
        self.until_quiet()

    def _settled(self, endpoints: tuple[str, ...]) -> bool:
        at, hints = self.at(), self.hints()
        moored = [
            (each["status"], each["observedGeneration"] == one["metadata"]["generation"])
            for one in self.items("externalservices")
            for each in one.get("status", {}).get("conditions", [])
            if each["type"] == "Moored"
        ]
        return (
            sorted(at) == NODES
            and set(at.values()) == set(endpoints)
            and set(hints) == set(endpoints)
            and {node: name for name, nodes in hints.items() for node in nodes} == at
            and moored == [("True", True)]
        )

    def records(self) -> dict[str, dict[str, Any]]:
        """Node -> what is recorded of its mooring; no node has two."""
        found = self.items("moorings")
        assert len({each["spec"]["client"]["name"] for each in found}) == len(found)
        return {each["spec"]["client"]["name"]: each["status"] for each in found}

    def at(self) -> dict[str, str]:
        return {node: record["endpoint"] for node, record in self.records().items()}

    def hints(self) -> dict[str, list[str]]:
        """Ready endpoint -> nodes that it is for."""
        return {
            endpoint["hostname"]: [each["name"] for each in endpoint.get("hints", {}).get("forNodes", [])]
            for slice_ in self.items("endpointslices")
            for endpoint in slice_["endpoints"]
            if endpoint["conditions"]["ready"]
        }


@pytest.fixture
def scene(api: ApiServer, token: str, tmp_path: Path) -> Iterator[Scene]:
    with Proxy(api, tmp_path) as proxy:
        scene = Scene(api, proxy, token)
        for node in NODES:
            scene.call("PATCH", f"/api/v1/nodes/{node}?fieldManager=test", node_called(node))
        try:
            yield scene
        finally:
            scene.kill()
            api.kubectl("delete", "nodes", *NODES)


def node_called(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("done", [False, True], ids=["before-the-write", "after-the-write"])
def test_killed_at_any_write_of_the_first_moorings_it_ends_with_one_of_each_client_evenly(
    scene: Scene, done: bool
) -> None:
    scene.start()
    scene.fresh()
    since = time.monotonic()
    scene.want(BEFORE)
    scene.come_to(BEFORE)
    points = scene.writes(since)
    assert points >= len(NODES) + 3  # a Service, a slice, the status
    for point in range(points):
        scene.fresh()
        scene.kill_at(point, lambda: scene.want(BEFORE), done=done, held=None)
        scene.start()
        scene.come_to(BEFORE)
        where = f"killed at write {point + 1} of {points}"
        assert set(Counter(scene.at().values()).values()) == {2}, where
        assert {len(each["moves"]) for each in scene.records().values()} == {1}, where


@pytest.mark.timeout(900)
@pytest.mark.parametrize("done", [False, True], ids=["before-the-write", "after-the-write"])
def test_killed_at_any_write_of_a_failover_it_moves_those_who_lost_their_endpoint_once_and_nobody_else(
    scene: Scene, done: bool
) -> None:
    scene.start()
    scene.fresh()
    scene.want(BEFORE)
    scene.come_to(BEFORE)
    since = time.monotonic()
    scene.want(AFTER)
    scene.come_to(AFTER)
    points = scene.writes(since)
    assert points >= 4  # two moorings, the slice, the status
    for point in range(points):
        scene.fresh()
        scene.want(BEFORE)
        scene.come_to(BEFORE)
        before = scene.at()
        scene.kill_at(point, lambda: scene.want(AFTER), done=done, held=None)
        scene.start()
        scene.come_to(AFTER)
        where, after = f"killed at write {point + 1} of {points}", scene.records()
        lost = {node for node, name in before.items() if name == "b1"}
        assert {node for node in NODES if after[node]["endpoint"] != before[node]} == lost, where
        assert {node for node in NODES if len(after[node]["moves"]) > 1} == lost, where
        assert all(len(after[node]["moves"]) <= 2 for node in NODES), where
        assert set(Counter(scene.at().values()).values()) == {3}, where
