"""The whole operator with thousands of moorings against a real API server.

One network namespace holds etcd, kube-apiserver, the operator and the endpoints, whose addresses are local there.
With clients that are pods, which exist and do not run, in two groups:

0. *bare*: the same Moorings by a client that does nothing else, to see what of the time is the API server's.
1. *cold*: pods and ExternalServices are there, and no Mooring; the operator is started.
2. *steady*: nothing changes.
3. *burst*: many pods are made at once.
4. *failed*: the endpoint with the most clients closes its port.

Then, with another operator, clients that are nodes, carried by hints:

5. *nodes*: as *cold* and *steady*.
6. *silent*: packets to an endpoint are dropped, to one after the other.

*bare*, pods and nodes have an API server each, so that nothing of the one is there for the next. What is measured is
what a watch of the API sees. Run by `python -m bench`, as root; prints JSON.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial

import msgspec

from bench import objects
from bench.bare import each
from bench.moorings import bare, clients
from bench.moorings.watching import Seen
from bench.namespaces import BenchError, output
from bench.running import Operator, cpu_of, create, install, listen, run, say, scrapes, until_quiet, writes
from bench.scrape import Scrape
from e2e.harness.control_plane import ApiServer, api_server
from e2e.harness.world import Process
from moorage.api.core_v1 import Pod
from moorage.api.meta import Object
from moorage.cluster import kubeconfig
from moorage.cluster.client import Client

COLD_SECONDS = 900
STEP_SECONDS = 120
"""How long one step may take."""
POLL_SECONDS = 0.02
"""How often the operator is asked whether it has noticed a failure."""
_NAMESPACE = f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {objects.NAMESPACE}}}\n"
_say = partial(say, "moorings")


class Options(msgspec.Struct):
    pods: int
    groups: int
    """That each pod is a client of."""
    burst: int
    """Pods that are made at once."""
    nodes: int
    seconds: int
    """Of each steady state."""
    deaths: int
    """Of endpoints of nodes."""


class OfPods(msgspec.Struct):
    """With clients that are pods. Times in seconds."""

    bare: float
    """All Moorings by a client that only writes."""
    cold: float
    """From the start of the process until a watch has seen every Mooring."""
    cold_cpu: float
    """Of a processor, by the operator."""
    cold_server_cpu: float
    """The same, by kube-apiserver and etcd."""
    deciding: float
    """Of the cold start, in all."""
    decisions: float
    conflicts: float
    """Writes of the cold start that met another state than they were decided from."""
    steady_writes: float
    """As the API server counts them; but for the Lease."""
    burst: list[float]
    """Of each pod, from the answer to its creation until a watch has seen all its Moorings."""
    lost: int
    """Clients of the endpoint that failed."""
    bare_failed: float
    """Their new Moorings by a client that only writes."""
    failed: float
    """From when the operator has noticed until a watch has seen the last of them."""
    failed_all: float
    """The same, from the endpoint's death."""
    failed_writes: float
    """Of Moorings, as the API server counts them."""
    peak_kib: int


class Death(msgspec.Struct):
    """Of an endpoint of nodes. Times in seconds."""

    seconds: float
    """Until the slices say so, and have the new hints."""
    writing: float
    """Of that, from the first to the last Mooring that changed."""


class OfNodes(msgspec.Struct):
    """With clients that are nodes. Times in seconds."""

    cold: float
    """From the start of the process until every node has its hint."""
    steady_writes: float
    deaths: list[Death]
    peak_kib: int


class Result(msgspec.Struct):
    of_pods: OfPods
    of_nodes: OfNodes


class Bench:
    """One API server, and what it takes to measure an operator there."""

    def __init__(self, api: ApiServer, client: Client, options: Options) -> None:
        self.api, self.client, self.options = api, client, options
        self.seen = Seen(client, objects.NAMESPACE)

    async def create(self, made: Object) -> None:
        await create(self.client, made)

    def servers(self) -> list[Process]:
        return [each for each in self.api.world.processes if each.name.startswith(self.api.name)]

    @contextmanager
    def operator(self) -> Iterator[Operator]:
        """A running one. What goes wrong has its last words."""
        operator = Operator(self.api)
        try:
            yield operator
        except BenchError as error:
            raise BenchError(f"{error}\nThe operator's last words:\n{operator.last_words()}") from None
        finally:
            operator.stop()

    async def steady(self, operator: Operator) -> float:
        """Writes while nothing changes."""
        await until_quiet(self.api)
        _, before = await scrapes(self.api, operator)
        await asyncio.sleep(self.options.seconds)
        _, after = await scrapes(self.api, operator)
        return writes(after) - writes(before)


# --- Pods ---------------------------------------------------------------------------------------------------------


async def _bare(bench: Bench) -> bare.Seconds:
    _say("bare")
    pods = list(clients.pods(objects.NAMESPACE, bench.options.pods))
    return await bare.seconds(bench.client, objects.NAMESPACE, pods, bench.options.groups)


