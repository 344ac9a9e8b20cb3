"""New connections per second, by the ways a packet can take from a client to an endpoint.

```
clients ─┬─ node of way 0 ─┬─ endpoints
         ├─ node of way 1 ─┤
         └─ ...           ─┘
```

Each way has a node of its own (a network namespace with a routed link on either side), sources, a service address and
endpoints of its own, so all are set up once and rounds can be interleaved. One client and one server, in C, serve
all. Run by `python -m bench`, in namespaces; prints JSON.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from bench import BUILD, haproxy, kubeproxy, states
from bench.namespaces import BenchError, Namespace, namespace, output
from moorage.dataplane.capabilities import probe
from moorage.dataplane.conntrack import FakeConntrack
from moorage.dataplane.model import Moored, NodeState
from moorage.dataplane.nft import KernelNft
from moorage.dataplane.sync import Synchronizer
from testing.inside import netlink_inside

Kind = Literal["untracked", "direct", "rule", "moorage", "mooring", "kube-proxy", "haproxy"]
SOURCES = 200
CONCURRENCY = 64
_ENDPOINTS_EACH = 1022
_LINES = 500
"""Commands in one transaction: an ordinary user's nft cannot send many more."""


class Way(NamedTuple):
    """From clients to endpoints. `services` and `moorings` are carried, with those that are measured."""

    kind: Kind
    endpoints: int = 2
    services: int = 1
    moorings: int = 0

    @property
    def name(self) -> str:
        moored = f", {self.moorings} moorings" if self.moorings else ""
        return f"{self.kind} {self.services} x {self.endpoints}{moored}"


WAYS = (
    Way("untracked"),
    Way("direct"),
    Way("rule"),
    Way("mooring", moorings=1),
    Way("mooring", moorings=100_000),
    Way("mooring", 2, 10_000, 100_000),
    Way("moorage"),
    Way("moorage", 10, 10_000),
    Way("haproxy"),
    Way("kube-proxy"),
    Way("moorage", 100),
    Way("kube-proxy", 100),
    Way("moorage", 1000),
    Way("kube-proxy", 1000),
)


class Round(msgspec.Struct):
    """What one run of the client saw."""

    per_second: float
    failed: int
    p50_us: int
    p99_us: int
    client_cores: float
    server_cores: float
    machine_share: float
    """Of all processors' time, how much was not idle."""
    error: str = ""


class Options(msgspec.Struct):
    rounds: int
    seconds: int
    services: int
    """Of the large node."""
    moorings: int = 100_000
    """The same."""


class Node(NamedTuple):
    """One way, set up."""

    way: Way
    sources: Path
    destinations: list[str]
    """`address:port`."""


class ClientReport(msgspec.Struct):
    """The client's line."""

    connections: int
    failed: int
    seconds: int
    p50_us: int
    p99_us: int
    first_error: str = ""


SETTINGS: dict[str, str | int] = {"net.ipv4.ip_local_port_range": "1024 65535", "net.ipv4.tcp_syncookies": 0}
NODE_SETTINGS: dict[str, str | int] = {
    **SETTINGS,
    "net.ipv4.ip_forward": 1,
    "net.netfilter.nf_conntrack_tcp_timeout_time_wait": 1,
    "net.netfilter.nf_conntrack_tcp_timeout_close": 1,
}
_TRACKED = """\
add table inet tracked
add chain inet tracked forward { type filter hook forward priority 0; }
add rule inet tracked forward ct state established accept
"""
_RULE = """\
add table ip by-hand
add chain ip by-hand prerouting {{ type nat hook prerouting priority dstnat; }}
add rule ip by-hand prerouting ip daddr {service} tcp dport {port} dnat to {endpoint}
"""
"""What a person would write to have one address lead to one endpoint."""


def endpoints_of(index: int, count: int) -> list[str]:
    """Addresses of the endpoints of way `index`: each way has its own network of 1,022."""
    first = index * (_ENDPOINTS_EACH + 2) + 1
    return [f"198.18.{(first + n) >> 8}.{(first + n) & 255}" for n in range(count)]


