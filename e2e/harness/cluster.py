"""One played cluster: a control plane in the gateway's network namespace, and nodes."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from e2e.harness import builds, dns, topology
from e2e.harness.cloud import Cloud
from e2e.harness.clusters import Cluster
from e2e.harness.control_plane import ApiServer
from e2e.harness.node import NodePrograms, manifest, user
from e2e.harness.world import World

_PORT = 6443
_USERS = ("system:kube-controller-manager", "system:kube-scheduler", "system:kube-proxy")
"""To whom the API server's bootstrap policy gives what they need."""


class PlayedCluster(Cluster):
    """Started in steps, so that two clusters can start side by side; `World` ends it."""

    def __init__(self, world: World, site: topology.Site, internet: dns.InternetDns) -> None:
        self.world = world
        self.site = site
        users: dict[str, Sequence[str]] = {
            **dict.fromkeys(_USERS, ()),
            **{user(node): ("system:nodes",) for node in site.every_node},
        }
        self.api = ApiServer(
            world,
            f"{site.name}-control-plane",
            network=site.network,
            address=site.address,
            port=_PORT,
            users=users,
            service_range=topology.SERVICE_RANGE,
        )
        super().__init__(site.name, self.api.kubeconfig, self.api.server, lambda: world.joining(topology.INTERNET))
        self.cloud = Cloud(world, site, self.api, internet)
        self.nodes = [NodePrograms(world, self.api, node) for node in site.nodes]

    def begin(self) -> None:
        """Start everything that takes time to get ready."""
        self.api.start(wait_for_it=False)
        for node in self.nodes:
            node.start_containerd()

    def complete(self, images: Sequence[Path]) -> None:
        """Start the rest. The cluster is ready after `wait_for_nodes`."""
        self.api.wait()
        keys = self.api.credentials
        manager = keys.kubeconfig(self.api.directory / "manager", self.api.server, "system:kube-controller-manager")
        scheduler = keys.kubeconfig(self.api.directory / "scheduler", self.api.server, "system:kube-scheduler")
        self._start(
            "kube-controller-manager",
            f"--kubeconfig={manager}",
            f"--service-account-private-key-file={keys.accounts_key}",
            f"--root-ca-file={keys.ca_file}",
            "--use-service-account-credentials",
            "--allocate-node-cidrs=false",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
        )
        self._start("kube-scheduler", f"--kubeconfig={scheduler}", "--leader-elect=false", "--bind-address=127.0.0.1")
        dns.start_cluster_dns(self.world, self.api, self.site)
        self.api.eventually("namespace kube-system", lambda: self.api.kubectl("get", "namespace", "kube-system"))
        self.api.apply("---\n".join([dns.SERVICE, *(manifest(node) for node in self.site.nodes)]))
        self.cloud.start()
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda node: node.complete(images), self.nodes))

    def wait_for_nodes(self) -> None:
        """Until pods can run."""
        self.kubectl("wait", "node", "--all", "--for=condition=Ready", "--timeout=120s", seconds=150)
        self.eventually("the default ServiceAccount", lambda: self.kubectl("get", "serviceaccount", "default"))

    @contextmanager
    def joined(self, node: topology.Node) -> Iterator[None]:
        """A node joins, and is there until the end of the block: one of the site's spare ones, each once."""
        programs = NodePrograms(self.world, self.api, node)
        programs.start_containerd()
        try:
            programs.complete(())
            ready = ("wait", "node", node.name, "--for=condition=Ready", "--timeout=30s")
            self.eventually(f"node {node.name} is ready", lambda: self.kubectl(*ready))
            yield
        finally:
            programs.stop()
            self.kubectl("delete", "node", node.name, "--ignore-not-found")

    def cut(self) -> None:
        """Take the cluster off the internet, with its API server."""
        self._uplink("down")

    def mend(self) -> None:
        """Put it back."""
        self._uplink("up")

    def _start(self, program: str, *arguments: str) -> None:
        self.world.start(f"{self.site.name}-{program}", [builds.program(program), *arguments], self.site.network)

    def _uplink(self, state: str) -> None:
        self.world.execute("ip", "link", "set", self.site.network, state, network=topology.INTERNET)
