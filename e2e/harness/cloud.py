"""The cloud's load balancers of one cluster: gives Services of type LoadBalancer their addresses, as a cloud would.

The address is routed to a node, where kube-proxy answers for it. Tests can change it, or have a name given instead.
"""

import contextlib
import ipaddress
import json
import subprocess
import threading
from collections.abc import Generator
from typing import Any

from e2e.harness import topology
from e2e.harness.dns import ZONE, InternetDns
from e2e.harness.errors import HarnessError
from e2e.harness.kubectl import Kubectl
from e2e.harness.world import World
from moorage.api.meta import ObjectKey


class Addresses:
    """Which Service has which address of a range. Pure."""

    def __init__(self, network: str) -> None:
        # Not the first: 203.0.113.1 and .2 stand in the demo's manifests, where tests are to replace them.
        self._free = [str(address) for address in ipaddress.ip_network(network).hosts()][10:]
        self.of: dict[ObjectKey, str] = {}

    def give(self, key: ObjectKey) -> str:
        """The Service's address; a new one if it has none. What was given back is used again last."""
        if key not in self.of:
            self.of[key] = self._free.pop(0)
        return self.of[key]

    def take(self, key: ObjectKey) -> str | None:
        """The address that the Service had."""
        address = self.of.pop(key, None)
        if address is not None:
            self._free.append(address)
        return address


class Cloud:
    """Plays the cloud for one cluster, in a thread, from `start` to `stop`."""

    def __init__(self, world: World, site: topology.Site, kubectl: Kubectl, dns: InternetDns) -> None:
        self._world = world
        self._site = site
        self._kubectl = kubectl
        self._dns = dns
        self._addresses = Addresses(site.load_balancers)
        self._names: dict[ObjectKey, str] = {}
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"cloud-{site.name}", daemon=True)
        self._watch: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End it; nothing, if it was never started."""
        self._stopped.set()
        with self._lock:
            if self._watch is not None:
                self._watch.kill()
        if self._thread.is_alive():
            self._thread.join(30)

    def change_address(self, namespace: str, name: str) -> str:
        """Give the Service another address and return it. It works at once, and the old one no longer does."""
        key = ObjectKey(namespace, name)
        with self._lock:
            old = self._addresses.take(key)
            new = self._give(key)
            if old is not None:
                self._route("del", old)
            return new

    def use_hostname(self, namespace: str, name: str) -> str:
        """From now on publish a host name for the Service instead of its address, as AWS does; returns the name."""
        key = ObjectKey(namespace, name)
        with self._lock:
            label = f"{name}-{namespace}-{self._site.name}"
            self._names[key] = f"{label}.{ZONE}"
            self._give(key)
            return self._names[key]

    def _give(self, key: ObjectKey) -> str:
        """Route and publish the Service's address."""
        address = self._addresses.give(key)
        self._route("replace", address)
        ingress = {"ip": address, "ipMode": "VIP"}
        if hostname := self._names.get(key):
            self._dns.set(hostname.removesuffix(f".{ZONE}"), "A", address)
            ingress = {"hostname": hostname}
        patch = json.dumps({"status": {"loadBalancer": {"ingress": [ingress]}}})
        arguments = ["-n", key[0], "patch", "service", key[1], "--subresource=status", "--type=merge", "-p", patch]
        self._kubectl.kubectl(*arguments)
        return address

    def _take(self, key: ObjectKey) -> None:
        self._names.pop(key, None)
        if address := self._addresses.take(key):
            self._route("del", address)

    def _route(self, verb: str, address: str) -> None:
        via = self._site.nodes[0].address
        self._world.execute("ip", "route", verb, f"{address}/32", "via", via, network=self._site.network)

    def _run(self) -> None:
        """A watch that ends, as when the API server is restarted, begins anew with a list.

        So does one whose event could not be dealt with: the Service has gone meanwhile, or it is tried again.
        """
        while not self._stopped.is_set():
            with contextlib.suppress(HarnessError), contextlib.closing(self._events()) as events:
                for event, service in events:
                    with self._lock:
                        self._take_note(event, service)
            self._stopped.wait(0.2)

    def _take_note(self, event: str, service: Any) -> None:
        key = ObjectKey(service["metadata"]["namespace"], service["metadata"]["name"])
        wanted = event != "DELETED" and service["spec"].get("type") == "LoadBalancer"
        if not wanted:
            self._take(key)
        elif not service["status"].get("loadBalancer", {}).get("ingress"):
            self._give(key)

    def _events(self) -> Generator[tuple[str, Any], None, None]:
        """Kinds of event, and Services, until the watch ends."""
        arguments = ["get", "services", "--all-namespaces", "--watch", "--output-watch-events", "-o", "json"]
        with self._lock:
            if self._stopped.is_set():
                return
            self._watch = subprocess.Popen(
                self._kubectl.command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        with self._watch as watch:
            assert watch.stdout is not None
            try:
                for line in watch.stdout:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        return
                    yield event["type"], event["object"]
            finally:
                watch.kill()