async def _of_pods(bench: Bench, bare_seconds: bare.Seconds) -> OfPods:
    options, seen = bench.options, bench.seen
    closing = listen(bench.api, objects.CLOSING_PORT)
    _say("pods")
    await each(list(clients.pods(objects.NAMESPACE, options.pods)), bench.create)
    for number in range(options.groups):
        await bench.create(clients.of_pods(number))
    async with seen.watching():
        _say("cold")
        server_cpu = cpu_of(bench.servers())
        with bench.operator() as operator:
            count = options.pods * options.groups
            cold = await seen.until("every Mooring", lambda: len(seen.at) == count, COLD_SECONDS) - operator.started
            cold_cpu, cold_server_cpu = operator.cpu(), cpu_of(bench.servers()) - server_cpu
            done = await asyncio.to_thread(operator.scrape)
            _say("steady")
            steady_writes = await bench.steady(operator)
            _say("burst")
            burst = await _burst(bench)
            await until_quiet(bench.api)
            _say("failed")
            lost = seen.clients(clients.group(0), clients.endpoint(0))
            began, noticed, failed_writes = await _fail(bench, operator, closing)
            last = max(seen.went[key] for key in lost)
            return OfPods(
                bare=bare_seconds.all_made,
                cold=cold,
                cold_cpu=cold_cpu,
                cold_server_cpu=cold_server_cpu,
                deciding=done.total("moorage_group_decision_seconds_sum"),
                decisions=done.total("moorage_group_decision_seconds_count"),
                conflicts=done.total("moorage_writes_total", kind="Mooring", result="conflict"),
                steady_writes=steady_writes,
                burst=burst,
                lost=len(lost),
                bare_failed=bare_seconds.rewritten,
                failed=last - noticed,
                failed_all=last - began,
                failed_writes=failed_writes,
                peak_kib=operator.peak_kib(),
            )


async def _burst(bench: Bench) -> list[float]:
    """From the answer to the creation of each pod, all made at once, until it has all its Moorings."""
    options, seen = bench.options, bench.seen
    pods = list(clients.pods(objects.NAMESPACE, options.burst, "burst"))
    answered: dict[str, float] = {}

    async def make(pod: Pod) -> None:
        await bench.client.create(pod)
        answered[pod.metadata.name] = time.monotonic()

    await asyncio.gather(*map(make, pods))
    wanted = {name: clients.moorings_of(name, options.groups) for name in answered}
    every = {key for keys in wanted.values() for key in keys}
    await seen.until("Moorings of new pods", lambda: seen.came.keys() >= every, STEP_SECONDS)
    return [max(0.0, max(seen.came[key] for key in keys) - answered[name]) for name, keys in wanted.items()]


async def _fail(bench: Bench, operator: Operator, closing: Process) -> tuple[float, float, float]:
    """When the endpoint died, when the operator had noticed, and how often Moorings were written for it."""
    seen = bench.seen
    before, server_before = await scrapes(bench.api, operator)
    began = time.monotonic()
    noticing = asyncio.create_task(_noticed(operator, before))
    await asyncio.to_thread(closing.stop)
    gone = clients.group(0), clients.endpoint(0)
    await seen.until("every client elsewhere", lambda: not seen.clients(*gone), STEP_SECONDS)
    noticed = await noticing
    await until_quiet(bench.api)
    _, server_after = await scrapes(bench.api, operator)
    return began, noticed, writes(server_after, "moorings") - writes(server_before, "moorings")


async def _noticed(operator: Operator, before: Scrape) -> float:
    """When the operator has counted a verdict more that an endpoint is unhealthy."""
    deadline = time.monotonic() + STEP_SECONDS
    while time.monotonic() < deadline:
        asked = time.monotonic()
        now = await asyncio.to_thread(operator.scrape)
        if _unhealthy(now) > _unhealthy(before):
            return asked
        await asyncio.sleep(POLL_SECONDS)
    raise BenchError(f"not within {STEP_SECONDS} s: the operator notices that an endpoint has died")


def _unhealthy(scraped: Scrape) -> float:
    return scraped.total("moorage_verdict_changes_total", health="Unhealthy")


# --- Nodes --------------------------------------------------------------------------------------------------------


async def _of_nodes(bench: Bench) -> OfNodes:
    options, seen = bench.options, bench.seen
    nodes = list(clients.nodes(options.nodes))
    once = Counter(each.metadata.name for each in nodes)
    _say("nodes")
    await each(nodes, bench.create)
    await bench.create(clients.of_nodes(options.nodes // clients.NODES_OF_ONE))
    async with seen.watching():
        with bench.operator() as operator:
            cold = await seen.until("every node hinted", lambda: seen.named() == once, COLD_SECONDS)
            steady_writes = await bench.steady(operator)
            _say("silent")
            deaths = [await _silenced(bench, number, once) for number in range(options.deaths)]
            return OfNodes(cold - operator.started, steady_writes, deaths, operator.peak_kib())


async def _silenced(bench: Bench, number: int, once: Counter[str]) -> Death:
    """An endpoint dies, without a word."""
    options, seen = bench.options, bench.seen
    name = clients.endpoint(number)
    lost = seen.clients(clients.OF_NODES, name)
    script = "table inet bench {{ chain input {{ type filter hook input priority 0; ip daddr {} drop; }}; }}\n"
    address = objects.address(0, number, options.nodes // clients.NODES_OF_ONE)
    began = time.monotonic()
    await asyncio.to_thread(output, ["nft", "-f", "-"], input=script.format(address))
    ended = await seen.until(
        f"no node at {name}", lambda: name not in seen.hints() and seen.named() == once, STEP_SECONDS
    )
    times = [seen.went[key] for key in lost]
    await until_quiet(bench.api)
    return Death(ended - began, max(times) - min(times))


# --- Both ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _bench(options: Options) -> AsyncIterator[Bench]:
    with api_server() as api:
        async with Client(kubeconfig.load(api.kubeconfig)) as client:
            await asyncio.to_thread(install, api, _NAMESPACE)
            listen(api, objects.PORT)
            yield Bench(api, client, options)


async def _measure(options: Options) -> Result:
    output(["ip", "-batch", "-"], input=f"link set lo up\nroute add local {objects.RANGE} dev lo\n")
    async with _bench(options) as bench:
        bare_seconds = await _bare(bench)
    async with _bench(options) as bench:
        of_pods = await _of_pods(bench, bare_seconds)
    async with _bench(options) as bench:
        return Result(of_pods, await _of_nodes(bench))


if __name__ == "__main__":
    run(_measure, Options)
