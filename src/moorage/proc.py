"""Runs subprocesses. Nothing else does."""

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from moorage.errors import MoorageError


class Completed(NamedTuple):
    """The result of a finished program: exit status, and output as text."""

    status: int
    stdout: str
    stderr: str


class ProgramMissingError(MoorageError):
    """The program is not installed."""


_PACKAGES = {"nft": "nftables", "conntrack": "conntrack", "ip": "iproute2", "dnsmasq": "dnsmasq-base"}


async def run(argv: Sequence[str], *, input: str | None = None) -> Completed:
    """Run a program to its end, and return its exit status and output, whatever the status is.

    Cancelling the call kills the program and waits for it. Raises ProgramMissingError, naming the Debian package.
    """
    try:
        with _readable(input) as stdin:
            process = await asyncio.create_subprocess_exec(
                *argv, stdin=stdin, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
            )
    except FileNotFoundError:
        package = _PACKAGES.get(argv[0], argv[0])
        raise ProgramMissingError(f"{argv[0]}: not installed; install it with: apt-get install {package}") from None
    try:
        out, err = await process.communicate()
    except asyncio.CancelledError:
        if process.returncode is None:
            process.kill()
            await process.wait()
        raise
    assert process.returncode is not None
    return Completed(process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))


async def spawn(argv: Sequence[str], *, pass_fds: Sequence[int]) -> asyncio.subprocess.Process:
    """Start a program with these files, without input, and with our output. Raises OSError if that fails."""
    return await asyncio.create_subprocess_exec(*argv, stdin=asyncio.subprocess.DEVNULL, pass_fds=tuple(pass_fds))


@contextmanager
def _readable(text: str | None) -> Iterator[int]:
    """A file in memory with the text, positioned at its start; nothing for None.

    A pipe only holds 64 KiB: the event loop would have to feed it bit by bit while the program waits.
    """
    with open(os.memfd_create("input"), "w+b") as file:
        file.write((text or "").encode())
        file.seek(0)
        yield file.fileno()
