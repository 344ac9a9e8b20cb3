"""An operator that follows sources: beside a real API server, with a name server of the test's own.

The API server plays the other cluster, too: in the namespace `backend`, with the account of `deploy/source`.
"""

import asyncio
import base64
import http.client
import json
import random
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from e2e.harness import builds, control_plane, operator
from e2e.harness.certificates import kubeconfig
from e2e.harness.control_plane import ApiServer, free_port
from e2e.harness.errors import HarnessError
from e2e.harness.operator import ROOT
from moorage.api.kinds import find_kind
from testing.nameserver import NameServer, name_server

HERE, THERE = "frontend", "backend"
"""The namespaces: of ExternalServices, and of what is in the other cluster."""
SOON_SECONDS = 30.0
"""Seconds within which what is to be seen has been seen; mostly it takes a tenth of one."""


class RefusedError(HarnessError):
    """The API server refused a request."""


def _path(api_version: str, kind: str, namespace: str | None, name: str | None) -> str:
    found = find_kind(api_version, kind)
    assert found is not None
    return found.path(namespace, name)


class Following:
    """What tests talk to."""

    def __init__(self, api: ApiServer, names: NameServer) -> None:
        self.api = api
        self.names = names
        context = ssl.create_default_context(cadata=api.credentials.ca)
        self._connection = http.client.HTTPSConnection(api.address, api.port, context=context, timeout=30)
        self.token = api.kubectl("create", "token", "moorage-reader", "-n", THERE, "--duration=2h").strip()

    def kubeconfig(self, **changed: Any) -> dict[str, Any]:
        """What `deploy/source/kubeconfig.sh` prints; `server`, `ca` and `token` may be others."""
        text = kubeconfig(
            changed.get("server", self.api.server),
            changed.get("token", self.token),
            changed.get("ca", self.api.credentials.ca),
        )
        content: dict[str, Any] = yaml.safe_load(text)
        return content

    def secret(self, name: str, content: object, namespace: str = HERE) -> None:
        """A Secret with this kubeconfig (a mapping, or any text) in the key `kubeconfig`."""
        text = content if isinstance(content, str) else yaml.safe_dump(content)
        self.apply(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace},
             "data": {"kubeconfig": base64.b64encode(text.encode()).decode()}}
        )  # fmt: skip

    def external(self, name: str, *sources: dict[str, Any], namespace: str = HERE, **spec: Any) -> None:
        self.apply(
            {"apiVersion": "moorage.dev/v1alpha1", "kind": "ExternalService",
             "metadata": {"name": name, "namespace": namespace},
             "spec": {"ports": [{"port": 80}], "endpoints": list(sources), **spec}}
        )  # fmt: skip

    def balancer(self, name: str, *ingress: dict[str, str], labels: dict[str, str] | None = None) -> None:
        """A LoadBalancer Service of the other cluster, and what its cloud says of it."""
        self.apply(
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": THERE, "labels": labels},
             "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}}
        )  # fmt: skip
        self.status("Service", name, {"loadBalancer": {"ingress": list(ingress)}}, THERE)

    def status(self, kind: str, name: str, status: dict[str, Any], namespace: str | None = HERE) -> None:
        """Write the status of an object, as whoever is responsible for it would."""
        path = _path("v1", kind, namespace, name) + "/status"
        self._call("PATCH", path, {"status": status}, "application/merge-patch+json")

    def apply(self, obj: dict[str, Any]) -> None:
        """As `kubectl apply --server-side`; RefusedError where the API server refuses it."""
        meta = obj["metadata"]
        path = _path(obj["apiVersion"], obj["kind"], meta.get("namespace"), meta["name"])
        self._call("PATCH", f"{path}?fieldManager=e2e&force=true", obj, "application/apply-patch+yaml")

    def delete(self, api_version: str, kind: str, name: str, namespace: str | None = HERE) -> None:
        self._call("DELETE", _path(api_version, kind, namespace, name))

    def get(self, api_version: str, kind: str, name: str | None = None, namespace: str | None = HERE) -> Any:
        return self._call("GET", _path(api_version, kind, namespace, name))

    def _call(self, method: str, path: str, body: object = None, content_type: str = "application/json") -> Any:
        """One request: hundreds of them with kubectl would take minutes. RefusedError with the server's words."""
        headers = {"Authorization": f"Bearer {self.api.token}", "Content-Type": content_type}
        self._connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = self._connection.getresponse()
        content = json.loads(answer.read())
        if answer.status >= 300:
            raise RefusedError(content["message"])
        return content

    def condition(self, name: str, type: str, namespace: str = HERE) -> dict[str, str]:
        """One condition; LookupError while it is not there."""
        status = self.get("moorage.dev/v1alpha1", "ExternalService", name, namespace).get("status", {})
        found = [each for each in status.get("conditions", ()) if each["type"] == type]
        return dict(found[0])

    def endpoints(self, name: str, namespace: str = HERE) -> dict[str, str]:
        """Address by name, of the Service's slices."""
        slices = self.get("discovery.k8s.io/v1", "EndpointSlice", None, namespace)
        return {
            endpoint.get("hostname", endpoint["addresses"][0]): endpoint["addresses"][0]
            for each in slices["items"]
            if each["metadata"].get("labels", {}).get("kubernetes.io/service-name") == name
            for endpoint in each.get("endpoints") or ()
        }

    def until(self, name: str, endpoints: dict[str, str], namespace: str = HERE) -> None:
        """Until the Service has these endpoints."""
        self.api.eventually(
            f"{name} has {endpoints}", lambda: self.endpoints(name, namespace) == endpoints, seconds=SOON_SECONDS
        )

    def until_condition(
        self, name: str, type: str, status: str, reason: str, *words: str, namespace: str = HERE
    ) -> str:
        """The message of a condition, once it is so and says these words."""
        last: dict[str, str] = {}

        def so() -> bool:
            last.clear()
            last.update(self.condition(name, type, namespace))
            said = last["message"]
            return (last["status"], last["reason"]) == (status, reason) and all(word in said for word in words)

        try:
            self.api.eventually(f"{name}: {type} {status} {reason}", so, seconds=SOON_SECONDS)
        except Exception as error:
            status = self.get("moorage.dev/v1alpha1", "ExternalService", name, namespace).get("status", {})
            error.add_note(f"wanted: {words}; the status at last: {json.dumps(status)}")
            raise
        return last["message"]


