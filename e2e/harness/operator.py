"""The operator as a process of this machine, with the rights that `deploy/operator` gives it."""

import os
import signal
import sys
from pathlib import Path

import yaml

from e2e.harness.control_plane import ApiServer, free_port
from e2e.harness.proxy import Proxy
from e2e.harness.world import Process

ROOT = Path(__file__).parents[2]
NAMESPACE = "moorage-system"

_IMPATIENT = """
from moorage.cli.main import main
from moorage.cluster.reflector import Reflector
Reflector.__init__.__kwdefaults__["idle_timeout"] = {}
main()
"""
"""The same program, for tests that cannot wait."""


def install(api: ApiServer, *, without: str = "") -> str:
    """Apply `deploy/crds` and `deploy/operator`. Returns a token of the operator's account.

    Nothing there runs where no kubelet is near; else leave the Deployment out. `without`: a kind.
    """
    api.kubectl("apply", "-k", str(ROOT / "deploy" / "crds"))
    objects = yaml.safe_load_all(api.kubectl("kustomize", str(ROOT / "deploy" / "operator")))
    api.apply(yaml.safe_dump_all([each for each in objects if each["kind"] != without]))
    api.until_definitions_are_served()
    return api.kubectl("create", "token", "moorage-operator", "-n", NAMESPACE, "--duration=2h").strip()


def remove(api: ApiServer) -> None:
    """Delete what `install` has applied, and with it all ExternalServices and Moorings."""
    for part in ("operator", "crds"):
        api.kubectl("delete", "-k", str(ROOT / "deploy" / part), "--ignore-not-found")


class Operator:
    """One process, that reaches the API server through a proxy of its own."""

    def __init__(
        self, api: ApiServer, proxy: Proxy, token: str, name: str, directory: Path, idle: float | None = None
    ) -> None:
        """`directory`: where it gets its kubeconfig; `idle`: seconds of silence after which it gives up a watch."""
        self.name, self.proxy = name, proxy
        self.port = free_port()
        """Of /healthz, /readyz and /metrics, on loopback."""
        kubeconfig = proxy.kubeconfig_of(token, f"{name}.kubeconfig")
        argv = [
            *(sys.executable, *(("-m", "moorage") if idle is None else ("-c", _IMPATIENT.format(idle))), "operator"),
            *("--kubeconfig", str(kubeconfig), "--namespace", NAMESPACE),
            *("--identity", name, "--listen", f"127.0.0.1:{self.port}"),
        ]
        self.process: Process = api.world.start(f"{directory.name}-{name}", argv)

    def freeze(self) -> None:
        """SIGSTOP."""
        self.process.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: to it, and to `nsenter`, which started it and has stopped with it."""
        for pid in (self.process.pid, self.process.popen.pid):
            os.kill(pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, also when it is frozen or has ended."""
        self.process.stop(signal.SIGKILL)

    def leads(self, api: ApiServer) -> bool:
        """Whether the Lease says so."""
        lease = api.get("-n", NAMESPACE, "lease", "moorage-operator")
        return str(lease["spec"].get("holderIdentity", "")).startswith(f"{self.name}_")
