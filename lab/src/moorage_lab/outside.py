"""The lab's outer process: starts the namespaces, opens sockets on the machine for them, and ends them."""

import asyncio
import contextlib
import errno
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from msgspec.structs import replace

from moorage.cli import program
from moorage.cluster import kubeconfig
from moorage.cluster.client import Client
from moorage.errors import MoorageError
from moorage_lab import hints, waiting
from moorage_lab.channel import Channel, Failed, Listen, Listening, Ready, Relay, Relays, Start, Stop
from moorage_lab.checks import UNSHARE, check, search_path
from moorage_lab.state import LabDirectory, LabState, inside_kubeconfig
from moorage_lab.state import kubeconfig as kubeconfig_path
from moorage_lab.topology import LabPlan

START_SECONDS = 30.0
RELAY_SECONDS = 20.0
STOP_SECONDS = 8.0
"""How long the supervisor may take to end; then its namespaces are ended by SIGKILL."""
_MAX_PORTS_TRIED = 20
"""From the preferred port upwards; after these, any port will do."""


class Lab:
    """A running lab."""

    def __init__(self, state: LabState, directory: Path) -> None:
        self.state = state
        self.directory = directory
        self.changed = asyncio.Condition()
        """Notified after `state.relays` has changed."""

    def client(self, cluster: str, on_warning: Callable[[str], object] = lambda text: None) -> Client:
        """A client for this cluster's API server, not yet entered; `on_warning` is that of `Client`."""
        return Client(kubeconfig.load(kubeconfig_path(self.directory, cluster)), on_warning=on_warning)

    async def relay(self, cluster: str, namespace: str, service: str) -> Relay:
        """The relay to the first port of this Service, once it lets connections through or some seconds have passed.

        Raises MoorageError if there is none after RELAY_SECONDS.
        """
        relay = await self._relay(cluster, namespace, service)
        await waiting.connections(relay.port)
        return relay

    async def _relay(self, cluster: str, namespace: str, service: str) -> Relay:
        try:
            async with asyncio.timeout(RELAY_SECONDS), self.changed:
                while True:
                    for relay in self.state.relays:
                        if (relay.cluster, relay.namespace, relay.service) == (cluster, namespace, service):
                            return relay
                    await self.changed.wait()
        except TimeoutError:
            raise MoorageError(
                f"Service {namespace}/{service}: no load balancer address after {RELAY_SECONDS:g} s; "
                f"see: {hints.get(self.state.name, cluster, f'-n {namespace} svc')}"
            ) from None


@contextlib.asynccontextmanager
async def running(name: str, plan: LabPlan) -> AsyncIterator[Lab]:
    """Start a lab, and end it when the block ends for whatever reason. Nothing of it is left then.

    Raises MoorageError if the machine cannot run one, if one of this name is running, if it does not start, and in
    the middle of the block if the lab ends by itself.
    """
    await check()
    directory = LabDirectory.claim(name)
    try:
        async with _Outside(name, plan, directory) as outside:
            yield outside.lab
    finally:
        directory.remove()


def listen(prefer: int) -> socket.socket:
    """A TCP socket that listens on 127.0.0.1: on `prefer`, or a port soon after it, or any."""
    for port in (*range(prefer, min(prefer + _MAX_PORTS_TRIED, 65536)), 0):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            # Not SO_REUSEPORT: two labs must not share a port. REUSEADDR only ignores connections in TIME_WAIT.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            listener.listen(1024)
            return listener
        except OSError as error:
            listener.close()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES) or port == 0:
                raise MoorageError(f"127.0.0.1: cannot listen: {error.strerror}") from None
    raise AssertionError("the last port returns or raises")


