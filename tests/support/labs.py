"""A lab that runs, as a user starts it, and what is left of it afterwards."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

import moorage_lab.cli.lab  # noqa: F401  # what `moorage_in_a_copy` then need not import
from moorage_lab.state import LabState
from tests.support.programs import moorage_in_a_copy

START_SECONDS = 60
ROOT = Path(__file__).parents[2]
DEMO = ("-f", f"a={ROOT}/deploy/demo/k8s-backend.yml", "-f", f"b={ROOT}/deploy/demo/k8s-frontend.yml")
MOORAGE = (sys.executable, "-P", "-m", "moorage")


def until(condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    """Wait until the condition holds; fail the test, naming `what` never came, after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"not after {seconds:g} s: {what}")
        time.sleep(0.02)


class User:
    """Whose labs they are: a directory for them, and how programs are run."""

    def __init__(self, runtime: Path, prefix: Sequence[str] = (), moorage: Sequence[str] = MOORAGE) -> None:
        self.runtime = runtime
        self.prefix = tuple(prefix)
        self.moorage = tuple(moorage)
        # As `moorage` is in the PATH of whoever has activated `.venv`.
        program = runtime / "bin" / "moorage"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\nexec {shlex.join(moorage)} "$@"\n')
        program.chmod(0o755)
        path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
        self.environ = {**os.environ, "PATH": path, "XDG_RUNTIME_DIR": str(runtime)}

    def argv(self, *words: str) -> list[str]:
        return [*self.prefix, *self.moorage, *words]

    def run(self, *words: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
        """`moorage WORDS...` to its end, whatever its status, or to that of the test's time."""
        if (self.prefix, self.moorage) == ((), MOORAGE):
            return moorage_in_a_copy(words, self.environ, input or "")
        return subprocess.run(
            self.argv(*words), env=self.environ, input=input, capture_output=True, text=True, check=False
        )

    def ok(self, *words: str, input: str | None = None) -> str:
        """The standard output of `moorage WORDS...`, which must succeed."""
        done = self.run(*words, input=input)
        assert done.returncode == 0, f"{' '.join(words)}: status {done.returncode}: {done.stderr}"
        return done.stdout

    def shell(self, line: str) -> str:
        """What this line prints when it is typed into a shell in the checkout. It must succeed."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line],
            env=self.environ,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}: status {done.returncode}: {done.stderr}"
        return done.stdout


class RunningLab:
    """`moorage lab run` that has said that it is up."""

    def __init__(self, user: User, process: subprocess.Popen[bytes], output: Path, name: str) -> None:
        self.user, self.process, self.output, self.name = user, process, output, name
        self.directory = user.runtime / "moorage" / name
        self.pid_namespace = os.readlink(f"/proc/{self.state().init_pid}/ns/pid")

    def state(self) -> LabState:
        return msgspec.json.decode((self.directory / "lab.json").read_bytes(), type=LabState)

    def pids(self) -> list[int]:
        """All processes of its PID namespace, as seen outside."""
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if self._has(pid)]

    def _has(self, pid: int) -> bool:
        try:
            return os.readlink(f"/proc/{pid}/ns/pid") == self.pid_namespace
        except OSError:
            return False

    def find(self, name: str) -> int:
        """The one process of this name (`ps -o comm`): `CLUSTER/PROGRAM` for Moorage's own.

        A child has its parent's name until it runs a program of its own: such children do not count.
        """
        found = {}
        for pid in self.pids():
            try:
                comm = Path(f"/proc/{pid}/comm").read_text().strip()
                parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if comm == name:
                found[pid] = parent
        processes = [pid for pid, parent in found.items() if parent not in found]
        assert len(processes) == 1, f"{name}: {found}"
        return processes[0]

    def port(self, service: str) -> int:
        return next(relay.port for relay in self.state().relays if relay.service == service)

    def ok(self, verb: str, *words: str) -> str:
        """`moorage lab VERB --name NAME WORDS...`"""
        return self.user.ok("lab", verb, "--name", self.name, *words)

    def run(self, verb: str, *words: str) -> subprocess.CompletedProcess[str]:
        return self.user.run("lab", verb, "--name", self.name, *words)

    def expect_nothing_left(self) -> None:
        """Neither a process, nor a mount, nor a network namespace, nor (once labs are listed) a file."""
        until(lambda: not self.pids(), f"the end of processes {self.pids()}")
        assert str(self.directory) not in Path("/proc/self/mountinfo").read_text()
        assert f"{self.name} " not in self.user.ok("lab", "list")
        assert not self.directory.exists()


@contextmanager
def a_user() -> Iterator[User]:
    """This user, with a directory for labs of its own; below /run where that may be, as it is for people."""
    runtime = Path(tempfile.mkdtemp(dir="/run" if os.access("/run", os.W_OK) else None))
    try:
        yield User(runtime)
    finally:
        shutil.rmtree(runtime)


@contextmanager
def running_lab(user: User, *options: str, name: str = "world") -> Iterator[RunningLab]:
    """`moorage lab run --name NAME OPTIONS...`, ended by Ctrl-C after the block, if it still runs."""
    output = user.runtime / f"{name}.output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            user.argv("lab", "run", "--name", name, *options), env=user.environ, stdout=file, stderr=file
        )
    try:
        until(lambda: process.poll() is not None or "Ctrl-C" in output.read_text(), "the lab", START_SECONDS)
        assert process.poll() is None, output.read_text()
        yield RunningLab(user, process, output, name)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        finally:
            process.kill()
