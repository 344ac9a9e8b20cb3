"""What a run leaves in the file system: a directory and cgroups of one name, recorded so that a crash leaves nothing.

The record is a file beside the directory, named for the run and written before anything is made. As long as the run
lives it holds a lock on its record (flock(2)), which the kernel lets go when it ends, however it ends: no process id
has to be believed. `clean` looks at every record, and where the lock is free it removes what the record names.
"""

import contextlib
import fcntl
import itertools
import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import IO

from e2e.harness.errors import HarnessError

BASE = Path("/var/tmp/moorage-e2e")
"""Of all that runs write: a short path, because a Unix socket's has at most 107 bytes, and one that reboots leave."""
CGROUPS = Path("/sys/fs/cgroup")
_PREFIX = "moorage-e2e-"
_NUMBERS = itertools.count(1)


class Run:
    """One run: its name, its directory, its cgroups. `open` and `close` frame it."""

    def __init__(self, what: str) -> None:
        self.name = f"{_PREFIX}{what}-{os.getpid()}-{next(_NUMBERS)}"
        self.directory = BASE / self.name
        self._lock: IO[str] | None = None

    def open(self) -> None:
        """Record the run, then make its directory. Removes what killed runs left before."""
        BASE.mkdir(exist_ok=True)
        if BASE.stat().st_uid != os.geteuid():
            raise HarnessError(f"{BASE} belongs to somebody else: remove it")
        clean()
        # The name that `clean` looks for comes last: it never sees a record that is not locked or not whole.
        draft = BASE / f".{self.name}"
        self._lock = draft.open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        json.dump({"directory": str(self.directory), "cgroup": self.name}, self._lock)
        self._lock.flush()
        draft.rename(_record(self.name))
        self.directory.mkdir(mode=0o700)

    def close(self) -> None:
        """Remove what it left and its record."""
        if self._lock is not None:
            _remove(self.directory, self.name)
            (_record(self.name)).unlink()
            self._lock.close()
            self._lock = None


def clean() -> list[str]:
    """Remove what killed runs left; their names. Runs that live are not touched."""
    cleaned = []
    for path in sorted(BASE.glob(f"{_PREFIX}*.json")):
        with contextlib.suppress(FileNotFoundError, BlockingIOError), path.open() as record:
            fcntl.flock(record, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left = json.load(record)
            _remove(Path(left["directory"]), left["cgroup"])
            path.unlink()
            cleaned.append(path.stem)
    return cleaned


def cgroups(name: str) -> list[Path]:
    """The cgroups of a run, the innermost first: of each controller (v1), or of the one hierarchy (v2)."""
    tops = [CGROUPS / name, *(path / name for path in CGROUPS.iterdir() if path.is_dir() and not path.is_symlink())]
    return [Path(directory) for top in tops if top.is_dir() for directory, _, _ in os.walk(top, topdown=False)]


def _record(name: str) -> Path:
    return BASE / f"{name}.json"


def _remove(directory: Path, cgroup: str) -> None:
    """Raises HarnessError when something is still there after 2 minutes."""
    deadline = time.monotonic() + 120  # a disk that others use takes its time for a node's layers
    while groups := cgroups(cgroup):
        for group in groups:
            # The world's end has killed them already: these are on their way out.
            for pid in _pids(group):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(OSError):
                group.rmdir()
        if time.monotonic() > deadline:
            raise HarnessError(f"cannot remove the cgroup {groups[-1]}")
        time.sleep(0.05)
    while directory.exists():
        # A mount in here would be of another run's namespace: rmtree fails on it and does not enter.
        shutil.rmtree(directory, ignore_errors=True)
        if directory.exists() and time.monotonic() > deadline:
            raise HarnessError(f"cannot remove {directory}")


def _pids(group: Path) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(pid) for pid in (group / "cgroup.procs").read_text().split()]
    return []
