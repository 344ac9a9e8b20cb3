"""Where a lab keeps files for use outside of it, and which labs are running.

A directory per lab: `lock` (held by the outer process as long as it lives), `lab.json`, `CLUSTER.kubeconfig`,
`CLUSTER.inside`, `names.zone`, and `logs/`.
"""

import contextlib
import fcntl
import itertools
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from moorage.errors import MoorageError
from moorage_lab import hints
from moorage_lab.channel import Relay
from moorage_lab.topology import ClusterPlan, LabPlan

DEFAULT_NAME = "lab"


class LabState(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `lab.json`."""

    name: str
    pid: int
    """Process id of the outer process; SIGTERM ends the lab."""
    init_pid: int
    """Process id of the first process inside, as seen from outside."""
    plan: LabPlan
    relays: list[Relay] = []

    @property
    def clusters(self) -> list[str]:
        return [cluster.name for cluster in self.plan.clusters]

    def chosen(self, cluster: str | None) -> ClusterPlan:
        """The cluster of this name, or the only one; MoorageError if there is none, or if it is unclear which one."""
        names = ", ".join(self.clusters)
        if cluster is None and len(self.clusters) > 1:
            raise MoorageError(f"lab {self.name}: say which cluster with --cluster: {names}")
        for plan in self.plan.clusters:
            if cluster in (None, plan.name):
                return plan
        raise MoorageError(f"lab {self.name}: has no cluster {cluster!r}; it has: {names}")


def root() -> Path:
    """The directory of this user's labs; it is made if it is missing.

    Raises MoorageError if somebody else could have made it: other users may write to the directory for temporary
    files.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.path.isdir(runtime) and os.access(runtime, os.W_OK | os.X_OK):
        path = Path(runtime) / "moorage"
    else:
        path = Path(tempfile.gettempdir()) / f"moorage-{os.geteuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise MoorageError(f"{path}: must be a directory of yours that nobody else can use; remove it")
    return path


def check_name(name: str) -> None:
    """Raise MoorageError unless `name` is a valid name for a lab."""
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name):
        raise MoorageError(f"lab {name!r}: its name must be at most 63 lower-case letters, digits and hyphens")


class LabDirectory:
    """A lab's directory, owned by this process until `remove` or until it ends."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def claim(cls, name: str) -> "LabDirectory":
        """Make the directory, empty; one that a killed lab has left behind is reused.

        Raises MoorageError if a lab of this name is running.
        """
        check_name(name)
        path = root() / name
        with alone(path.parent):
            path.mkdir(mode=0o700, exist_ok=True)
            lock = _lock(path)
            if lock is None:
                raise MoorageError(f"lab {name} is running; end it with: {hints.stop(name)}, or give another --name")
            for entry in path.iterdir():
                if entry.name != "lock":
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            (path / "logs").mkdir()
        return cls(path, lock)

    def write(self, state: LabState) -> None:
        """Write `lab.json`; readers see either the old or the new content."""
        self.write_file("lab.json", msgspec.json.format(msgspec.json.encode(state)).decode())

    def write_file(self, name: str, text: str) -> Path:
        """Write a file that only this user can read, and return its path; readers see either the old or the new
        content."""
        new = self.path / f".{name}.new"
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        return new.replace(self.path / name)

    def remove(self) -> None:
        """Remove the directory and release its lock."""
        with alone(self.path.parent):
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)


def labs() -> list[tuple[LabState, Path]]:
    """The running labs by name, and their directories. Removes what killed labs have left behind."""
    found = []
    directory = root()
    with alone(directory):
        for path in sorted(each for each in directory.iterdir() if each.is_dir()):
            lock = _lock(path)
            if lock is not None:
                shutil.rmtree(path, ignore_errors=True)
                os.close(lock)
            elif state := _read(path):
                found.append((state, path))
    return found


def free_name(name: str) -> str:
    """`name`, or if a lab of this name is running, the first free one of `name2`, `name3`, ..."""
    taken = {state.name for state, _ in labs()}
    names = itertools.chain([name], (f"{name}{number}" for number in itertools.count(2)))
    return next(each for each in names if each not in taken)


def find(name: str | None) -> tuple[LabState, Path]:
    """The lab of this name, or the only one; MoorageError if there is none, or if it is unclear which one."""
    running = labs()
    chosen = [lab for lab in running if name is None or lab[0].name == name]
    if len(chosen) == 1:
        return chosen[0]
    if chosen:
        names = ", ".join(state.name for state, _ in chosen)
        raise MoorageError(f"several labs are running ({names}); say which one with --name")
    if running:
        raise MoorageError(f"no lab {name} is running; see which are with: {hints.list_()}")
    raise MoorageError(f"no lab is running; start one with: {hints.run()}")


def kubeconfig(path: Path, cluster: str) -> Path:
    """The kubeconfig with which `kubectl` reaches this cluster, in the lab's directory `path`."""
    return path / f"{cluster}.kubeconfig"


def inside_kubeconfig(path: Path, cluster: str) -> Path:
    """The kubeconfig to reach this cluster from inside the lab, for instance from another cluster."""
    return path / f"{cluster}.inside"


def zone_file(path: Path) -> Path:
    """The file with the DNS records of the lab's internet, in the lab's directory `path`."""
    return path / "names.zone"


@contextlib.contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Locks the directory of all labs.

    Meanwhile no other process claims, lists or removes labs, so the lock of a lab shows whether it is running.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _lock(path: Path) -> int | None:
    """Take the lab's lock and return its file descriptor; None if another process has it."""
    lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _read(path: Path) -> LabState | None:
    """The content of `lab.json`; None for a lab that is just starting."""
    try:
        return msgspec.json.decode((path / "lab.json").read_bytes(), type=LabState)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
