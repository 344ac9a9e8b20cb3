"""Network namespaces with no way out: of the bench's own, gone when it ends, however it ends."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple


class BenchError(Exception):
    """A measurement could not be made: one line."""


def isolated(module: str, *arguments: str, user_namespace: bool) -> list[str]:
    """The command that runs a Python module in namespaces of its own, whose processes all end with it.

    `user_namespace`: as an ordinary user would be; without, the caller must be root.
    """
    user = ["--user", "--map-root-user"] if user_namespace else []
    unshare = ["unshare", *user, "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return [*unshare, sys.executable, "-m", module, *arguments]


def output(argv: Sequence[str], *, input: str | None = None, seconds: float = 60) -> str:
    """A program's standard output. Raises BenchError with its last words if it fails or takes too long."""
    try:
        done = subprocess.run(argv, input=input, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise BenchError(f"{' '.join(argv)[:200]}: took more than {seconds:.0f} s") from None
    except FileNotFoundError:
        raise BenchError(f"{argv[0]}: not found; run `make bench`, which installs and compiles it") from None
    if done.returncode != 0:
        words = (done.stderr.strip() or done.stdout.strip() or "said nothing").splitlines()
        raise BenchError(f"{' '.join(argv)[:200]}: status {done.returncode}: {words[-1][:300]}")
    return done.stdout


class Namespace(NamedTuple):
    """A network namespace."""

    path: str
    """Of its file."""

    @property
    def prefix(self) -> tuple[str, ...]:
        """Words that run a program inside."""
        return ("nsenter", f"--net={self.path}")

    def run(self, *argv: str, input: str | None = None) -> str:
        return output([*self.prefix, *argv], input=input)

    def configure(self, commands: Sequence[str]) -> None:
        """Commands of `ip`, a line each."""
        self.run("ip", "-batch", "-", input="\n".join(commands) + "\n")

    def set(self, settings: dict[str, str | int]) -> None:
        """Kernel settings, as `sysctl` names them."""
        self.run("sysctl", "-qw", *(f"{name}={value}" for name, value in settings.items()))


@contextmanager
def namespace() -> Iterator[Namespace]:
    """A network namespace with its loopback up until the end of the block."""
    argv = ["unshare", "--net", "sh", "-c", "ip link set lo up && echo ready && exec cat"]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True) as holder:
        assert holder.stdout is not None
        said = holder.stdout.readline().strip()
        try:
            if said != "ready":
                raise BenchError(f"cannot make a network namespace: {said}")
            yield Namespace(f"/proc/{holder.pid}/ns/net")
        finally:
            holder.kill()
