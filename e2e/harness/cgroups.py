"""Cgroups for the pods of one node, of version 1 (a hierarchy per controller) or 2 (one for all)."""

from pathlib import Path

from e2e.harness.errors import HarnessError
from e2e.harness.runs import CGROUPS

_V1 = ("blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids", "systemd")
_V2 = ("cpu", "cpuset", "io", "memory", "pids")


def make(run: str, node: str) -> str:
    """Make a node's cgroups under the run's, which must be recorded; what kubelet calls its `cgroupRoot`.

    Raises HarnessError on a machine where that cannot be done.
    """
    root = f"/{run}/{node}"
    try:
        if (CGROUPS / "cgroup.controllers").exists():
            _unified(CGROUPS / run / node)
        else:
            for controller in _V1:
                if (CGROUPS / controller).is_dir():
                    _hierarchy(CGROUPS / controller, run, node)
    except OSError as error:
        raise HarnessError(
            f"cannot make the cgroup {root}: {error}; the tests need a machine, or a privileged container, whose "
            f"{CGROUPS} can be written, with the controllers cpu, cpuset, memory and pids"
        ) from error
    return root


def _hierarchy(top: Path, run: str, node: str) -> None:
    above = top
    for name in (run, node):
        group = above / name
        group.mkdir(exist_ok=True)
        # A new cpuset is empty, and an empty one takes no process.
        for setting in ("cpuset.cpus", "cpuset.mems"):
            if (group / setting).exists():
                (group / setting).write_text((above / setting).read_text())
        above = group


def _unified(group: Path) -> None:
    group.mkdir(parents=True, exist_ok=True)
    for above in (CGROUPS, group.parent, group):
        offered = (above / "cgroup.controllers").read_text().split()
        (above / "cgroup.subtree_control").write_text(" ".join(f"+{one}" for one in _V2 if one in offered))
