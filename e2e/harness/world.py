"""Processes, mounts and network namespaces that the kernel takes away when the run ends, however it ends.

A world is a PID and a mount namespace, held by one first process that reads a pipe from here. When this process goes,
even by SIGKILL, the pipe closes, the first process ends, the kernel ends every process of the PID namespace
(pid_namespaces(7)), and with the last of them go the mount namespace and the network namespaces that it names.
What the kernel leaves, the run's directory and cgroups, is recorded before it is made (`runs`).
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Self

from e2e.harness import runs
from e2e.harness.errors import HarnessError

_FIRST = """
set -e
# A child of the first process that nobody waits for (containerd's shims end up here) is reaped by the kernel.
trap '' CHLD
mount -t tmpfs -o mode=755 none /run
mkdir /run/netns
# Kubelet, containerd and CNI plugins write to places of their own there: not to the machine's.
for place in lib log; do
    mkdir -p /run/var/$place /run/work/$place
    mount -t overlay -o lowerdir=/var/$place,upperdir=/run/var/$place,workdir=/run/work/$place none /var/$place
done
# Kubelet wants these values: it finds them, and leaves the machine's as they are.
while read -r name value; do
    echo "$value" >"/run/${name##*/}"
    mount --bind "/run/${name##*/}" "/proc/sys/$name"
done <<END
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
END
echo ready
exec cat
"""
LOGS = Path(__file__).parents[2] / "build" / "e2e"
"""Where the programs' logs are after a run."""
_CLONE_NEWNET = 0x40000000
_STOP_SECONDS = 10
"""Seconds that a program has to end after SIGTERM."""


