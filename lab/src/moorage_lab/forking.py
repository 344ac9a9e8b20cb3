"""Starts the lab's long-running processes as copies of one process that has imported Moorage.

Each would otherwise import it anew, which takes longer than all else that a lab does at its start. The process that
is copied is the lab's first one (`moorage_lab.init`): it has no threads and no event loop. `serve` is its loop. The
supervisor asks it through `Forker`: `Run` starts a program, `End` asks it to end, and `Ended` tells how it ended.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import itertools
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple, NoReturn, Self

import msgspec

from moorage.cli import main as moorage
from moorage_lab.channel import MAX_MESSAGE_BYTES, Channel, End, Ended, Run

OWN = "moorage"
"""The first word of the command line of a program that is a copy; any other word is a program of the machine."""
FIRST_DESCRIPTOR = 3
"""The number that the file which a program is given has there."""

_FAR = 64
"""Above all numbers that files are to get."""
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Program(NamedTuple):
    """One process to keep running."""

    name: str
    """Its name in logs and for people; its output goes to `NAME.log`."""
    argv: list[str]
    netns: str
    """`""`: the supervisor's own."""
    descriptor: int | None = None
    """An open file that it gets, as `FIRST_DESCRIPTOR`."""


class Forker:
    """The supervisor's side; an async context manager."""

    def __init__(self, end: socket.socket) -> None:
        self._channel = Channel(end)
        self._numbers = itertools.count()
        self._ended: dict[int, asyncio.Future[int]] = {}
        self._listening = asyncio.create_task(self._listen())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._listening.cancel()
        self._channel.close()

    async def run(self, program: Program, logs: Path) -> int:
        """Run it to its end, and return its status: below 0, the signal that ended it.

        Cancelling the call asks the program to end, with SIGTERM, and waits for that.
        """
        number = next(self._numbers)
        ended = self._ended[number] = asyncio.get_running_loop().create_future()
        log = str(logs / f"{program.name}.log")
        run = Run(number=number, argv=program.argv, netns=program.netns, log=log)
        self._channel.send(run, program.descriptor)
        try:
            return await asyncio.shield(ended)
        except asyncio.CancelledError:
            self._channel.send(End(number=number))
            # This wait is bounded: the supervisor's own end kills what is left.
            await ended
            raise

    async def _listen(self) -> None:
        while received := await self._channel.receive():
            message, _ = received
            if isinstance(message, Ended):
                self._ended.pop(message.number).set_result(message.status)


def serve(requests: socket.socket) -> None:
    """Start programs, and reap all children, until the other end closes."""
    numbers: dict[int, int] = {}
    with _told_of_children() as told:
        while True:
            for pid, status in _reaped():
                # All others are orphans.
                if (number := numbers.pop(pid, None)) is not None:
                    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                        requests.send(msgspec.json.encode(Ended(number=number, status=status)))
            ready, _, _ = select.select([requests, told], [], [])
            if told in ready:
                told.recv(4096)
            if requests in ready and not _handle(requests, numbers):
                return


def _handle(requests: socket.socket, numbers: dict[int, int]) -> bool:
    """Do what the next message asks for; False at the end. `numbers`: process id -> `Run.number`."""
    try:
        data, descriptors, _, _ = socket.recv_fds(requests, MAX_MESSAGE_BYTES, 1)
    except ConnectionResetError:
        return False
    if not data:
        return False
    match msgspec.json.decode(data, type=Run | End):
        case Run() as run:
            pid = os.fork()
            if pid == 0:
                end_as(partial(_become, run, descriptors))
            numbers[pid] = run.number
        case End() as end:
            for pid in [pid for pid, number in numbers.items() if number == end.number]:
                os.kill(pid, signal.SIGTERM)
    for descriptor in descriptors:
        os.close(descriptor)
    return True


@contextlib.contextmanager
def _told_of_children() -> Iterator[socket.socket]:
    """A socket that becomes readable when a child has ended: it carries the signals' numbers."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        yield ours


def _reaped() -> Iterator[tuple[int, int]]:
    """The children that have ended: process id and status."""
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            yield found[0], os.waitstatus_to_exitcode(found[1])


def end_as(program: Callable[[], None]) -> NoReturn:
    """Run this, and end the process with its exit status: a copy must not go on with what it is a copy of."""
    status = 1
    try:
        program()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _become(run: Run, descriptors: list[int]) -> None:
    """Be this program to its end. What goes wrong is told in its log."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _open_only(run.log, descriptors)
        log = Path(run.log)
        # What `ps` calls it; the kernel keeps 15 bytes (proc_pid_comm(5)).
        Path("/proc/self/comm").write_text(f"{log.parent.name}/{log.stem}")
        if run.netns:
            _enter_network(run.netns)
        if run.argv[0] != OWN:
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and what is executed would, too
            os.execvp(run.argv[0], run.argv)
        sys.argv = list(run.argv)
        moorage.main()
    except OSError as error:
        print(f"{run.argv[0]}: {error.strerror}: {error.filename or run.argv[0]}", file=sys.stderr)
        sys.exit(1)


def _open_only(log: str, descriptors: list[int]) -> None:
    """Have no open files but /dev/null as input, the log as output, and these, in this order."""
    files = [os.open(os.devnull, os.O_RDONLY)]
    files += 2 * [os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)]
    # First out of the way: a number that one of them is to get may be another one's.
    far = [fcntl.fcntl(file, fcntl.F_DUPFD, _FAR) for file in (*files, *descriptors)]
    for number, file in enumerate(far):
        os.dup2(file, number)
    for number in map(int, os.listdir("/proc/self/fd")):
        if number >= len(far):
            with contextlib.suppress(OSError):  # the list's own is closed by now
                os.close(number)


def _enter_network(netns: str) -> None:
    """Move to a network namespace that `ip netns` has made. (Python has `os.setns` since 3.12.)"""
    with open(f"/run/netns/{netns}") as file:
        if _libc.setns(file.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), file.name)
