"""A node agent beside the real kube-proxy, on the same node and on the same Services but for who carries them.

1. *packets*: new connections per second and how long each takes, to Services with few and many endpoints, by nothing,
   by the agent and by kube-proxy in turns. Clients have 200 addresses; sessionAffinity is ClientIP.
2. *changes*: with ever more Services, an endpoint is taken out of one after the other. A client that is led to it
   connects all the time; what counts is when it is first led to another. While Services are made, and while one node
   is measured, the processes of the other nodes are frozen. kube-proxy in mode nftables comes last: with 50,000 sets,
   each of its transactions looks up sets one by one, and keeps a processor in the kernel for tens of seconds, from
   etcd as well, and the lock that all transactions of that node need.

Run by `python -m bench`, as root, in a network namespace of its own; prints JSON.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import msgspec

from bench.bare import each as each_of
from bench.connections import Node, Round, Way, one_round
from bench.namespaces import BenchError
from bench.proxies import objects
from bench.proxies.nodes import MODES, ProxyNode, cluster
from bench.proxies.objects import CARRIERS, Carrier
from bench.proxies.prober import Answer, Question
from bench.running import run, say, until_there
from e2e.harness.control_plane import ApiServer
from e2e.harness.world import Process
from moorage.cluster import kubeconfig
from moorage.cluster.client import Client

SEEN_SECONDS = 120
"""How long a change may take until a client sees it."""
CARRIED_SECONDS = 300
"""How long Services that were just made may take."""
IDLE_SECONDS = 0.05
"""Twice in a row without using a tick of the processor: then nothing is left to do."""
MAX_BUSY_SECONDS = 300
"""A node that is busy for longer has not kept up, and is not measured."""
MAX_ATTEMPTS = 4
"""Of a round in which no connection was made, each longer than the one before."""
ENDPOINTS = 10
"""Of the Services whose endpoints change."""
_say = partial(say, "proxies")


class Options(msgspec.Struct):
    rounds: int
    seconds: int
    """Of a round."""
    endpoints: list[int]
    """Of the Services to which connections are made."""
    services: list[int]
    """How many of each carrier there are when changes are made, in ascending order."""
    changes: int
    change_seconds: int
    """After so long no further change is made for a carrier."""


class Packets(msgspec.Struct):
    """Rounds of one way. `carrier` None: straight to the endpoints."""

    mode: str
    carrier: Carrier | None
    endpoints: int
    rounds: list[Round]


class Changes(msgspec.Struct):
    """What one carrier on one node did."""

    mode: str
    carrier: Carrier
    services: int
    took: list[float]
    """Seconds from the API server's answer to a write until a client is led elsewhere; 0 if that came first. None are
    there if the node did not get ready to be measured."""
    cpu: float
    """Seconds of a processor, on average for a change."""
    peak_kib: int


class Result(msgspec.Struct):
    packets: list[Packets]
    changes: list[Changes]


class Clients:
    """Asks from a node's clients which endpoint a Service leads to."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def begin(self, question: Question) -> None:
        """Ask; `answer` waits for the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(question) + b"\n")
        self._process.stdin.flush()

    async def answer(self) -> Answer:
        assert self._process.stdout is not None
        return msgspec.json.decode(await asyncio.to_thread(self._process.stdout.readline), type=Answer)

    async def ask(self, question: Question) -> Answer:
        self.begin(question)
        return await self.answer()


@contextmanager
def _clients(node: ProxyNode) -> Iterator[Clients]:
    argv = [*node.clients.prefix, sys.executable, "-m", "bench.proxies.prober", "ask"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield Clients(process)
        finally:
            process.kill()


class Bench:
    def __init__(self, client: Client, nodes: list[ProxyNode], server: Process, options: Options) -> None:
        self._client = client
        self._nodes = nodes
        self._server = server
        self._options = options
        self._made = 0
        """Services of each carrier."""

    async def measure(self) -> Result:
        packets = await self._packets()
        changes: list[Changes] = []
        for each in self._nodes:
            each.freeze(frozen=True)
        try:
            for count in self._options.services:
                _say(f"making {count:,} services of each")
                await self._make(range(self._made, count), ENDPOINTS, objects.TELLING_PORT)
                for node in self._nodes:
                    changes += await self._changes(node, count)
        finally:
            # Who is frozen does not end when it is asked to.
            for each in self._nodes:
                each.freeze(frozen=False)
        return Result(packets, changes)

    # --- packets --------------------------------------------------------------------------------------------------

    async def _packets(self) -> list[Packets]:
        numbers = {each: objects.MAX_SERVICES - 1 - n for n, each in enumerate(self._options.endpoints)}
        for count, number in numbers.items():
            await self._make([number], count, objects.PORT)
        found: list[Packets] = []
        for node in self._nodes:
            direct = Packets(node.mode, None, 0, [])
            ways = {count: [Packets(node.mode, each, count, []) for each in CARRIERS] for count in numbers}
            turns = [direct, *(way for both in ways.values() for way in both)]
            for way in turns[1:]:
                await self._until_carried(node, way, numbers[way.endpoints])
            for number in range(-1, self._options.rounds):
                for turn in range(len(turns)):
                    way = turns[(turn + max(number, 0)) % len(turns)]
                    done = await asyncio.to_thread(self._round, node, way, numbers)
                    _say(f"{node.mode}: round {number + 1}: {_named(way)}: {done.per_second:,.0f}/s")
                    if number >= 0:  # The first is for warming up.
                        way.rounds.append(done)
            found += turns
        return found

    def _round(self, node: ProxyNode, way: Packets, numbers: dict[int, int]) -> Round:
        if way.carrier is None:
            destinations = objects.endpoints(numbers[min(numbers)], min(numbers))
        else:
            destinations = [objects.address(way.carrier, numbers[way.endpoints])]
        with_port = [f"{each}:{objects.PORT}" for each in destinations]
        kind = way.carrier or "direct"
        one = Node(Way(kind, way.endpoints), node.sources_file, with_port)
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                return one_round(node.clients, self._server.pid, one, attempt * self._options.seconds)
            except BenchError:
                # A thousand rules for each packet, on a busy machine: no connection is through within the round.
                if attempt == MAX_ATTEMPTS:
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def _until_carried(self, node: ProxyNode, way: Packets, number: int) -> None:
        """Until connections are made."""
        assert way.carrier is not None
        where, deadline = objects.address(way.carrier, number), time.monotonic() + CARRIED_SECONDS
        while not await asyncio.to_thread(_accepts, node, where):
            if time.monotonic() > deadline:
                raise BenchError(f"{node.name}: {_named(way)} is not carried\n{node.last_words()}")
            await asyncio.sleep(0.1)

    # --- changes --------------------------------------------------------------------------------------------------

    async def _changes(self, node: ProxyNode, count: int) -> list[Changes]:
        """While the processes of all other nodes are frozen."""
        node.freeze(frozen=False)
        try:
            if not await self._until_idle(node):
                _say(f"{node.mode}, {count:,} services: still busy after {MAX_BUSY_SECONDS} s")
                return [Changes(node.mode, each, count, [], 0.0, node.peak_kib(each)) for each in CARRIERS]
            with _clients(node) as clients:
                return [await self._changes_of(node, clients, carrier, count) for carrier in CARRIERS]
        finally:
            node.freeze(frozen=True)

    async def _changes_of(self, node: ProxyNode, clients: Clients, carrier: Carrier, count: int) -> Changes:
        took: list[float] = []
        # The first one is not counted: whatever has to be read once has been read then.
        await self._change(node, clients, carrier, _number(0, count, node))
        cpu, began = node.cpu(carrier), time.monotonic()
        for turn in range(1, self._options.changes + 1):
            took.append(await self._change(node, clients, carrier, _number(turn, count, node)))
            if time.monotonic() - began > self._options.change_seconds:
                break
        await self._until_idle(node)
        spent = (node.cpu(carrier) - cpu) / len(took)
        _say(f"{node.mode}, {count:,} services: {carrier}: {1000 * sorted(took)[len(took) // 2]:.0f} ms, {len(took)}")
        return Changes(node.mode, carrier, count, took, spent, node.peak_kib(carrier))

    async def _change(self, node: ProxyNode, clients: Clients, carrier: Carrier, number: int) -> float:
        """Take the endpoint out that a client is led to; seconds from the answer to the write until it is led
        elsewhere."""
        source = node.sources[number % len(node.sources)]
        question = Question(source, objects.address(carrier, number), objects.PORT, seconds=SEEN_SECONDS)
        pinned = (await clients.ask(question)).endpoint
        if not pinned:
            raise BenchError(f"{node.name}: {objects.name(carrier, number)} leads nowhere\n{node.last_words()}")
        every = objects.endpoints(number, ENDPOINTS)
        question.other_than = pinned
        clients.begin(question)
        began = time.monotonic()
        try:
            await self._write(carrier, number, [each for each in every if each != pinned])
            written = time.monotonic()
        finally:
            answer = await clients.answer()
        if answer.at < began:
            raise BenchError(f"{node.name}: {carrier} led a client elsewhere although nothing had changed")
        if not answer.endpoint:
            raise BenchError(f"{node.name}: {carrier} still leads to an endpoint after {SEEN_SECONDS} s")
        await self._write(carrier, number, every)
        # It is there again for the next node, and what has to be done for it is not part of the next change.
        await self._until_idle(node)
        return max(0.0, answer.at - written)

    # --- around them ----------------------------------------------------------------------------------------------

    async def _make(self, numbers: Sequence[int], endpoints: int, port: int) -> None:
        bodies = [
            (path, body)
            for number in numbers
            for carrier in CARRIERS
            for path, body in (
                ("/api/v1/namespaces/default/services", objects.service(carrier, number)),
                (
                    "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
                    objects.slice_(carrier, number, objects.endpoints(number, endpoints), port),
                ),
            )
        ]

        async def make(one: tuple[str, dict[str, object]]) -> None:
            await until_there(lambda: self._client.raw("POST", one[0], body=one[1]))

        await each_of(bodies, make)
        if endpoints == ENDPOINTS:
            self._made = numbers[-1] + 1

    async def _write(self, carrier: Carrier, number: int, addresses: list[str]) -> None:
        path = f"/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/{objects.name(carrier, number)}"
        body = {"endpoints": objects.of(addresses)}
        await self._client.raw("PATCH", path, body=body, content_type="application/merge-patch+json")

    async def _until_idle(self, node: ProxyNode) -> bool:
        """Wait until neither of its processes does anything for a while; False if that takes too long."""
        deadline = time.monotonic() + MAX_BUSY_SECONDS
        quiet, before = 0, sum(map(node.cpu, CARRIERS))
        while quiet < 2:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(IDLE_SECONDS)
            now = sum(map(node.cpu, CARRIERS))
            quiet, before = quiet + 1 if now == before else 0, now
        return True


def _number(turn: int, count: int, node: ProxyNode) -> int:
    """Which Service is changed: each time another."""
    return (turn * 97 + node.index) % count


def _accepts(node: ProxyNode, address: str) -> bool:
    argv = [*node.clients.prefix, sys.executable, "-c", _CONNECT, node.sources[0], address, str(objects.PORT)]
    return subprocess.run(argv, stderr=subprocess.DEVNULL, timeout=30, check=False).returncode == 0


_CONNECT = (
    "import socket, sys; s, a, p = sys.argv[1:]; socket.create_connection((a, int(p)), 1, source_address=(s, 0))"
)


def _named(way: Packets) -> str:
    return f"{way.carrier} x {way.endpoints}" if way.carrier else "direct"


async def _measure(options: Options) -> Result:
    with cluster(MODES) as (api, nodes, server):
        return await _with_client(api, nodes, server, options)


async def _with_client(api: ApiServer, nodes: list[ProxyNode], server: Process, options: Options) -> Result:
    async with Client(kubeconfig.load(api.kubeconfig)) as client:
        return await Bench(client, nodes, server, options).measure()


if __name__ == "__main__":
    run(_measure, Options)
