"""An operator that follows sources: beside a real API server, with a name server of the test's own.

The API server plays the other cluster, too: in the namespace `backend`, with the account of `deploy/source`.
"""

import asyncio
import base64
import json
import random
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from e2e.harness import control_plane, operator
from e2e.harness.certificates import kubeconfig
from e2e.harness.control_plane import ApiServer, free_port
from e2e.harness.operator import ROOT
from tests.support.nameserver import NameServer, name_server

HERE, THERE = "frontend", "backend"
"""The namespaces: of ExternalServices, and of what is in the other cluster."""
SOON = 30.0
"""Seconds within which what is to be seen has been seen; mostly it takes a tenth of one."""


class Following:
    """What tests talk to."""

    def __init__(self, api: ApiServer, names: NameServer) -> None:
        self.api = api
        self.names = names
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
        status = {"status": {"loadBalancer": {"ingress": list(ingress)}}}
        self.api.kubectl(
            *("patch", "service", name, "-n", THERE, "--subresource=status", "--type=merge", "-p", json.dumps(status))
        )

    def apply(self, obj: dict[str, Any]) -> None:
        self.api.apply(json.dumps(obj))

    def condition(self, name: str, type: str, namespace: str = HERE) -> dict[str, str]:
        """One condition; LookupError while it is not there."""
        status = self.api.get("xsvc", name, "-n", namespace).get("status", {})
        found = [each for each in status.get("conditions", ()) if each["type"] == type]
        return dict(found[0])

    def endpoints(self, name: str, namespace: str = HERE) -> dict[str, str]:
        """Address by name, of the Service's slices."""
        slices = self.api.get("endpointslices", "-n", namespace, "-l", f"kubernetes.io/service-name={name}")
        return {
            endpoint.get("hostname", endpoint["addresses"][0]): endpoint["addresses"][0]
            for each in slices["items"]
            for endpoint in each.get("endpoints") or ()
        }

    def until(self, name: str, endpoints: dict[str, str], namespace: str = HERE) -> None:
        """Until the Service has these endpoints."""
        self.api.eventually(
            f"{name} has {endpoints}", lambda: self.endpoints(name, namespace) == endpoints, seconds=SOON
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
            self.api.eventually(f"{name}: {type} {status} {reason}", so, seconds=SOON)
        except Exception as error:
            error.add_note(f"at last: {last}; wanted: {words}")
            raise
        return last["message"]


@contextmanager
def following(*, allow: tuple[str, ...] = ("127.0.0.1/32",)) -> Iterator[Following]:
    """A running operator. It has the rights of `deploy/operator`, and reads Secrets in no namespace.

    `allow` is its configuration's: the other cluster's API server, on loopback, would be refused without.
    """
    with control_plane.api_server() as api, _names() as (names, address):
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