@contextmanager
def network(ways: Sequence[Way], directory: Path) -> Iterator[tuple[Namespace, Namespace, list[Node]]]:
    """Clients, endpoints, and a node for each way, until the end of the block."""
    with ExitStack() as stack:
        clients, servers = stack.enter_context(namespace()), stack.enter_context(namespace())
        servers.configure(["route add local 198.18.0.0/16 dev lo"])
        for each in (clients, servers):
            each.set(SETTINGS)
        nodes = []
        for index, way in enumerate(ways):
            node = stack.enter_context(namespace())
            _link(index, clients, node, servers)
            sources = directory / f"sources-{index}"
            sources.write_text("".join(f"{each}\n" for each in _sources(index, way)))
            nodes.append(Node(way, sources, _program(index, way, node, directory)))
        yield clients, servers, nodes


def _link(index: int, clients: Namespace, node: Namespace, servers: Namespace) -> None:
    link(index, clients, node, servers, f"{_service(index)}/32", _endpoint_network(index))
    node.set(NODE_SETTINGS)


def link(index: int, clients: Namespace, node: Namespace, servers: Namespace, services: str, endpoints: str) -> None:
    """A node between clients and endpoints, each of the three with routes to what is its own.

    `services` and `endpoints` are ranges of addresses.
    """
    for name, other in (("clients", clients), ("servers", servers)):
        node.configure([f"link add {name} type veth peer name node{index} netns {other.path}"])
    node.configure(
        [
            f"address add 10.0.{index}.1/31 dev clients",
            f"address add 10.0.{index}.3/31 dev servers",
            "link set clients up",
            "link set servers up",
            f"route add 10.244.{index}.0/24 via 10.0.{index}.0",
            f"route add {endpoints} via 10.0.{index}.2",
        ]
    )
    clients.configure(
        [
            f"address add 10.0.{index}.0/31 dev node{index}",
            f"link set node{index} up",
            f"route add local 10.244.{index}.0/24 dev lo",
            f"route add {services} via 10.0.{index}.1",
            f"route add {endpoints} via 10.0.{index}.1",
        ]
    )
    servers.configure(
        [
            f"address add 10.0.{index}.2/31 dev node{index}",
            f"link set node{index} up",
            f"route add 10.244.{index}.0/24 via 10.0.{index}.3",
        ]
    )


def _sources(index: int, way: Way) -> list[str]:
    """The addresses of the clients: where somebody is moored, no more than there are moorings."""
    return [f"10.244.{index}.{n}" for n in range(1, min(SOURCES, way.moorings or SOURCES) + 1)]


def _endpoint_network(index: int) -> str:
    return f"198.18.{4 * index}.0/22"


def _service(index: int) -> str:
    return f"10.96.{index}.1"


def _program(index: int, way: Way, node: Namespace, directory: Path) -> list[str]:
    """Give the node what carries its connections; where its clients are to connect to."""
    service, port, endpoints = _service(index), states.PORT, endpoints_of(index, way.endpoints)
    targets = [f"{each}:{port}" for each in endpoints]
    match way.kind:
        case "untracked":
            return targets
        case "direct":
            node.run("nft", "-f", "-", input=_TRACKED)
            return targets
        case "rule":
            node.run("nft", "-f", "-", input=_RULE.format(service=service, port=port, endpoint=targets[0]))
        case "moorage" | "mooring":
            asyncio.run(_sync(node, _state(way, service, endpoints, _sources(index, way))))
        case "kube-proxy":
            rules = kubeproxy.rules(service, port, targets, f"10.244.{index}.0/24").splitlines(keepends=True)
            for start in range(0, len(rules), _LINES):
                node.run("nft", "-f", "-", input="".join(rules[start : start + _LINES]))
        case "haproxy":
            node.configure([f"address add {service}/32 dev lo"])
            path = directory / "haproxy.cfg"
            path.write_text(haproxy.config(service, port, targets))
            # Returns once it listens; the process that stays ends with this PID namespace.
            node.run("haproxy", "-D", "-f", str(path))
    return [f"{service}:{port}"]


