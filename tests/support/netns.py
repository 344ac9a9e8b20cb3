"""A network namespace for one test: made, used by argv prefix or by socket, and gone with the test.

As root a network namespace suffices; an ordinary user makes a user namespace around it. A process holds it: `cat`,
whose standard input is a pipe from here, so that it ends with the tests however those end.
"""

import os
import select
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from moorage.dataplane.nft import KernelNft
from testing.inside import PYTHON, netlink_inside, socket_inside

_READY_SECONDS = 10
_RUN_SECONDS = 60


class Namespace:
    """A network namespace with its loopback up."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        user = () if os.geteuid() == 0 else (f"--user=/proc/{pid}/ns/user", "--preserve-credentials")
        self.prefix: tuple[str, ...] = ("nsenter", *user, f"--net=/proc/{pid}/ns/net")

    def run(self, *argv: str, input: str | None = None) -> str:
        """The standard output of a program that is run inside; fails the test where it fails."""
        done = subprocess.run(
            [*self.prefix, *argv], input=input, capture_output=True, text=True, timeout=_RUN_SECONDS, check=False
        )
        if done.returncode != 0:
            pytest.fail(f"{' '.join(argv)[:200]}: status {done.returncode}: {done.stderr[:400]}")
        return done.stdout

    def python(self, code: str, *arguments: str) -> str:
        """The standard output of Python code that is run inside."""
        return self.run(*PYTHON, "-c", code, *arguments)

    def netlink(self) -> socket.socket:
        """A socket to its netfilter."""
        return netlink_inside(self.prefix)

    def socket(self, family: int, type: int, protocol: int = 0) -> socket.socket:
        """A socket of the namespace, for use here."""
        return socket_inside(self.prefix, family, type, protocol)

    @property
    def nft(self) -> KernelNft:
        """Its nftables."""
        return KernelNft(self.prefix, self.netlink)


@contextmanager
def namespace() -> Iterator[Namespace]:
    """A namespace until the end of the block. Fails the test where the machine allows none."""
    flags = ["--net"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--net"]
    argv = ["unshare", *flags, "sh", "-c", "ip link set lo up && echo ready && exec cat"]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        try:
            readable, _, _ = select.select([holder.stdout], [], [], _READY_SECONDS)
            said = holder.stdout.readline().decode().strip() if readable else "no answer"
            if said != "ready":
                pytest.fail(
                    f"cannot make a network namespace (unshare {' '.join(flags)}): {said}; "
                    "allow user namespaces, or run the tests as root"
                )
            yield Namespace(holder.pid)
        finally:
            holder.kill()


@pytest.fixture
def netns() -> Iterator[Namespace]:
    """A network namespace of the test's own."""
    with namespace() as made:
        yield made
