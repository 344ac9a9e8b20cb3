"""CoreDNS, as the internet's name server for example.com and as the DNS of each cluster."""

from pathlib import Path

from e2e.harness import builds, topology
from e2e.harness.control_plane import ApiServer
from e2e.harness.world import Process, World

ZONE = "example.com"
_TTL_SECONDS = 1
"""Seconds that an answer may be cached, by default."""


class InternetDns:
    """Serves example.com at 198.51.100.53 from records that tests set."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._serial = 0
        self._records: dict[tuple[str, str], list[str]] = {}
        self._zone = world.directory / "zone"
        self._process: Process | None = None

    def set(self, name: str, kind: str, *values: str, ttl: int = _TTL_SECONDS) -> None:
        """Replace the records of this kind; no values: none. `name` without `.example.com`; SRV: `0 1 80 target`.

        Served within a second or so: wait for it, with `dig` or by what it leads to.
        """
        self._records[name, kind] = [f"{name} {ttl} IN {kind} {value}" for value in values]
        self._write()

    def start(self) -> None:
        """Start serving, for the first time or again after `stop`."""
        self._write()
        config = self._world.directory / "zone.corefile"
        config.write_text(
            f"{ZONE}:53 {{\n  bind {topology.NAME_SERVER}\n  file {self._zone} {ZONE} {{\n    reload 200ms\n  }}\n"
            "  errors\n}\n"
        )
        argv = [str(builds.program("coredns")), "-conf", str(config)]
        self._process = self._world.start("internet-dns", argv, topology.INTERNET)

    def stop(self) -> None:
        """Stop serving: no name can be resolved until `start`."""
        assert self._process is not None
        self._process.stop()

    def _write(self) -> None:
        """In one step: CoreDNS reads the zone again when its serial number has changed."""
        self._serial += 1
        lines = [
            f"$ORIGIN {ZONE}.",
            f"@ {_TTL_SECONDS} IN SOA ns admin {self._serial} 60 60 60 {_TTL_SECONDS}",
            f"@ {_TTL_SECONDS} IN NS ns",
            f"ns {_TTL_SECONDS} IN A {topology.NAME_SERVER}",
            *(line for lines in self._records.values() for line in lines),
        ]
        draft = self._zone.with_suffix(".draft")
        draft.write_text("\n".join(lines) + "\n")
        draft.rename(self._zone)


def start_cluster_dns(world: World, api: ApiServer, site: topology.Site) -> None:
    """CoreDNS as a process of the gateway, which asks the API server for Services; all else it asks the internet."""
    config = _corefile(world.directory / f"{site.name}.corefile", api)
    world.start(f"{site.name}-dns", [builds.program("coredns"), "-conf", config], site.network)


def _corefile(path: Path, api: ApiServer) -> Path:
    path.write_text(
        ".:53 {\n"
        f"  bind {topology.GATEWAY}\n"
        "  kubernetes cluster.local in-addr.arpa ip6.arpa {\n"
        f"    kubeconfig {api.kubeconfig}\n"
        "    ttl 1\n"
        "  }\n"
        f"  forward . {topology.NAME_SERVER} {{\n    max_fails 0\n  }}\n"
        "  errors\n"
        "}\n"
    )
    return path


SERVICE = f"""\
apiVersion: v1
kind: Service
metadata:
  name: kube-dns
  namespace: kube-system
  labels: {{k8s-app: kube-dns}}
spec:
  clusterIP: {topology.CLUSTER_DNS}
  ports:
  - {{name: dns, port: 53, protocol: UDP}}
  - {{name: dns-tcp, port: 53, protocol: TCP}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: kube-dns
  namespace: kube-system
  labels: {{kubernetes.io/service-name: kube-dns}}
addressType: IPv4
endpoints:
- addresses: [{topology.GATEWAY}]
ports:
- {{name: dns, port: 53, protocol: UDP}}
- {{name: dns-tcp, port: 53, protocol: TCP}}
"""
"""The cluster's DNS at its well-known address; its one endpoint is no pod."""
