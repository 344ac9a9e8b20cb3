"""The operator is killed at every single write of a change, and started again: it ends up the same.

Once before the API server has got the write, once after it has done it but before the operator knows.
"""

import itertools
import json
import signal
import ssl
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from e2e.harness.control_plane import ApiServer, free_port
from e2e.harness.proxy import Proxy
from e2e.harness.world import Process, wait

pytestmark = pytest.mark.every_kubernetes
NAME = "backend"
BOUND_SECONDS = 60
"""Within which the operator has done what is to be done."""
GROUPS = {
    "externalservices": "/apis/moorage.dev/v1alpha1",
    "services": "/api/v1",
    "endpointslices": "/apis/discovery.k8s.io/v1",
}


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

_NUMBERS = itertools.count(1)
_TYPES = {"POST": "application/json", "PATCH": "application/apply-patch+yaml"}


class Scene:
    """One ExternalService, and the operator behind a proxy. Requests go past the proxy, without kubectl: quicker."""

    def __init__(self, api: ApiServer, proxy: Proxy, token: str) -> None:
        self._api, self._proxy = api, proxy
        self._kubeconfig = proxy.kubeconfig_of(token)
        self._tls = ssl.create_default_context(cadata=api.credentials.ca)
        self._process: Process | None = None
        self._starts = 0
        self._namespace = ""

    # --- the operator --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the operator. It has no Lease to wait for: what Leases are for is not what is looked at here."""
        self._starts += 1
        argv = [
            *(sys.executable, "-m", "moorage", "operator", "--kubeconfig", str(self._kubeconfig)),
            *("--no-leader-election", "--listen", f"127.0.0.1:{free_port()}"),
        ]
        self._process = self._api.world.start(f"crashing-{self._starts}", argv)

    def kill(self) -> None:
        """SIGKILL, also when it is frozen or has ended."""
        if self._process is not None:
            self._process.stop(signal.SIGKILL)
            self._process = None

    def kill_at(self, number: int, wanted: Wanted, *, done: bool) -> None:
        """Ask for a change, and kill the operator at the write after `number` others.

        Either before that is done, or once it is, before the operator learns of it.
        """
        # It reads all namespaces at once, so what is of this one is a write.
        path = f"/namespaces/{self._namespace}/(?!events)"
        if number:
            self._proxy.slow(0, path=path, count=number)
        self._proxy.slow(3600.0, path=path, count=1)
        since = time.monotonic()
        self.want(wanted)
        wait(f"write {number + 1}", lambda: self.writes(since) == number and self._proxy.held() > 0, BOUND_SECONDS)
        if done:
            assert self._process is not None
            self._process.send(signal.SIGSTOP)
            self._proxy.release()
            wait(f"the end of write {number + 1}", lambda: self.writes(since) == number + 1, BOUND_SECONDS)
        self.kill()
        self._proxy.clear()

    def writes(self, since: float) -> int:
        """How many have been done, but for Events."""
        return len(self._proxy.writes(since, but="/events"))

    # --- what there is -------------------------------------------------------------------------------------------

    def fresh(self) -> None:
        """Go on in a new namespace: where something was deleted, its garbage would have to be waited for."""
        self._namespace = f"crash-{next(_NUMBERS)}"
        self._call("POST", "/api/v1/namespaces", {"metadata": {"name": self._namespace}})

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
        self._call("PATCH", f"{self._path('externalservices')}/{NAME}?fieldManager=test&force=true", xsvc)

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

    def items(self, kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._call("GET", self._path(kind))["items"]
        return found

    def result(self) -> dict[str, Any]:
        """What there is, by kind and name, but for what is never the same twice."""
        return {f"{kind}/{each['metadata']['name']}": lasting(each) for kind in GROUPS for each in self.items(kind)}

    def service(self) -> tuple[str, str]:
        """Its uid and address."""
        (service,) = self.items("services")
        return service["metadata"]["uid"], service["spec"]["clusterIP"]

    def _path(self, kind: str) -> str:
        return f"{GROUPS[kind]}/namespaces/{self._namespace}/{kind}"

    def _call(self, method: str, path: str, body: object = None) -> Any:
        headers = {"Authorization": f"Bearer {self._api.token}", "Content-Type": _TYPES.get(method, "")}
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(self._api.server + path, data, headers, method=method)
        with urllib.request.urlopen(request, context=self._tls, timeout=30) as answer:
            return json.load(answer)


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
        scene.kill_at(point, AFTER, done=done)
        still = {name for name, _ in targets(scene.items("endpointslices"))}
        missing = (set(before.endpoints) & set(AFTER.endpoints) if before else set()) - still
        assert not missing, f"{where}, no longer ready: {missing}"
        scene.start()
        scene.come_to(AFTER)
        assert scene.result() == expected, where
        if service:
            assert scene.service() == service, where