class World:
    """A context manager: at its end nothing is left of what was started through it."""

    def __init__(self, name: str) -> None:
        """`name` goes into the names of its directory and cgroups, for a person who looks."""
        self.what = name
        self.run = runs.Run(name)
        self.processes: list[Process] = []
        self._holder: subprocess.Popen[bytes] | None = None

    def _keep_logs(self) -> None:
        """Copy all logs to a place where a person finds them after a failure. It holds the last run of each kind."""
        kept = LOGS / self.what
        shutil.rmtree(kept, ignore_errors=True)
        with contextlib.suppress(OSError):
            kept.mkdir(parents=True)
            for log in self.directory.glob("*.log"):
                shutil.copy(log, kept)

    @property
    def directory(self) -> Path:
        """Its files: one per run, removed with it. Short, because the paths of Unix sockets may have 107 bytes."""
        return self.run.directory

    @property
    def pid(self) -> int:
        """Process id of the first process, as seen from outside."""
        if self._holder is None:
            raise HarnessError("the world has not been started")
        return int(Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text().split()[0])

    def __enter__(self) -> Self:
        need_root()
        self.run.open()
        try:
            # Mounts are private, so nothing that is mounted here shows outside.
            unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc"]
            argv = [*unshare, "sh", "-c", _FIRST]
            pipe = subprocess.PIPE
            self._holder = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT)
            assert self._holder.stdout is not None
            said = self._holder.stdout.readline().decode().strip()
            if said != "ready":
                raise HarnessError(
                    f"cannot make namespaces and mounts, which needs root with all capabilities: {said}"
                )
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop all: gently, so that programs write their last lines, then for good."""
        for process in reversed(self.processes):
            with contextlib.suppress(HarnessError):
                process.send(signal.SIGTERM)
        deadline = time.monotonic() + 2
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.popen.wait(max(0.0, deadline - time.monotonic()))
        if self._holder is not None:
            assert self._holder.stdin is not None
            self._holder.stdin.close()
            self._holder.wait()
        for process in self.processes:
            process.popen.wait()
        self._keep_logs()
        self.run.close()

    @cached_property
    def snapshotter(self) -> str:
        """How containerd lays image layers over each other: overlayfs does not work on every file system."""
        upper, work, top = (self.directory / "try" / name for name in ("upper", "work", "top"))
        for path in (upper, work, top):
            path.mkdir(parents=True)
        options = f"lowerdir={self.directory},upperdir={upper},workdir={work}"
        try:
            self.execute("mount", "-t", "overlay", "-o", options, "none", top)
        except HarnessError:
            return "native"
        self.execute("umount", top)
        return "overlayfs"

    def inside(self, network: str | None = None) -> list[str]:
        """Words that run a program in here; `network`: in the network namespace of that name, else the machine's.

        By nsenter and not `ip netns exec`: that one mounts /sys anew and hides the cgroups.
        """
        where = [f"--net=/proc/{self.pid}/root/run/netns/{network}"] if network else []
        return ["nsenter", f"--target={self.pid}", "--mount", "--pid", *where, "--"]

    def enter(self, network: str) -> None:
        """Move the calling thread, and no other, into a network namespace: setns(2), which Python 3.11 lacks."""
        with open(f"/proc/{self.pid}/root/run/netns/{network}") as file:
            if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"cannot enter network namespace {network}")

    def joining(self, network: str) -> list[str]:
        """Words that run a program of the machine in a network namespace: for clients, which end by themselves."""
        return ["nsenter", f"--net=/proc/{self.pid}/root/run/netns/{network}", "--"]

    def execute(
        self, *argv: str | Path, network: str | None = None, input: str | None = None, seconds: float = 120
    ) -> str:
        """Run a program in here to its end; its standard output. Raises HarnessError with its last words."""
        return execute([*self.inside(network), *map(str, argv)], input=input, seconds=seconds)

    def start(
        self, name: str, argv: Sequence[str | Path], network: str | None = None, **environment: str
    ) -> "Process":
        """Start a program in here; what it says goes to `NAME.log` in the directory."""
        words = [*self.inside(network), *map(str, argv)]
        process = Process(name, words, self.directory / f"{name}.log", environment)
        self.processes.append(process)
        return process

    def netns(self, name: str) -> None:
        """Make a network namespace in here, its loopback up."""
        self.execute("ip", "netns", "add", name)
        self.execute("ip", "link", "set", "lo", "up", network=name)


class Process:
    """A program that runs in a world."""

    def __init__(self, name: str, argv: Sequence[str], log: Path, environment: dict[str, str]) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as file:
            self.popen = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env={**os.environ, **environment},
                start_new_session=True,  # Ctrl-C is for the tests, which then stop things in order
            )

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    @property
    def pid(self) -> int:
        """Process id of the program itself, nsenter's child, as seen from outside."""
        children = Path(f"/proc/{self.popen.pid}/task/{self.popen.pid}/children")
        with contextlib.suppress(OSError):
            if pids := children.read_text().split():
                return int(pids[0])
        raise HarnessError(f"{self.name} does not run; its last words:\n{self.last_words()}")

    def send(self, number: signal.Signals) -> None:
        """Raises HarnessError if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send the signal and wait for the end, for at most 10 s, then kill. One that has ended is stopped."""
        for each in (number, signal.SIGKILL):
            # It may end at any moment, before nsenter, which waits for it, does.
            with contextlib.suppress(HarnessError):
                self.send(each)
            # nsenter freezes itself with a program that is frozen.
            self.popen.send_signal(signal.SIGCONT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(_STOP_SECONDS)
                return
        raise HarnessError(f"{self.name} did not end on SIGKILL within {_STOP_SECONDS} s")

    def last_words(self, lines: int = 15) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def execute(argv: Sequence[str], *, input: str | None = None, seconds: float = 120) -> str:
    """Run a program to its end; its standard output. Raises HarnessError with its last words."""
    try:
        done = subprocess.run(argv, input=input or "", capture_output=True, text=True, timeout=seconds, check=False)
    except FileNotFoundError:
        raise HarnessError(f"{argv[0]}: not installed; `scripts/packages e2e` installs it") from None
    except subprocess.TimeoutExpired:
        raise HarnessError(f"{' '.join(argv)[:300]}: took more than {seconds:.0f} s") from None
    if done.returncode != 0:
        words = (done.stderr.strip() or done.stdout.strip() or "said nothing").splitlines()[-15:]
        raise HarnessError(f"{' '.join(argv)[:300]}: status {done.returncode}:\n" + "\n".join(words))
    return done.stdout


def wait(what: str, condition: Callable[[], object], seconds: float, *processes: Process) -> None:
    """Wait until the condition holds. Raises HarnessError if a process ends, with its last words, or time is up."""
    deadline = time.monotonic() + seconds
    while not condition():
        for process in processes:
            if not process.running:
                raise HarnessError(f"{process.name} ended while waiting for {what}:\n{process.last_words()}")
        if time.monotonic() > deadline:
            words = "".join(f"\n--- {process.name}:\n{process.last_words()}" for process in processes)
            raise HarnessError(f"not within {seconds:.0f} s: {what}{words}")
        time.sleep(0.05)


def need_root() -> None:
    """Raises HarnessError for another user."""
    if os.geteuid() != 0:
        raise HarnessError("the end-to-end tests start real clusters: run them as root, with sudo for instance")


def installed(program: str) -> str:
    """The path of a program of the machine. Raises HarnessError."""
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin")
    if path is None:
        raise HarnessError(f"{program}: not installed; `scripts/packages e2e` installs it")
    return path
