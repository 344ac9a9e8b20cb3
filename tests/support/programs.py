"""Runs `moorage` as a process of its own, as users do, or as a copy of this one, which takes a tenth of the time."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from tempfile import TemporaryFile
from typing import NamedTuple

from moorage.cli import main, program
from moorage_lab.forking import end_as

BOUND_SECONDS = 15.0
"""Seconds that any wait here may take, on a machine with much else to do."""
MOORAGE = (sys.executable, "-m", "moorage")


class Outcome(NamedTuple):
    status: int
    stdout: str
    stderr: str


def free_port() -> int:
    """A TCP port that nothing listened on just now, in either family."""
    with socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) as probe:
        port: int = probe.getsockname()[1]
        return port


async def moorage(*arguments: str, environment: Mapping[str, str] | None = None) -> Outcome:
    """Run one command line to its end, at most BOUND_SECONDS."""
    async with _process(arguments, environment or {}) as process:
        out, err = await asyncio.wait_for(process.communicate(), BOUND_SECONDS)
        return Outcome(process.returncode or 0, out.decode(), err.decode())


def moorage_in_a_copy(
    words: Sequence[str], environ: Mapping[str, str], input: str = ""
) -> subprocess.CompletedProcess[str]:
    """`moorage WORDS...` in a copy of this process, which has imported what a new one would spend most time with.

    This process waits for its end: what it is to talk to must not run here.
    """
    main.added()
    with TemporaryFile("w+") as stdin, TemporaryFile("w+") as stdout, TemporaryFile("w+") as stderr:
        stdin.write(input)
        files = stdin, stdout, stderr
        for file in files:
            file.seek(0)
        pid = os.fork()
        if pid == 0:
            end_as(partial(_become_moorage, words, environ, [file.fileno() for file in files]))
        try:
            _, status = os.waitpid(pid, 0)
        except BaseException:  # such as the end of the test's time
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        for file in files:
            file.seek(0)
        code = os.waitstatus_to_exitcode(status)
        return subprocess.CompletedProcess(list(words), code, stdout.read(), stderr.read())


def _become_moorage(words: Sequence[str], environ: Mapping[str, str], descriptors: Sequence[int]) -> None:
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = [main.__file__, *words]
    program.name.cache_clear()
    main.main()


class Server:
    """A program that answers on `port`."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.port = port
        self._process = process

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def end(self) -> Outcome:
        """Wait for its end, at most BOUND_SECONDS."""
        out, err = await asyncio.wait_for(self._process.communicate(), BOUND_SECONDS)
        return Outcome(self._process.returncode or 0, out.decode(), err.decode())


@contextlib.asynccontextmanager
async def server(*arguments: str, environment: Mapping[str, str] | None = None) -> AsyncIterator[Server]:
    """The program with PORT set to a free port, once it accepts connections; killed at the end if it still runs."""
    port = free_port()
    async with _process(arguments, {**(environment or {}), "PORT": str(port)}) as process:
        await asyncio.wait_for(_accepts(process, port), BOUND_SECONDS)
        yield Server(process, port)


@contextlib.asynccontextmanager
async def _process(
    arguments: Sequence[str], environment: Mapping[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *MOORAGE,
        *arguments,
        env={**os.environ, **environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def _accepts(process: asyncio.subprocess.Process, port: int) -> None:
    while True:
        try:
            _reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            if process.returncode is not None:
                raise AssertionError((await process.communicate())[1].decode()) from None
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return