@contextmanager
def following(
    *, allow: tuple[str, ...] = ("127.0.0.1/32", "203.0.113.0/24"), kubernetes: str = builds.KUBERNETES
) -> Iterator[Following]:
    """A running operator. It has the rights of `deploy/operator`, and reads Secrets in no namespace.

    `allow` is its configuration's: the API server and the load balancers that play the other cluster's are the
    operator's own, and would be refused without. `kubernetes`: which API server, as for `control_plane.api_server`.
    """
    with control_plane.api_server(kubernetes=kubernetes) as api, _names() as (names, address):
        token = operator.install(api)
        for namespace in (HERE, THERE):
            api.kubectl("create", "namespace", namespace)
        api.kubectl("apply", "-k", str(ROOT / "deploy" / "source"))
        directory = api.world.directory / "operator"
        directory.mkdir()
        (directory / "kubeconfig").write_text(kubeconfig(api.server, token, api.credentials.ca))
        (directory / "config.yaml").write_text(yaml.safe_dump({"admission": {"allow": list(allow)}}))
        (directory / "resolv.conf").write_text(f"nameserver {address}\n")
        argv: list[str | Path] = [
            # A mount namespace of its own, in which the machine's name server is the test's.
            *("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"'),
            *(directory / "resolv.conf", sys.executable, "-m", "moorage", "operator", "--no-leader-election"),
            *("--kubeconfig", directory / "kubeconfig", "--config", directory / "config.yaml"),
            *("--namespace", operator.NAMESPACE, "--listen", f"127.0.0.1:{free_port()}"),
        ]
        process = api.world.start("following-operator", argv)
        try:
            yield Following(api, names)
            assert process.running, process.last_words()
        finally:
            process.stop()


@contextmanager
def _names() -> Iterator[tuple[NameServer, str]]:
    """A name server in a thread, at port 53 of a loopback address that nobody else has."""
    loop = asyncio.new_event_loop()
    ready: list[NameServer] = []
    started, stop = threading.Event(), asyncio.Event()
    address = ""

    async def serve() -> None:
        nonlocal address
        for _ in range(20):
            address = f"127.{random.randint(1, 254)}.{random.randint(1, 254)}.53"
            try:
                async with name_server(address, 53) as server:
                    ready.append(server)
                    started.set()
                    await stop.wait()
                return
            except OSError:
                continue

    def run() -> None:
        try:
            loop.run_until_complete(serve())
        finally:
            loop.close()
            started.set()

    thread = threading.Thread(target=run, name="names", daemon=True)
    thread.start()
    started.wait(10)
    assert ready, "no name server could be started"
    try:
        yield ready[0], address
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
