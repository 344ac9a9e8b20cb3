"""A child process: its limits, and the loop that reads its messages."""

import asyncio
import os
import resource
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, get_args

from moorage.outside.channel import Channel, SocketChannel
from moorage.outside.messages import Ping, Pong

Part = Literal["checks", "sources"]
PARTS: tuple[Part, ...] = get_args(Part)


class Limits(NamedTuple):
    """What a child may use, whatever it is sent."""

    memory: int
    """Bytes of private memory (RLIMIT_DATA, which since Linux 4.7 counts all private writable mappings)."""
    files: int
    niceness: int
    """Added to the operator's nice value, because the operator's processor time comes first."""


LIMITS: dict[Part, Limits] = {
    "checks": Limits(memory=160 * 2**20, files=3 * 8192, niceness=0),
    "sources": Limits(memory=192 * 2**20, files=4096, niceness=5),
}
"""The memory limit of the operator's Deployment, 512 MiB, is for all three processes."""


class Worker(Protocol):
    """The work of a child."""

    def take(self, message: Any) -> None:
        """Take a message from the operator."""

    async def close(self) -> None: ...


OOM_SCORE = 1000
"""If the pod runs out of memory all the same, the kernel kills a child and not the operator (proc(5))."""


async def run(part: Part, sock: socket.socket) -> None:
    """Work for the operator at the other end of `sock`, until that closes."""
    limit(LIMITS[part])
    loop = asyncio.get_running_loop()
    out_of_memory = asyncio.Event()

    def failed(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if isinstance(context.get("exception"), MemoryError):
            out_of_memory.set()
        else:
            loop.default_exception_handler(context)

    loop.set_exception_handler(failed)
    channel, work = await (_checks(sock) if part == "checks" else _sources(sock))
    serving = asyncio.create_task(serve(channel, work.take))
    ending = asyncio.create_task(out_of_memory.wait())
    await asyncio.wait((serving, ending), return_when=asyncio.FIRST_COMPLETED)
    if out_of_memory.is_set():
        # Nobody knows what is half done now; a new process starts from a known state.
        raise MemoryError(f"more than {LIMITS[part].memory // 2**20} MiB")
    ending.cancel()
    await work.close()
    await serving


# Each part imports only what it needs: the one for checks needs half the memory.


async def _checks(sock: socket.socket) -> tuple[Channel[Any], Worker]:
    from moorage.outside.checks import ChecksWorker
    from moorage.outside.checks_messages import ToChecks

    channel: Channel[Any] = await SocketChannel.over(sock, ToChecks)
    return channel, ChecksWorker(channel)


async def _sources(sock: socket.socket) -> tuple[Channel[Any], Worker]:
    from moorage.discovery.resolver import Resolver
    from moorage.outside.following import SourcesWorker
    from moorage.outside.sources_messages import ToSources

    channel: Channel[Any] = await SocketChannel.over(sock, ToSources)
    return channel, SourcesWorker(channel, Resolver())


async def serve(channel: Channel[Any], take: Callable[[Any], None]) -> None:
    """Pass on messages, and answer pings, until the other end closes."""
    while (message := await channel.receive()) is not None:
        if isinstance(message, Ping):
            channel.send(Pong(message.number))
        else:
            take(message)


def limit(limits: Limits) -> None:
    """Set the limits of this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for the operator, which ends this process
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = limits.files if hard == resource.RLIM_INFINITY else min(limits.files, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    resource.setrlimit(resource.RLIMIT_DATA, (limits.memory, limits.memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):
        os.nice(limits.niceness)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))
