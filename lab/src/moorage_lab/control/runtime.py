"""Pods as real processes: a network namespace each, and the pod's name and files in UTS and mount namespaces.

Nothing is pulled: a container runs its `command` from this machine, or without one, this program with the container's
`args` (`args: [app, backend]` runs `moorage app backend`).
"""

import asyncio
import os
import shutil
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from moorage.api.core_v1 import Container, Pod
from moorage.errors import MoorageError
from moorage.proc import run
from moorage_lab.processes import MOORAGE
from moorage_lab.topology import ClusterPlan, NodePlan, pod_commands, pod_netns

_PROBE_TIMEOUT_SECONDS = 1.0
_KILL_TIMEOUT_SECONDS = 5.0
"""How long processes may take to end after SIGKILL."""

_ENTER = """\
hostname "$1" || exit 126
mount -t overlay -o "lowerdir=$2:/etc" overlay /etc 2>/dev/null ||
    for file in "$2"/*; do mount --bind "$file" "/etc/${file##*/}" || exit 126; done
shift 2
exec "$@"
"""
"""Over /etc and not over single files, because /etc/resolv.conf may be missing or a dangling link."""

_NSSWITCH = "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n"
"""Instead of the machine's own, which may ask resolvers of the machine (systemd-resolved, mDNS)."""


class PodProcess:
    """A started container (`kubelet.Process`)."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait(self) -> int:
        status = await self._process.wait()
        # Processes that it left running would keep its ports.
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return status if status >= 0 else 128 - status

    def send(self, number: int) -> None:
        if self._process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(self.pid, number)
            else:
                self._process.send_signal(number)


class ProcessRuntime:
    """The runtime of one cluster's nodes (`kubelet.Runtime`). Its files are below `state`/pods."""

    def __init__(self, plan: ClusterPlan, state: Path) -> None:
        self._plan, self._pods = plan, state / "pods"

    async def clear(self) -> None:
        """Remove what an earlier process has left: processes, network namespaces and files of pods."""
        prefix = pod_netns(self._plan.name, "")
        for line in (await _checked(["ip", "netns", "list"])).splitlines():
            name = line.split()[0] if line.split() else ""
            if name.startswith(prefix):
                await _kill_all(name)
                for node in self._plan.nodes:
                    await _undo(node, name.removeprefix(prefix))
        shutil.rmtree(self._pods, ignore_errors=True)

    async def create(self, pod: Pod, node: NodePlan, addresses: list[str]) -> None:
        etc = self._directory(pod) / "etc"
        etc.mkdir(parents=True, exist_ok=True)
        for name, text in files(self._plan, pod, addresses).items():
            (etc / name).write_text(text)
        if not pod.spec.host_network:
            for netns, batch in pod_commands(node, pod.metadata.uid or "", addresses).add:
                await _checked(_ip(netns), batch)

    async def start(self, pod: Pod, node: NodePlan, container: Container) -> PodProcess:
        directory = self._directory(pod)
        netns = node.netns if pod.spec.host_network else pod_netns(node.cluster, pod.metadata.uid or "")
        # First, so that no intermediate process outlives this one.
        argv = ["setpriv", "--pdeathsig", "KILL", "nsenter", f"--net=/run/netns/{netns}"]
        argv += ["unshare", "--uts", "--mount"]
        argv += ["sh", "-c", _ENTER, "sh", hostname(pod), str(directory / "etc"), *command(container)]
        with (directory / f"{container.name}.log").open("wb") as log:
            try:
                process = await asyncio.create_subprocess_exec(
                    *argv,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment(pod, container, os.environ.get("PATH", os.defpath)),
                    cwd="/",
                    start_new_session=True,
                )
            except OSError as error:
                raise MoorageError(f"pod {pod.metadata.name}: container {container.name}: {error}") from None
        return PodProcess(process)

    async def remove(self, pod: Pod, node: NodePlan) -> None:
        if not pod.spec.host_network:
            await _kill_all(pod_netns(node.cluster, pod.metadata.uid or ""))
            await _undo(node, pod.metadata.uid or "")
        shutil.rmtree(self._directory(pod), ignore_errors=True)

    async def answers(self, address: str, port: int) -> bool:
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_SECONDS):
                _, writer = await asyncio.open_connection(address, port)
        except OSError:  # TimeoutError is one
            return False
        # A reset, not a normal close: nothing of the probe is left in the pod or in connection tables.
        writer.transport.abort()
        return True

    def _directory(self, pod: Pod) -> Path:
        return self._pods / (pod.metadata.uid or "")


def hostname(pod: Pod) -> str:
    """The pod's name, unless its spec has another one; at most 63 characters."""
    return (pod.spec.hostname or pod.metadata.name)[:63]


def command(container: Container) -> list[str]:
    """The program and its arguments, with `$(NAME)` replaced as in Kubernetes, and `$$` for a dollar sign."""
    values = {variable.name: variable.value or "" for variable in container.env or ()}
    program = container.command or MOORAGE
    return [_expand(word, values) for word in [*program, *(container.args or [])]]


def environment(pod: Pod, container: Container, path: str) -> dict[str, str]:
    """The container's environment: the manifest's, on top of the minimum that programs need."""
    values = {"PATH": path, "HOME": "/", "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1", "HOSTNAME": hostname(pod)}
    return values | {variable.name: variable.value or "" for variable in container.env or ()}


def files(plan: ClusterPlan, pod: Pod, addresses: Sequence[str]) -> dict[str, str]:
    """The pod's own files in /etc: name -> text."""
    name, namespace = hostname(pod), pod.metadata.namespace
    servers = "".join(f"nameserver {address}\n" for address in plan.dns_service_addresses[:1])
    search = f"search {namespace}.svc.{plan.domain} svc.{plan.domain} {plan.domain}\n"
    hosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
    return {
        "resolv.conf": f"{servers}{search}options ndots:5\n",
        "hosts": hosts + "".join(f"{address}\t{name}\n" for address in addresses),
        "hostname": f"{name}\n",
        "nsswitch.conf": _NSSWITCH,
    }


def _expand(word: str, values: dict[str, str]) -> str:
    out, rest = "", word
    while "$" in rest:
        before, _, rest = rest.partition("$")
        out += before
        name, closed, after = rest[1:].partition(")")
        if rest.startswith("$"):
            out, rest = out + "$", rest[1:]
        elif rest.startswith("(") and closed and name in values:
            out, rest = out + values[name], after
        else:
            out += "$"
    return out + rest


def _ip(netns: str | None) -> list[str]:
    return ["ip", *(["-n", netns] if netns else []), "-batch", "-"]


async def _checked(argv: list[str], text: str | None = None) -> str:
    done = await run(argv, input=text)
    if done.status != 0:
        raise MoorageError(f"{' '.join(argv)}: {' '.join(done.stderr.split()) or f'exit status {done.status}'}")
    return done.stdout


async def _undo(node: NodePlan, pod_id: str) -> None:
    """Remove a pod's network; missing parts are no error."""
    for netns, batch in pod_commands(node, pod_id, []).delete:
        await run(_ip(netns), input=batch)


async def _kill_all(netns: str) -> None:
    """Kill what runs in a network namespace, and wait until it is gone, at most `_KILL_TIMEOUT_SECONDS`."""
    deadline = asyncio.get_running_loop().time() + _KILL_TIMEOUT_SECONDS
    while pids := (await run(["ip", "netns", "pids", netns])).stdout.split():
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        if asyncio.get_running_loop().time() > deadline:
            raise MoorageError(f"network namespace {netns}: processes {', '.join(pids)} do not end")
        await asyncio.sleep(0.02)
