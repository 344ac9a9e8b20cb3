"""The loop around `dns`: the `kube-dns` objects, and the hosts file of the cluster's dnsmasq."""

import os
import signal
from contextlib import suppress
from pathlib import Path

from moorage.api.core_v1 import Namespace, Service
from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.meta import ObjectMeta
from moorage.cluster.errors import ApiError
from moorage_lab.control import DNS_HOSTS, DNS_PID, dns
from moorage_lab.control.manager import Controller
from moorage_lab.control.stores import Stores
from moorage_lab.topology import ClusterPlan

_PROGRAM = "dnsmasq"


class ClusterDns:
    """Keeps one cluster's names; `state` is the directory of `DNS_HOSTS` and `DNS_PID`."""

    def __init__(self, plan: ClusterPlan, stores: Stores, state: Path) -> None:
        self._plan, self._stores = plan, stores
        self._hosts, self._pid = state / DNS_HOSTS, state / DNS_PID
        self._client = stores.client

    def controllers(self) -> list[Controller]:
        return [
            Controller("kube-dns", (Service, EndpointSlice), self.sync_service),
            Controller("dns-records", (Service, EndpointSlice), self.sync_hosts),
        ]

    async def sync_service(self) -> None:
        service = self._stores.get(Service, dns.NAMESPACE, dns.NAME)
        if service is None:
            await self._ensure_namespace()
            service = await self._client.create(dns.service(self._plan))
            await self._stores.seen([service])
        for slice_ in dns.slices(self._plan, service):
            stored = self._stores.get(EndpointSlice, dns.NAMESPACE, slice_.metadata.name)
            if stored is None:
                await self._stores.seen([await self._client.create(slice_)])
            elif stored.metadata.owner_references != slice_.metadata.owner_references:
                # It belongs to an earlier kube-dns, which was deleted: the API server collects it.
                await self._client.delete(EndpointSlice, dns.NAMESPACE, stored.metadata.name, uid=stored.metadata.uid)

    async def sync_hosts(self) -> None:
        text = dns.hosts(self._stores.list(Service), self._stores.list(EndpointSlice), self._plan.domain)
        if write_changed(self._hosts, text):
            reload(self._pid)

    async def _ensure_namespace(self) -> None:
        try:
            await self._client.create(
                Namespace(api_version="v1", kind="Namespace", metadata=ObjectMeta(name=dns.NAMESPACE))
            )
        except ApiError as error:
            if error.status != 409:
                raise


def write_changed(path: Path, text: str) -> bool:
    """Write `text` to the file in one step; returns whether that changed it."""
    with suppress(FileNotFoundError):
        if path.read_text() == text:
            return False
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)
    return True


def reload(pid_file: Path) -> None:
    """Make the dnsmasq in the pid file read its hosts file again (SIGHUP); does nothing if none runs."""
    with suppress(FileNotFoundError, ValueError, ProcessLookupError):
        pid = int(pid_file.read_text())
        if Path(f"/proc/{pid}/comm").read_text().strip() == _PROGRAM:
            os.kill(pid, signal.SIGHUP)