def _state(way: Way, service: str, endpoints: list[str], clients: list[str]) -> NodeState:
    """What the node carries. Each of `clients` is moored, if anybody is."""
    state = states.state(way.services - 1, len(endpoints))
    measured = states.service_port(service, endpoints)
    if way.moorings:
        measured = msgspec.structs.replace(measured, affinity=Moored(states.AFFINITY_SECONDS, holds=True))
        state |= states.moorings(measured, clients, way.moorings)
    return state | {measured.key: measured}


async def _sync(node: Namespace, state: NodeState) -> None:
    nft = KernelNft(node.prefix, partial(netlink_inside, node.prefix))
    await Synchronizer(nft, FakeConntrack(), await probe(nft)).sync(state, state.keys())


def _start(stack: ExitStack, argv: list[str]) -> "subprocess.Popen[str]":
    program = stack.enter_context(subprocess.Popen(argv, stdout=subprocess.PIPE, text=True))
    stack.callback(program.kill)
    return program


def measure(options: Options, ways: Sequence[Way]) -> list[list[Round]]:
    """For each way its rounds, which took turns. Raises BenchError if connections could not be made at all."""
    rounds: list[list[Round]] = [[] for _ in ways]
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        clients, servers, nodes = stack.enter_context(network(ways, Path(name)))
        listen = ["--listen", f"0.0.0.0:{states.PORT}"]
        server = _start(stack, [*servers.prefix, str(BUILD / "server"), *listen])
        assert server.stdout is not None
        if "listening" not in server.stdout.readline():
            raise BenchError("the server does not start")
        for number in range(-1, options.rounds):
            for turn in range(len(nodes)):
                # Every round begins with another way: none always follows the same one.
                index = (turn + max(number, 0)) % len(nodes)
                seconds = options.seconds if number >= 0 else 1  # The first is for warming up.
                done = one_round(clients, server.pid, nodes[index], seconds)
                _progress(number, options.rounds, nodes[index].way, done)
                if number >= 0:
                    rounds[index].append(done)
    return rounds


def one_round(clients: Namespace, server: int, node: Node, seconds: int) -> Round:
    argv = [*clients.prefix, str(BUILD / "client"), "--sources", str(node.sources), "--seconds", str(seconds)]
    argv += ["--concurrency", str(CONCURRENCY)]
    for each in node.destinations:
        argv += ["--connect", each]
    before, began = _clocks(server), time.monotonic()
    said = msgspec.json.decode(output(argv, seconds=seconds + 30), type=ClientReport)
    took = time.monotonic() - began
    client, served, busy, all_ = (b - a for a, b in zip(before, _clocks(server), strict=True))
    if not said.connections:
        raise BenchError(f"{node.way.name}: no connection was made: {said.first_error or 'none failed either'}")
    return Round(
        per_second=said.connections / said.seconds,
        failed=said.failed,
        p50_us=said.p50_us,
        p99_us=said.p99_us,
        client_cores=client / took,
        server_cores=served / took,
        machine_share=busy / all_,
        error=said.first_error,
    )


def _clocks(server: int) -> tuple[float, float, float, float]:
    """Seconds so far: of children that have ended, of the server, of all processors busy, and in all."""
    tick = os.sysconf("SC_CLK_TCK")
    children = os.times()
    fields = Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()
    times = [int(each) for each in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    idle = times[3] + times[4]
    served = int(fields[11]) + int(fields[12])
    return (
        children.children_user + children.children_system,
        served / tick,
        (sum(times) - idle) / tick,
        sum(times) / tick,
    )


def _progress(number: int, rounds: int, way: Way, done: Round) -> None:
    print(f"round {number + 1} of {rounds}: {way.name}: {done.per_second:,.0f}/s", file=sys.stderr, flush=True)


def main() -> None:
    options = msgspec.json.decode(sys.argv[1], type=Options)
    ways = [
        way._replace(services=min(way.services, options.services), moorings=min(way.moorings, options.moorings))
        for way in WAYS
    ]
    try:
        rounds = measure(options, ways)
    except BenchError as error:
        sys.exit(f"moorage bench: {error}")
    sys.stdout.write(msgspec.json.encode(list(zip(ways, rounds, strict=True))).decode())


if __name__ == "__main__":
    main()
