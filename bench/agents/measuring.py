"""One node agent, then a thousand, at a real API server: what a change costs there, and what an agent costs at rest.

One network namespace holds etcd, kube-apiserver and a real agent, which programs that namespace's kernel. The others
are simulated, in this process: each has the watches of an agent. With the real agent alone, and then with the others
beside it:

1. *rest*: nothing changes.
2. *slices*: an endpoint of a Service fails, and is back. All agents have each change before the next one is made.
3. *moorings*: the same with a client that moves. Its namespace has a pod on each node, so all agents are told.

Run by `python -m bench`, as root; prints JSON.
"""

import asyncio
import resource
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from bench import objects, tree
from bench.agents import simulated, things
from bench.bare import each
from bench.namespaces import BenchError, output
from bench.running import cpu_of, create, install, run, say
from e2e.harness.control_plane import ApiServer, api_server, free_port
from e2e.harness.world import Process
from moorage.api.core_v1 import Pod
from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.meta import Object, ObjectKey
from moorage.api.moorings_v1alpha1 import Mooring
from moorage.cluster import kubeconfig
from moorage.cluster.client import Client
from moorage.node.world import World

STEP_SECONDS = 120
"""How long one change may take until all have it, and the real agent until it is ready."""
PAUSE_SECONDS = 0.2
"""Between two changes: the real agent would deal with both at once."""
SETTLED_SECONDS = 2.0
"""How long to wait for what goes on after all have it."""
_NAMESPACE = f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {objects.NAMESPACE}}}\n"
_say = partial(say, "agents")


class Options(msgspec.Struct):
    agents: int
    """Simulated ones."""
    services: int
    seconds: int
    """Of rest."""
    changes: int
    """Of each kind."""


class Change(msgspec.Struct):
    """Of one kind; medians and means of all."""

    server_cpu: float
    """Seconds of a processor, by kube-apiserver and etcd, for each, the request and all watches together."""
    agent_cpu: float
    """The same, by the real agent."""
    told: list[float]
    """From the answer to each request until the last simulated agent had it."""


class Measured(msgspec.Struct):
    """With some number of agents."""

    server_core: float
    """Share of a processor at rest, by kube-apiserver and etcd."""
    server_kib: int
    """The most memory so far, by both."""
    agent_core: float
    """Share of a processor at rest, by the real agent."""
    agent_kib: int
    slices: Change
    moorings: Change


class Result(msgspec.Struct):
    alone: Measured
    """The real agent, and nobody else."""
    together: Measured


class Bench:
    """One API server, and a real agent."""

    def __init__(self, api: ApiServer, client: Client, options: Options) -> None:
        self._api, self._client, self._options = api, client, options
        self._agent: Process | None = None
        self._changed = 0

    async def measure(self) -> Result:
        options, client = self._options, self._client
        _say("objects")
        await asyncio.to_thread(install, self._api, _NAMESPACE)
        count = options.agents + 1
        made: list[Object] = [*things.nodes(count), *things.pods(count), *things.services(options.services)]
        await each(made, partial(create, client))
        await each([*things.slices(options.services), *things.moorings(count)], partial(create, client))
        await each(range(count), self._address)
        _say("agent")
        self._agent = await self._start()
        alone = await self._steps(())
        _say("simulated")
        async with simulated.reading(client, range(1, count)) as worlds:
            return Result(alone, await self._steps(worlds))

    async def _address(self, number: int) -> None:
        body = things.addressed(number)
        await self._client.patch(Pod, objects.NAMESPACE, things.pod(number), body, subresource="status")

    async def _start(self) -> Process:
        listen = f"127.0.0.1:{free_port()}"
        argv = [sys.executable, "-m", "moorage", "node", "--node", things.node(0), "--listen", listen]
        files: list[str | Path] = ["--kubeconfig", self._api.kubeconfig]
        process = self._api.world.start("agent", [*argv, *files])
        deadline = time.monotonic() + STEP_SECONDS
        while not await asyncio.to_thread(_is_ready, f"http://{listen}/readyz"):
            if time.monotonic() > deadline or not process.running:
                raise BenchError(f"the agent is not ready; its last words:\n{process.last_words()}")
            await asyncio.sleep(0.1)
        return process

    async def _steps(self, worlds: Sequence[World]) -> Measured:
        assert self._agent is not None
        servers = self._servers()
        await asyncio.sleep(SETTLED_SECONDS)
        _say("rest")
        began, server, agent = time.monotonic(), cpu_of(servers), cpu_of([self._agent])
        await asyncio.sleep(self._options.seconds)
        took = time.monotonic() - began
        server, agent = (cpu_of(servers) - server) / took, (cpu_of([self._agent]) - agent) / took
        _say("slices")
        slices = await self._changes(worlds, self._change_slice, server, agent)
        _say("moorings")
        moorings = await self._changes(worlds, self._move, server, agent)
        return Measured(
            server_core=server,
            server_kib=sum(tree.peak_kib(one.pid) for one in servers),
            agent_core=agent,
            agent_kib=tree.peak_kib(self._agent.pid),
            slices=slices,
            moorings=moorings,
        )

    def _servers(self) -> list[Process]:
        return [one for one in self._api.world.processes if one.name.startswith(self._api.name)]

    async def _changes(
        self, worlds: Sequence[World], change: "_Changing", server_core: float, agent_core: float
    ) -> Change:
        """What it takes is counted without what goes on at rest."""
        assert self._agent is not None
        servers, told = self._servers(), []
        began, server, agent = time.monotonic(), cpu_of(servers), cpu_of([self._agent])
        for _ in range(self._options.changes):
            self._changed += 1
            what, holds = await change(self._changed)
            answered = time.monotonic()
            told.append(max(0.0, await simulated.until(worlds, what, holds, STEP_SECONDS) - answered))
            await asyncio.sleep(PAUSE_SECONDS)
        await asyncio.sleep(SETTLED_SECONDS)
        took, count = time.monotonic() - began, self._options.changes
        return Change(
            server_cpu=max(0.0, cpu_of(servers) - server - server_core * took) / count,
            agent_cpu=max(0.0, cpu_of([self._agent]) - agent - agent_core * took) / count,
            told=told,
        )

    async def _change_slice(self, number: int) -> "_Told":
        name = things.group(number % self._options.services)
        endpoints = things.endpoints(number % self._options.services, ready=number // self._options.services % 2 == 1)
        body = {"endpoints": msgspec.to_builtins(endpoints)}
        written = await self._client.patch(EndpointSlice, objects.NAMESPACE, name, body)
        version = written.metadata.resource_version or ""
        return "the slice", simulated.has_slice(ObjectKey(objects.NAMESPACE, name), version)

    async def _move(self, number: int) -> "_Told":
        """The pod of the real agent, so that it has something to do."""
        body = things.moved(things.endpoint(number % things.ENDPOINTS))
        written = await self._client.patch(Mooring, objects.NAMESPACE, things.mooring(0), body)
        return "the Mooring", simulated.has_mooring(0, written.metadata.resource_version or "")


_Told = tuple[str, Callable[[World], bool]]
"""What was changed, and whether an agent has it."""
_Changing = Callable[[int], Awaitable[_Told]]


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.HTTPError):
        return False


async def _measure(options: Options) -> Result:
    output(["ip", "-batch", "-"], input="link set lo up\n")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with api_server() as api:
        async with Client(kubeconfig.load(api.kubeconfig)) as client:
            return await Bench(api, client, options).measure()


if __name__ == "__main__":
    run(_measure, Options)
