"""Makes what `topology` plans: mounts, network namespaces, links. Runs inside the lab's namespaces only."""

import contextlib
import os
from pathlib import Path

from moorage import proc
from moorage.errors import MoorageError
from moorage_lab import topology
from moorage_lab.processes import entering

RUN = Path("/run/moorage")
"""The lab's own files, on its tmpfs; they go with the lab."""
STATE = RUN / "state"
"""The path of the lab's directory (`moorage_lab.state`) inside."""

_MOUNT = """\
cd "$1"
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir -p "$2"
mount --no-canonicalize --bind . "$2"
"""


RESOLV_CONF = f"nameserver {topology.CLUSTER_DNS}\nnameserver {topology.INTERNET_DNS}\n"
"""For everything on a node or a gateway, such as the operator; in the lab's internet the first server does not
answer. Pods have their own file."""

_MOUNT_RESOLV_CONF = """\
printf %s "$1" > "$2"
[ ! -e /etc/resolv.conf ] || mount --bind "$2" /etc/resolv.conf
"""


async def mount(directory: str) -> None:
    """Put a tmpfs on /run, the lab's directory at `STATE`, and the lab's own /etc/resolv.conf over the machine's.

    `ip netns` and the machine's services keep their state in /run, and the lab's directory may be there, too. By then
    its path is hidden, so it is mounted from the shell's working directory.
    """
    await _run(["sh", "-ec", _MOUNT, "sh", directory, str(STATE)], "mounts")
    _touch("/etc/resolv.conf")
    argv = ["sh", "-ec", _MOUNT_RESOLV_CONF, "sh", RESOLV_CONF, str(RUN / "resolv.conf")]
    await _run(argv, "/etc/resolv.conf")


async def build(plan: topology.LabPlan) -> None:
    """Make all network namespaces, links, addresses and routes. Raises MoorageError with the program's message."""
    await _run(["ip", "-batch", "-"], "network namespaces", topology.netns_names(plan))
    for netns in topology.network(plan):
        await _run(
            [*entering(netns.name), "sh", "-e"], f"network namespace {netns.name or 'internet'}", script(netns)
        )


def script(netns: topology.Netns) -> str:
    """The shell script that sets up one network namespace from within."""
    lines = [f"nft -f - <<'END'\n{netns.nft}END\n"] if netns.nft else []
    lines += [f"echo {value} > /proc/sys/{path}\n" for path, value in netns.sysctls.items()]
    return "".join([*lines, f"ip -batch - <<'END'\n{netns.batch}END\n"])


def _touch(link: str) -> None:
    """Make the file that `link` points to, if possible.

    With systemd-resolved, resolv.conf is a link into /run. If overlays cannot be mounted, pods mount their own file
    over it, so it must exist.
    """
    path = os.path.realpath(link)
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Path(path).touch()


async def _run(argv: list[str], what: str, input: str | None = None) -> None:
    done = await proc.run(argv, input=input)
    if done.status != 0:
        words = " ".join(done.stderr.split()) or f"exit status {done.status}"
        raise MoorageError(f"lab: {what}: {words}")
