"""What tests of connections need besides pods: servers that are in no cluster, and clients on each node of one."""

import itertools
import json
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from e2e.harness import topology
from e2e.harness.world import Process, World, wait

GREETER = str(Path(__file__).with_name("greeter.py"))
_GREETER = (sys.executable, "-I", "-S", GREETER)
_START_SECONDS = 30
_NUMBERS = itertools.count(1)
"""Of processes, so that each has a log of its own."""


class Server(NamedTuple):
    """Where a server listens."""

    name: str
    address: str
    port: int


SERVERS = tuple(
    Server(f"backend{number}", address, 8080 + number) for number, address in enumerate(topology.SERVERS, 1)
)
"""Each has a port of its own, so each is in an EndpointSlice of its own."""


class Servers:
    """Servers on the internet that tell their name to whoever connects."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._processes: dict[str, Process] = {}

    def start(self, *servers: Server) -> None:
        """Start those that do not run, and wait until they listen."""
        for each in servers:
            if each.name in self._processes:
                continue
            argv = [*_GREETER, "serve", each.name, each.address, str(each.port)]
            process = self._world.start(f"{each.name}-{next(_NUMBERS)}", argv, topology.INTERNET)
            self._processes[each.name] = process
            wait(f"server {each.name}", partial(_serves, process), _START_SECONDS, process)

    def kill(self, server: Server) -> None:
        """By SIGKILL: from now on its connections are refused, and those that are open are reset."""
        self._processes.pop(server.name).stop(signal.SIGKILL)

    def stop(self) -> None:
        """All of them."""
        for process in self._processes.values():
            process.stop()
        self._processes.clear()


@contextmanager
def serving(world: World, *servers: Server) -> Iterator[Servers]:
    """Servers, of which these are started, until the end of the block."""
    made = Servers(world)
    try:
        made.start(*servers)
        yield made
    finally:
        made.stop()


def _serves(process: Process) -> bool:
    return process.log.read_text() == "serving\n"


def ask(
    world: World, node: topology.Node, address: str, port: int, count: int, sources: Sequence[str]
) -> dict[str, list[str]]:
    """Who answers `count` connections from each of these addresses of the node's clients, one after the other.

    Where nobody does, it is what went wrong.
    """
    argv = [*_GREETER, "ask", address, str(port), str(count), *sources]
    answers: dict[str, list[str]] = json.loads(world.execute(*argv, network=node.client_network))
    return answers


class OpenConnection:
    """A client that keeps one connection open and asks who answers, ten times a second."""

    def __init__(self, world: World, node: topology.Node, address: str, port: int, source: str) -> None:
        argv = [*_GREETER, "hold", address, str(port), source]
        self._process = world.start(f"open-{next(_NUMBERS)}", argv, node.client_network)

    @property
    def answers(self) -> list[str]:
        """The names so far; at last `ended: ...`."""
        return self._process.log.read_text().splitlines()

    def more(self, count: int = 5) -> list[str]:
        """The next answers, fewer if it ends."""
        before = len(self.answers)
        wait("answers", lambda: len(self.answers) >= before + count or self.ended, 30)
        return self.answers[before : before + count]

    @property
    def ended(self) -> bool:
        return not self._process.running

    def close(self) -> None:
        self._process.stop()