class _Outside:
    """Async context manager around the process that holds the namespaces."""

    def __init__(self, name: str, plan: LabPlan, directory: LabDirectory) -> None:
        self.lab = Lab(LabState(name=name, pid=os.getpid(), init_pid=0, plan=plan), directory.path)
        self._directory = directory
        self._ready = asyncio.Event()
        self._failure = ""
        self._ended = False
        self._owner: asyncio.Task[object] | None = None

    async def __aenter__(self) -> "_Outside":
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._log = self.lab.directory / "logs" / "supervisor.log"
        with theirs, self._log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *UNSHARE,
                *(sys.executable, "-P", "-m", "moorage_lab.init", str(theirs.fileno())),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C at the terminal is meant for this process, which then ends the others in order.
                start_new_session=True,
                env={
                    **os.environ,
                    "PATH": search_path(os.environ.get("PATH", "")),
                    program.VARIABLE: program.name(),
                    "PYTHONUNBUFFERED": "1",
                },
            )
        self._channel = Channel(ours)
        self._channel.send(Start(plan=self.lab.state.plan, directory=str(self.lab.directory)))
        self._following = asyncio.create_task(self._follow())
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._ready_or_ended()
        except TimeoutError:
            await self._end()
            raise MoorageError(
                f"lab {self.lab.state.name}: not up after {START_SECONDS:g} s: {self._last_words()}"
            ) from None
        except BaseException:
            await self._end()
            raise
        if self._ended:
            await self._end()
            raise self._error()
        self._owner = asyncio.current_task()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        owner, self._owner = self._owner, None
        ended = self._ended
        error = self._error() if ended else None
        await self._end()
        if ended and kind is asyncio.CancelledError and owner is not None and owner.uncancel() == 0:
            assert error is not None
            raise error

    async def _ready_or_ended(self) -> None:
        ready = asyncio.ensure_future(self._ready.wait())
        try:
            await asyncio.wait([ready, self._following], return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()

    async def _follow(self) -> None:
        """Do what the supervisor asks for until it ends or something fails."""
        try:
            await self._serve()
        except (MoorageError, OSError) as error:
            self._failure = f"lab {self.lab.state.name}: {error}"
        self._ended = True
        if self._owner is not None:
            self._owner.cancel()

    async def _serve(self) -> None:
        while received := await self._channel.receive():
            message, _ = received
            match message:
                case Listen():
                    self._listen(message)
                case Ready():
                    for cluster, text in message.kubeconfigs.items():
                        self._directory.write_file(f"{cluster}.kubeconfig", text)
                    for cluster, text in message.inside.items():
                        self._directory.write_file(inside_kubeconfig(self._directory.path, cluster).name, text)
                    self._set(replace(self.lab.state, init_pid=_only_child(self._process.pid)))
                    self._ready.set()
                case Relays():
                    self._set(replace(self.lab.state, relays=message.relays))
                    async with self.lab.changed:
                        self.lab.changed.notify_all()
                case Failed():
                    self._failure = message.message

    def _listen(self, message: Listen) -> None:
        with listen(message.prefer) as listener:
            port = listener.getsockname()[1]
            self._channel.send(Listening(number=message.number, port=port), listener.fileno())

    def _set(self, state: LabState) -> None:
        self.lab.state = state
        # Not before the lab can be entered: a state without `init_pid` would mislead its readers.
        if state.init_pid:
            self._directory.write(state)

    async def _end(self) -> None:
        """End the namespaces: first by asking; after STOP_SECONDS, or when this is cancelled, by force."""
        self._channel.send(Stop())
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            pass
        finally:
            if self._process.returncode is None:
                # The kernel ends the first process inside only when no other is left, and `unshare` waits for it.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.lab.state.init_pid or self._process.pid, signal.SIGKILL)
            self._following.cancel()
            self._channel.close()
        await self._process.wait()

    def _error(self) -> MoorageError:
        return MoorageError(self._failure or f"lab {self.lab.state.name}: ended by itself: {self._last_words()}")

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").split("\n") if self._log.exists() else []
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def _only_child(pid: int) -> int:
    """The child of `unshare`: the first process inside (proc_pid_children(5))."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
