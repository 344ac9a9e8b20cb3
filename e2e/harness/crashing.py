"""An operator that is killed at its writes."""

import itertools
import json
import signal
import ssl
import sys
import time
import urllib.request
from collections.abc import Callable
from typing import Any

from e2e.harness.control_plane import ApiServer, free_port
from e2e.harness.proxy import Proxy
from e2e.harness.world import Process, wait

BOUND_SECONDS = 60
"""Within which the operator has done what is to be done."""
GROUPS = {
    "externalservices": "/apis/moorage.dev/v1alpha1",
    "moorings": "/apis/moorage.dev/v1alpha1",
    "services": "/api/v1",
    "endpointslices": "/apis/discovery.k8s.io/v1",
}
_PORT = 8081
"""Of the operator's metrics, in a network namespace of a cluster, where nothing else has it."""
_NUMBERS = itertools.count(1)
_TYPES = {"POST": "application/json", "PATCH": "application/apply-patch+yaml"}


class CrashingOperator:
    """An operator behind a proxy, which is killed at its writes. It runs where the API server does."""

    def __init__(self, api: ApiServer, proxy: Proxy, token: str) -> None:
        self._api, self._proxy = api, proxy
        self._kubeconfig = proxy.kubeconfig_of(token)
        self._process: Process | None = None
        self.namespace = ""
        """The one in which writes are counted and held back."""

    def start(self) -> None:
        """Start the operator. It has no Lease to wait for: what Leases are for is not what is looked at here."""
        listen = free_port() if self._api.network is None else _PORT
        argv = [
            *(sys.executable, "-m", "moorage", "operator", "--kubeconfig", str(self._kubeconfig)),
            *("--no-leader-election", "--listen", f"127.0.0.1:{listen}"),
        ]
        self._process = self._api.world.start(f"crashing-{next(_NUMBERS)}", argv, self._api.network)

    def kill(self) -> None:
        """SIGKILL, also when it is frozen or has ended."""
        if self._process is not None:
            self._process.stop(signal.SIGKILL)
            self._process = None

    def kill_at(self, number: int, change: Callable[[], None], *, done: bool, held: int | None = 1) -> None:
        """Make a change, and kill the operator at the write after `number` others.

        Either before that is done, or once it is, before the operator learns of it. `held`: how many writes from that
        one on are held back, where several are under way at once; None: all.
        """
        # It reads all namespaces at once, so what is of this one is a write.
        path = f"/namespaces/{self.namespace}/(?!events)"
        if number:
            self._proxy.slow(0, path=path, count=number)
        self._proxy.slow(3600.0, path=path, count=held)
        since = time.monotonic()
        change()
        wait(f"write {number + 1}", lambda: self.writes(since) == number and self._proxy.held() > 0, BOUND_SECONDS)
        if done:
            assert self._process is not None
            self._process.send(signal.SIGSTOP)
            self._proxy.release()
            wait(f"the end of write {number + 1}", lambda: self.writes(since) > number, BOUND_SECONDS)
        self.kill()
        self._proxy.clear()

    def writes(self, since: float) -> int:
        """How many have been done in the present namespace, but for Events."""
        mine = f"/namespaces/{self.namespace}/"
        return sum(mine in each.path for each in self._proxy.writes(since, but="/events"))

    def until_quiet(self) -> None:
        """Until a second has passed without a write."""
        wait("no more writes", lambda: not self.writes(time.monotonic() - 1.0), BOUND_SECONDS)


class Crashing(CrashingOperator):
    """In one namespace after another of an API server on loopback.

    Requests of the test go past the proxy, without kubectl: quicker.
    """

    def __init__(self, api: ApiServer, proxy: Proxy, token: str) -> None:
        super().__init__(api, proxy, token)
        self._tls = ssl.create_default_context(cadata=api.credentials.ca)

    def fresh(self) -> None:
        """Go on in a new namespace: where something was deleted, its garbage would have to be waited for."""
        self.namespace = f"crash-{next(_NUMBERS)}"
        self.call("POST", "/api/v1/namespaces", {"metadata": {"name": self.namespace}})

    def items(self, kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.call("GET", self.path(kind))["items"]
        return found

    def path(self, kind: str) -> str:
        return f"{GROUPS[kind]}/namespaces/{self.namespace}/{kind}"

    def call(self, method: str, path: str, body: object = None) -> Any:
        headers = {"Authorization": f"Bearer {self._api.token}", "Content-Type": _TYPES.get(method, "")}
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(self._api.server + path, data, headers, method=method)
        with urllib.request.urlopen(request, context=self._tls, timeout=30) as answer:
            return json.load(answer)
