"""etcd and kube-apiserver: the real API of Kubernetes, ready in seconds."""

import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from e2e.harness import builds
from e2e.harness.certificates import ADMIN, Credentials
from e2e.harness.kubectl import Kubectl
from e2e.harness.world import Process, World, installed, wait

SERVICE_RANGE = "10.96.0.0/16"
_READY_SECONDS = 90
"""Seconds, on a machine that compiles something else meanwhile; 4 otherwise."""


class ApiServer(Kubectl):
    """A running API server with an administrator's kubeconfig."""

    def __init__(
        self,
        world: World,
        name: str = "api",
        *,
        network: str | None = None,
        address: str = "127.0.0.1",
        port: int = 0,
        users: dict[str, Sequence[str]] | None = None,
        arguments: Sequence[str] = (),
        service_range: str = SERVICE_RANGE,
        kubernetes: str = builds.KUBERNETES,
    ) -> None:
        """In the world's network namespace `network` (None: the machine's, then only on loopback).

        `port` 0 takes a free one. `users`: further users with their groups, a token each in `credentials.tokens`.
        `arguments`: further ones of kube-apiserver; the last of a kind wins. `kubernetes`: the module of e2e/binaries
        that its program is from.
        """
        self.world = world
        self.name = name
        self.network = network
        self.address = address
        self.port = port or free_port()
        self.directory = world.directory / name
        self.directory.mkdir()
        self.credentials = Credentials(self.directory, [address, "127.0.0.1", "10.96.0.1"])
        for user, groups in (users or {}).items():
            self.credentials.user(user, *groups)
        self.server = f"https://{address}:{self.port}"
        kubeconfig = self.credentials.kubeconfig(self.directory / "kubeconfig", self.server)
        super().__init__(kubeconfig, lambda: world.joining(network) if network else [])
        self.token = self.credentials.tokens[ADMIN]
        self._service_range = service_range
        self._arguments = list(arguments)
        self._kubernetes = kubernetes
        self._processes: dict[str, Process] = {}
        self._etcd = f"http://127.0.0.1:{free_port() if network is None else 2379}"
        self._peer = f"http://127.0.0.1:{free_port() if network is None else 2380}"

    def start(self, *, wait_for_it: bool = True) -> None:
        """Start what does not run of the two; they keep their data. Raises HarnessError if they do not get ready."""
        if not self._runs("etcd"):
            argv = [
                *(installed("etcd"), "--data-dir", str(self.directory / "etcd"), "--name=e2e"),
                *("--listen-client-urls", self._etcd, "--advertise-client-urls", self._etcd),
                *("--listen-peer-urls", self._peer, "--initial-advertise-peer-urls", self._peer),
                *("--initial-cluster", f"e2e={self._peer}", "--log-level=warn"),
                # As kubeadm: from it kube-apiserver knows the version of the bookmarks that it sends to idle watches.
                "--experimental-watch-progress-notify-interval=5s",
            ]
            self._start("etcd", argv)
        if not self._runs("kube-apiserver"):
            self._start("kube-apiserver", self._command())
        if wait_for_it:
            self.wait()

    def wait(self) -> None:
        """Until it is ready."""
        wait(f"the API server {self.server}", self.ready, _READY_SECONDS, *self._processes.values())

    def stop(self) -> None:
        """Stop the API server, not etcd: nothing is lost, as when it is upgraded. `start` starts it again."""
        self._processes["kube-apiserver"].stop()

    def restart(self) -> None:
        """Stop it, start it, and wait until it is ready."""
        self.stop()
        self.start()

    @property
    def process(self) -> Process:
        """kube-apiserver's, for signals."""
        return self._processes["kube-apiserver"]

    def ready(self) -> bool:
        """Whether it answers and has finished its start."""
        if self.network is None:
            request = urllib.request.Request(
                self.server + "/readyz", headers={"Authorization": f"Bearer {self.token}"}
            )
            context = ssl.create_default_context(cadata=self.credentials.ca)
            try:
                with urllib.request.urlopen(request, context=context, timeout=5) as answer:
                    return bool(answer.status == 200)
            except (urllib.error.URLError, OSError):
                return False
        return self.run_kubectl("get", "--raw", "/readyz", check=False).startswith("ok")

    def _runs(self, program: str) -> bool:
        return program in self._processes and self._processes[program].running

    def _start(self, program: str, argv: Sequence[str | Path]) -> None:
        self._processes[program] = self.world.start(f"{self.name}-{program}", argv, self.network)

    def _command(self) -> list[str | Path]:
        keys = self.credentials
        loopback = self.network is None
        return [
            builds.program("kube-apiserver", self._kubernetes),
            f"--etcd-servers={self._etcd}",
            f"--bind-address={'127.0.0.1' if loopback else '0.0.0.0'}",
            # On loopback there is nothing to advertise: the address only has to be one that is not loopback.
            f"--advertise-address={'192.0.2.1' if loopback else self.address}",
            *(["--endpoint-reconciler-type=none"] if loopback else []),
            f"--secure-port={self.port}",
            f"--tls-cert-file={keys.certificate}",
            f"--tls-private-key-file={keys.key}",
            f"--token-auth-file={keys.tokens_file}",
            "--authorization-mode=Node,RBAC",
            f"--service-account-key-file={keys.accounts_key}",
            f"--service-account-signing-key-file={keys.accounts_key}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-cluster-ip-range={self._service_range}",
            # Without it, `kubectl exec` and `logs` would look the nodes' names up in DNS.
            "--kubelet-preferred-address-types=InternalIP",
            "--profiling=false",
            *self._arguments,
        ]


@contextmanager
def api_server(
    *,
    arguments: Sequence[str] = (),
    users: dict[str, Sequence[str]] | None = None,
    kubernetes: str = builds.KUBERNETES,
) -> Iterator[ApiServer]:
    """A real API server on loopback, without nodes and controllers, until the end of the block.

    Without controllers, a namespace that is deleted stays Terminating, owner references collect nothing and no
    ServiceAccount gets made: start none of those in tests, or use the clusters.
    """
    with World("api") as world:
        arguments = ["--disable-admission-plugins=ServiceAccount", *arguments]
        server = ApiServer(world, arguments=arguments, users=users, kubernetes=kubernetes)
        server.start()
        yield server


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
