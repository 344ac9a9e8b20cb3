"""One node: containerd, kubelet and kube-proxy in a network namespace."""

import json
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml

from e2e.harness import builds, cgroups, topology
from e2e.harness.control_plane import ApiServer
from e2e.harness.pause import PAUSE
from e2e.harness.world import Process, World, installed, wait

_PLUGINS = "/usr/lib/cni"
"""Where Debian's containernetworking-plugins are."""


def user(node: topology.Node) -> str:
    """As whom its kubelet speaks to the API server, in the group system:nodes."""
    return f"system:node:{node.name}"


class NodePrograms:
    """What runs on one node."""

    def __init__(self, world: World, api: ApiServer, node: topology.Node) -> None:
        self.world = world
        self.api = api
        self.node = node
        self.directory = world.directory / node.name
        self.directory.mkdir()
        self._socket = self.directory / "containerd.sock"
        self._containerd: Process | None = None
        self._processes: list[Process] = []
        """containerd, kubelet, kube-proxy."""
        self._programs: dict[str, list[str | Path]] = {}
        """The command lines of the last two."""

    def start_containerd(self) -> None:
        """Start it; `load` waits for it."""
        conf = self.directory / "cni"
        conf.mkdir()
        (conf / "10-bridge.conflist").write_text(json.dumps(self._cni()))
        config = self.directory / "containerd.toml"
        config.write_text(self._containerd_config(conf))
        self._containerd = self._start("containerd", [installed("containerd"), "--config", str(config)])

    def complete(self, archives: Sequence[Path]) -> None:
        """Load the images and start the rest."""
        self.load(*archives)
        self.start()

    def load(self, *archives: Path) -> None:
        """Import docker-archives, so that pods run from them without a registry."""
        containerd = self._containerd
        assert containerd is not None
        wait(f"containerd of {self.node.name}", self._answers, 60, containerd)
        for archive in archives:
            self.world.execute(*self._ctr(), "images", "import", str(archive), network=self.node.network, seconds=300)

    def send(self, container: str, number: signal.Signals) -> None:
        """A signal to the first process of a container. `container`: its id, as pods have it."""
        name = container.removeprefix("containerd://")
        self.world.execute(*self._ctr(), "tasks", "kill", "--signal", number.name, name, network=self.node.network)

    def start(self) -> None:
        """Start kubelet and kube-proxy; needs containerd, and pods need the pause image."""
        kubelet = self.directory / "kubelet.json"
        kubelet.write_text(json.dumps(self._kubelet_config(cgroups.make(self.world.run.name, self.node.name))))
        kubeconfig = self._kubeconfig("kubelet", user(self.node))
        proxy, by = self.directory / "kube-proxy.json", self._kubeconfig("kube-proxy", "system:kube-proxy")
        proxy.write_text(json.dumps(proxy_config(self.node.name, self.node.proxy_mode, by)))
        self._programs = {
            "kubelet": [
                builds.program("kubelet"),
                f"--config={kubelet}",
                f"--kubeconfig={kubeconfig}",
                f"--root-dir={self.directory}/kubelet",
                f"--cert-dir={self.directory}/kubelet-pki",
                f"--hostname-override={self.node.name}",
                f"--node-ip={self.node.address}",
            ],
            "kube-proxy": [builds.program("kube-proxy"), f"--config={proxy}"],
        }
        for program, argv in self._programs.items():
            self._start(program, argv)

    def stop(self) -> None:
        """End what runs of it, kubelet before containerd."""
        for process in reversed(self._processes):
            process.stop()

    def restart(self) -> None:
        """The node starts anew, as far as that can be played: all its containers end at once, and its kernel forgets
        all rules and connections. containerd goes on."""
        containerd, *others = self._processes
        for process in others:
            process.stop(signal.SIGKILL)
        kill = '"$@" tasks ls -q | xargs -r -P 8 -n 1 "$@" tasks kill --signal SIGKILL'
        self.world.execute("sh", "-c", kill, "sh", *self._ctr(), network=self.node.network)
        self.flush()
        self.world.execute("conntrack", "--flush", network=self.node.network)
        self._processes = [containerd]
        for program, argv in self._programs.items():
            self._start(program, argv)

    def restart_proxy(self) -> None:
        """Another kube-proxy in the place of the one that runs."""
        with self.without_proxy():
            pass

    @contextmanager
    def without_proxy(self) -> Iterator[None]:
        """Its kube-proxy is killed, and another one runs from the end of the block on. The rules stay as they are."""
        proxy = self._processes.pop()
        proxy.stop(signal.SIGKILL)
        try:
            yield
        finally:
            self._start("kube-proxy", self._programs["kube-proxy"])

    def flush(self) -> None:
        """All rules of its kernel, but those that its network is made of."""
        (site,) = (each for each in topology.SITES if each.name == self.node.cluster)
        rules = "flush ruleset\n" + topology.masquerading(site)[self.node.network]
        self.world.execute("nft", "-f", "-", network=self.node.network, input=rules)

    def _start(self, program: str, argv: list[str | Path]) -> Process:
        process = self.world.start(f"{self.node.name}-{program}", argv, self.node.network)
        self._processes.append(process)
        return process

    def _answers(self) -> bool:
        return self._socket.exists() and "yes" in self.world.execute(
            "sh", "-c", '"$@" >/dev/null 2>&1 && echo yes || echo no', "sh", *self._ctr(), "version"
        )

    def _ctr(self) -> list[str]:
        return ["ctr", f"--address={self._socket}", "--namespace=k8s.io"]

    def _kubeconfig(self, program: str, name: str) -> Path:
        return self.api.credentials.kubeconfig(self.directory / f"{program}.kubeconfig", self.api.server, name)

    def _cni(self) -> object:
        return {
            "cniVersion": "0.4.0",
            "name": "pods",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": "cni0",
                    "isGateway": True,
                    "hairpinMode": True,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": str(self.directory / "ipam"),
                        "ranges": [[{"subnet": self.node.pod_range, "rangeEnd": self.node.last_pod}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                }
            ],
        }

    def _containerd_config(self, conf: Path) -> str:
        directory = self.directory / "containerd"
        return f"""\
version = 2
root = "{directory}"
state = "{self.directory}/run"
oom_score = 0

[grpc]
  address = "{self._socket}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{directory}/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  # Without CAP_SYS_RESOURCE a score cannot be lowered, and runc would fail to start anything.
  restrict_oom_score_adj = true
  disable_apparmor = true
  stream_server_address = "127.0.0.1"

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{_PLUGINS}"
  conf_dir = "{conf}"

[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "{self.world.snapshotter}"
"""

    def _kubelet_config(self, cgroup_root: str) -> object:
        resolv = self.directory / "resolv.conf"
        resolv.write_text(f"nameserver {topology.NAME_SERVER}\n")
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            # The network namespaces are the only way to it.
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": cgroup_root,
            "failCgroupV1": False,
            "enforceNodeAllocatable": [],
            "localStorageCapacityIsolation": False,
            "clusterDNS": [topology.CLUSTER_DNS],
            "clusterDomain": "cluster.local",
            "containerRuntimeEndpoint": f"unix://{self._socket}",
            "resolvConf": str(resolv),
            "podLogsDir": str(self.directory / "pods"),
            "volumePluginDir": str(self.directory / "volume-plugins"),
            "failSwapOn": False,
            "imageGCHighThresholdPercent": 100,
            "imageMaximumGCAge": "0s",
            "evictionHard": {"memory.available": "1Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
            # The world shows the values that kubelet wants, so that it changes nothing of the machine's.
            "protectKernelDefaults": True,
            "nodeStatusUpdateFrequency": "5s",
            "syncFrequency": "10s",
            "fileCheckFrequency": "1m",
            "shutdownGracePeriod": "0s",
        }


def proxy_config(name: str, mode: str, kubeconfig: Path, min_sync: str = "1s") -> object:
    """The configuration of the kube-proxy of node `name`.

    `min_sync`: how long it waits between two syncs, a Go duration. It takes 0 for its default, which is 1s.
    """
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": mode,
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "clusterCIDR": topology.POD_RANGE,
        "hostnameOverride": name,
        "nodePortAddresses": ["primary"],
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
            "udpTimeout": "0s",
            "udpStreamTimeout": "0s",
        },
        mode: {"minSyncPeriod": min_sync},
    }


def manifest(node: topology.Node) -> str:
    """The Node object, made before kubelet finds it: it says which range its pods have."""
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": node.name,
                "labels": {"kubernetes.io/hostname": node.name, "kubernetes.io/os": "linux"},
            },
            "spec": {"podCIDR": node.pod_range, "podCIDRs": [node.pod_range]},
        }
    )
