"""Starts the operator's child processes."""

import asyncio
import socket
import sys
from functools import partial
from typing import Any, Generic, TypeVar

from moorage import log, proc
from moorage.outside.channel import Channel, SocketChannel
from moorage.outside.checks_messages import FromChecks
from moorage.outside.child import Part
from moorage.outside.link import Start
from moorage.outside.sources_messages import FromSources

M = TypeVar("M")

_INCOMING: dict[Part, Any] = {"checks": FromChecks, "sources": FromSources}

ENDING_SECONDS = 2.0
"""How long a child may take to end once its channel is closed; then it is killed."""


class ChildProcess(Generic[M]):
    """A child process, which ends when its channel is closed."""

    def __init__(self, process: asyncio.subprocess.Process, channel: Channel[M]) -> None:
        self.channel = channel
        self._process = process

    def kill(self) -> None:
        """As `outside.link.Child`."""
        if self._process.returncode is None:
            self._process.kill()

    async def end(self, patience: float = ENDING_SECONDS) -> str:
        """Like `outside.link.Child`; the process is killed after `patience` seconds."""
        try:
            async with asyncio.timeout(patience):
                status = await self._process.wait()
        except TimeoutError:
            self.kill()
            status = await self._process.wait()
        except asyncio.CancelledError:
            self.kill()
            raise
        return f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"


async def start(part: Part) -> ChildProcess[Any]:
    """Start the process for this part. Raises OSError if that fails."""
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = await proc.spawn(
                [sys.executable, "-m", "moorage", "outside", part, str(theirs.fileno()), *_log_options()],
                pass_fds=[theirs.fileno()],
            )
        except OSError:
            ours.close()
            raise
    return ChildProcess(process, await SocketChannel.over(ours, _INCOMING[part]))


start_checks: Start[FromChecks] = partial(start, "checks")
start_sources: Start[FromSources] = partial(start, "sources")


def _log_options() -> list[str]:
    level, json = log.chosen()
    return ["--log-level", level, *(["--log-json"] if json else [])]
