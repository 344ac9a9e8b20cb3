"""The lab's supervisor: starts everything inside the namespaces, keeps it running, and ends it in order.

Its own network namespace is the lab's internet. It ends on request, or when the outer process is gone.
"""

import asyncio
import contextlib
import itertools
import socket

import msgspec

from moorage import log as logging
from moorage.cluster import kubeconfig
from moorage.cluster.client import Client
from moorage.errors import MoorageError
from moorage_lab import network, programs
from moorage_lab.channel import Channel, Failed, Listen, Listening, Ready, Relay, Relays, Start, Stop
from moorage_lab.forking import Forker, Program
from moorage_lab.processes import keep_running, last_line, run_once
from moorage_lab.programs import Files
from moorage_lab.relays import RelayKeeper
from moorage_lab.topology import ClusterPlan

log = logging.get_logger("moorage_lab")

API_SECONDS = 25.0
"""How long an API server may take until it answers."""
PODS_SECONDS, OTHERS_SECONDS = 3.0, 1.5
"""How long pods, and then the rest, may take to end; what is left after that ends with the PID namespace."""


def main(channel: int, forker: socket.socket) -> None:
    """Run until the lab ends. `channel` is the file descriptor of the channel to the outer process, and `forker` the
    socket to init, which starts the other processes."""
    logging.configure("info")
    asyncio.run(_main(channel, forker))


async def _main(descriptor: int, to_init: socket.socket) -> None:
    # Init ends when its socket closes, so that comes last.
    async with Forker(to_init) as forker, Channel(socket.socket(fileno=descriptor)) as channel:
        received = await channel.receive()
        if received is None or not isinstance(received[0], Start):
            return
        supervisor = Supervisor(channel, forker)
        running = asyncio.create_task(supervisor.run(received[0]))
        until_end = asyncio.create_task(supervisor.listen_to_channel())
        await asyncio.wait([running, until_end], return_when=asyncio.FIRST_COMPLETED)
        if running.done() and (error := running.exception()) is not None:
            if not isinstance(error, MoorageError):
                log.error("the lab cannot go on", exc_info=error)
            channel.send(Failed(message=str(error) or type(error).__name__))
        until_end.cancel()
        running.cancel()
        await supervisor.end()


class Supervisor:
    def __init__(self, channel: Channel, forker: Forker) -> None:
        self._channel = channel
        self._forker = forker
        self._numbers = itertools.count()
        self._asked: dict[int, asyncio.Future[tuple[socket.socket, int]]] = {}
        self._pods: list[asyncio.Task[None]] = []
        self._processes: list[asyncio.Task[None]] = []
        self._servers: list[asyncio.Task[None]] = []
        self._followers: list[asyncio.Task[None]] = []

    async def listen_to_channel(self) -> None:
        """Handle messages of the outer process until it asks for the end or is gone."""
        while received := await self._channel.receive():
            message, descriptor = received
            match message:
                case Stop():
                    return
                case Listening() if descriptor is not None:
                    listener = socket.socket(fileno=descriptor)
                    listener.setblocking(False)
                    self._asked.pop(message.number).set_result((listener, message.port))

    async def run(self, start: Start) -> None:
        """Make the networks, start all processes, report when the API servers answer, and go on until cancelled.

        Raises MoorageError if that fails, and when an API server ends, because its data is gone then.
        """
        relays = RelayKeeper([cluster.name for cluster in start.plan.clusters], self._listen, self._publish)
        await network.mount(start.directory)
        await network.build(start.plan)
        files = await asyncio.gather(*(self._cluster(cluster, relays) for cluster in start.plan.clusters))
        outside = {name: each.outside.read_text() for name, each in files}
        self._channel.send(Ready(kubeconfigs=outside, inside={name: each.inside.read_text() for name, each in files}))
        logs = network.STATE / "logs" / "internet"
        logs.mkdir(exist_ok=True)
        name_server = programs.name_server(start.plan, network.STATE)
        self._processes.append(asyncio.create_task(keep_running(self._forker, name_server, logs)))
        # Not gather: when it ends it would end the API servers, before the pods that report to them.
        done, _ = await asyncio.wait([*self._servers, *self._followers], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            await task

    async def end(self) -> None:
        """End the relays, then the pods, then all other processes, each within its time limit."""
        await _cancel(self._followers, OTHERS_SECONDS)
        await _cancel(self._pods, PODS_SECONDS)
        await _cancel([*self._processes, *self._servers], OTHERS_SECONDS)

    async def _cluster(self, cluster: ClusterPlan, relays: RelayKeeper) -> tuple[str, Files]:
        """Start one cluster. Returns its name and where its files are."""
        files = Files(network.RUN, network.STATE, cluster.name)
        for directory in (files.logs, files.dns_hosts.parent):
            directory.mkdir(parents=True, exist_ok=True)
        files.plan.write_bytes(msgspec.json.encode(cluster))
        files.dns_hosts.touch()
        listener, port = await self._listen(programs.FIRST_API_PORT)
        server = programs.api_server(cluster, files, listener.fileno(), port)
        self._servers.append(asyncio.create_task(run_once(self._forker, server, files.logs)))
        client = await self._reach(cluster, files)
        listener.close()
        for program in programs.others(cluster, files):
            self._start(program, files)
        self._followers.append(asyncio.create_task(_follow(relays, cluster.name, client)))
        return cluster.name, files

    def _start(self, program: Program, files: Files) -> None:
        tasks = self._pods if program.name == programs.CONTROL else self._processes
        tasks.append(asyncio.create_task(keep_running(self._forker, program, files.logs)))

    async def _reach(self, cluster: ClusterPlan, files: Files) -> kubeconfig.Config:
        """Wait until the API server answers. Returns how to reach it."""
        try:
            async with asyncio.timeout(API_SECONDS):
                while True:
                    with contextlib.suppress(MoorageError):
                        config = kubeconfig.load(files.inside)
                        async with Client(config) as client:
                            await client.raw("GET", "/version")
                        return config
                    await asyncio.sleep(0.02)
        except TimeoutError:
            words = last_line(files.logs, programs.API_SERVER)
            raise MoorageError(f"lab: cluster {cluster.name}: its API server does not answer: {words}") from None

    async def _listen(self, prefer: int) -> tuple[socket.socket, int]:
        """A listening socket on the machine, and its port."""
        number = next(self._numbers)
        asked: asyncio.Future[tuple[socket.socket, int]] = asyncio.get_running_loop().create_future()
        self._asked[number] = asked
        self._channel.send(Listen(number=number, prefer=prefer))
        return await asked

    def _publish(self, relays: list[Relay]) -> None:
        self._channel.send(Relays(relays=relays))


async def _follow(relays: RelayKeeper, cluster: str, config: kubeconfig.Config) -> None:
    async with Client(config) as client:
        await relays.follow(cluster, client)


async def _cancel(tasks: list[asyncio.Task[None]], seconds: float) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=seconds)
