"""The operator is killed at every single write of a change, and started again: it ends up the same.

Once before the API server has got the write, once after it has done it but before the operator knows.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from e2e.harness.control_plane import ApiServer
from e2e.harness.crashing import BOUND_SECONDS, Crashing
from e2e.harness.proxy import Proxy
from e2e.harness.world import wait

pytestmark = pytest.mark.every_kubernetes
NAME = "backend"
KINDS = ("externalservices", "services", "endpointslices")


class Wanted(NamedTuple):
    """What the spec says."""

    port: str
    """Name of the Service's port."""
    endpoints: dict[str, int | None]
    """By name, their port where they have one of their own."""


MANY = [f"b{number:03}" for number in range(1, 102)]
"""One more than a slice holds."""
BEFORE = Wanted("http", {**dict.fromkeys(MANY), "b200": 8080, "b201": 8080, "b202": 9090})
AFTER = Wanted("web", {**dict.fromkeys(MANY[1:]), "b050": 8081, "b200": 8080, "b201": None})
"""A port is renamed, two endpoints go, one of them the last of its slice, one gets a port of its own and so a new
slice, and one moves to another slice: creations, patches and deletions, some of which have to wait for others."""


class Scene(Crashing):
    """One ExternalService."""

    def want(self, wanted: Wanted) -> None:
        addresses = [
            {"name": name, "address": f"198.51.100.{int(name[1:])}", **({"port": port} if port else {})}
            for name, port in wanted.endpoints.items()
        ]
        xsvc = {
            "apiVersion": "moorage.dev/v1alpha1",
            "kind": "ExternalService",
            "metadata": {"name": NAME},
            "spec": {
                "ports": [{"name": wanted.port, "port": 9000, "targetPort": 80}],
                "endpoints": [{"addresses": addresses}],
            },
        }
        self.call("PATCH", f"{self.path('externalservices')}/{NAME}?fieldManager=test&force=true", xsvc)

    def come_to(self, wanted: Wanted) -> None:
        """Until everything is as the spec says, the status too."""
        wait("what is wanted", lambda: self._settled(wanted), BOUND_SECONDS)

    def _settled(self, wanted: Wanted) -> bool:
        services, slices, xsvcs = (self.items(kind) for kind in ("services", "endpointslices", "externalservices"))
        return (
            all(one.get("status", {}).get("observedGeneration") == one["metadata"]["generation"] for one in xsvcs)
            and [port["name"] for each in services for port in each["spec"]["ports"]] == [wanted.port]
            and {port["name"] for slice_ in slices for port in slice_["ports"]} == {wanted.port}
            and sorted(targets(slices)) == sorted((name, port or 80) for name, port in wanted.endpoints.items())
        )

    def result(self) -> dict[str, Any]:
        """What there is, by kind and name, but for what is never the same twice."""
        return {f"{kind}/{each['metadata']['name']}": lasting(each) for kind in KINDS for each in self.items(kind)}

    def service(self) -> tuple[str, str]:
        """Its uid and address."""
        (service,) = self.items("services")
        return service["metadata"]["uid"], service["spec"]["clusterIP"]


def targets(slices: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """Name and port of each ready endpoint, for each slice that it is in."""
    return [
        (endpoint["hostname"], slice_["ports"][0]["port"])
        for slice_ in slices
        for endpoint in slice_["endpoints"]
        if endpoint["conditions"]["ready"]
    ]


def lasting(obj: dict[str, Any]) -> dict[str, Any]:
    """An object without uids, versions, times and addresses that were given out."""
    volatile = (
        "uid",
        "namespace",
        "resourceVersion",
        "creationTimestamp",
        "managedFields",
        "ownerReferences",
        "generation",
    )
    meta = {key: value for key, value in obj["metadata"].items() if key not in volatile}
    spec = {key: value for key, value in obj.get("spec", {}).items() if not key.startswith("clusterIP")}
    status = obj.get("status", {})
    conditions = [
        {key: value for key, value in each.items() if key not in ("lastTransitionTime", "observedGeneration")}
        for each in status.get("conditions", [])
    ]
    endpoints = [{**each, "since": None} for each in status.get("endpoints", [])]
    # An endpoint's place in its slice depends on which came there first; nothing depends on it.
    listed = sorted(obj.get("endpoints", []), key=lambda each: str(each["hostname"]))
    return {**obj, "metadata": meta, "spec": spec, "status": [conditions, endpoints], "endpoints": listed}


@pytest.fixture
def scene(api: ApiServer, token: str, tmp_path: Path) -> Iterator[Scene]:
    with Proxy(api, tmp_path) as proxy:
        scene = Scene(api, proxy, token)
        try:
            yield scene
        finally:
            scene.kill()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("done", [False, True], ids=["before-the-write", "after-the-write"])
@pytest.mark.parametrize("before", [None, BEFORE], ids=["while-it-is-made", "while-it-is-changed"])
def test_killed_at_any_write_and_started_again_it_ends_up_the_same(
    scene: Scene, before: Wanted | None, done: bool
) -> None:
    def begin() -> None:
        scene.fresh()
        if before is not None:
            scene.want(before)
            scene.come_to(before)

    scene.start()
    begin()
    since = time.monotonic()
    scene.want(AFTER)
    scene.come_to(AFTER)
    expected, points = scene.result(), scene.writes(since)
    assert points >= (4 if before is None else 8)

    for point in range(points):
        begin()
        service = scene.service() if before else None
        where = f"killed at write {point + 1} of {points}"
        scene.kill_at(point, lambda: scene.want(AFTER), done=done)
        still = {name for name, _ in targets(scene.items("endpointslices"))}
        missing = (set(before.endpoints) & set(AFTER.endpoints) if before else set()) - still
        assert not missing, f"{where}, no longer ready: {missing}"
        scene.start()
        scene.come_to(AFTER)
        assert scene.result() == expected, where
        if service:
            assert scene.service() == service, where
