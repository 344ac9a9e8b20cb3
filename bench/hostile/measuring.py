"""One operator, an honest tenant, and one kind of hostile neighbour after the other, against a real API server.

One network namespace holds etcd, kube-apiserver, the operator, the honest endpoints and the neighbours' servers. They
share the processors, and in real life do not: so the honest endpoints, which see what is late, come first (nice(1)),
then the operator with its children, then all others, and the neighbours' servers last. What the operator's processes
take from each other is measured.

For each kind:

1. The operator is started, and brings the honest tenant's endpoints into their slices.
2. The neighbour begins. From then on everything is measured.
3. At half of the time some honest endpoints die.
4. The neighbour ends, its objects are deleted, and the operator is stopped.

Run by `python -m bench`, as root; prints JSON.
"""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path

import msgspec

from bench.hostile import certificates, figures, kinds, objects
from bench.namespaces import BenchError, output
from bench.running import Operator, install, run, say
from bench.scrape import Histogram, Scrape
from bench.watching import Seen
from e2e.harness.control_plane import ApiServer, api_server, free_port
from e2e.harness.errors import HarnessError
from e2e.harness.world import Process, wait
from moorage.api.coordination_v1 import Lease
from moorage.api.core_v1 import Secret, Service
from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.kinds import kind_of
from moorage.api.meta import Object
from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.cluster import kubeconfig
from moorage.cluster.client import Client
from moorage.cluster.election import TIMINGS
from moorage.cluster.paths import collection_path
from moorage.cluster.reflector import Reflector
from moorage.cluster.store import Change

READY_SECONDS = 120
"""Longest that the honest tenant's endpoints take to be ready: another operator's Lease may have to expire first."""
SETTLE_SECONDS = 3
"""From then until the neighbour begins: checks spread over their interval, Events get written."""
AFTER_SECONDS = 15
"""How long after the neighbour has begun to die a dead endpoint is waited for, and the metrics are asked for."""
SAMPLE_SECONDS = 0.25
ROOT = Path(__file__).parents[2]
"""Where `bench` is imported from."""
MAX_ADDRESS_SPACE_BYTES = 8 * 2**30
"""Bytes of address space of each of the operator's processes: a fault costs the measurement, not the machine."""
_NAMESPACES = "\n---\n".join(
    f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {each}}}" for each in (objects.HONEST, objects.HOSTILE)
)


class Options(msgspec.Struct):
    seconds: int
    """That each kind goes on for."""
    kinds: list[str]
    """Their names; none: all."""


class Measured(msgspec.Struct):
    """What one kind led to. Times in seconds."""

    kind: str
    what: str
    missed: int
    """Renewals of the Lease."""
    lag: Histogram | None
    """Of the leading process's event loop. None: it did not tell."""
    late: list[float]
    """At most, of all of the honest tenant's checks: median, 99th percentile, longest."""
    checks: int
    died: list[float | None]
    """From an endpoint's death to the slice that says so; None: never."""
    peak_kib: int
    """At most, of all of the operator's processes together."""
    cores: float
    """Processors that they took."""
    ended: bool
    """The operator's process ended by itself."""


class Renewals:
    """When the Lease was renewed, by the wall clock."""

    def __init__(self, client: Client) -> None:
        self.times: list[float] = []
        self.reflector = Reflector(client, Lease, "default", on_change=self._told)

    def _told(self, change: Change[Lease]) -> None:
        lease = change.new
        if lease is not None and lease.spec.renew_time and lease.spec.holder_identity:
            self.times.append(datetime.fromisoformat(lease.spec.renew_time).timestamp())


class Endpoints:
    """The honest tenant's."""

    def __init__(self, api: ApiServer, server: certificates.Server) -> None:
        self._port = free_port()
        argv = _python("honest", server.chain, server.key, self._port)
        self.process = _start(api, "honest", [*_nice(-15), *argv])

    async def do(self, command: str) -> dict[str, list[float]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=2**26)
        writer.write(command.encode() + b"\n")
        answer = msgspec.json.decode(await reader.readline(), type=dict[str, list[float]] | None)
        writer.close()
        return answer or {}


class Bench:
    def __init__(self, api: ApiServer, client: Client, options: Options, material: kinds.Material) -> None:
        self._api, self._client, self._options, self._material = api, client, options, material
        self._seen = Seen(client, objects.HONEST)
        self._renewals = Renewals(client)
        self._endpoints = Endpoints(api, material.plain)

    async def measure(self) -> list[Measured]:
        await asyncio.to_thread(self._prepare)
        for made in objects.honest(self._material.plain.ca):
            await self._client.create(made)
        lease = asyncio.create_task(self._renewals.reflector.run())
        chosen = [each for each in kinds.KINDS if not self._options.kinds or each.name in self._options.kinds]
        try:
            async with self._seen.watching():
                return [await self._one(kind) for kind in chosen]
        finally:
            lease.cancel()

    def _prepare(self) -> None:
        install(self._api, _NAMESPACES)
        resolv_conf = self._api.world.directory / "resolv.conf"
        resolv_conf.write_text(f"nameserver {kinds.NAME_SERVER}\n")
        self._api.world.execute("mount", "--bind", resolv_conf, "/etc/resolv.conf")

    # --- one kind ---------------------------------------------------------------------------------------------

    async def _one(self, kind: kinds.Kind) -> Measured:
        say("hostile", kind.name)
        operator = Operator(
            self._api,
            port=self._material.metrics[1],
            before=["prlimit", f"--as={MAX_ADDRESS_SPACE_BYTES}", *_nice(-10)],
        )
        try:
            await self._until_ready(operator)
            await asyncio.sleep(SETTLE_SECONDS)
            return await self._measured(kind, operator)
        finally:
            await asyncio.to_thread(operator.stop)
            await self._endpoints.do("open")

    async def _until_ready(self, operator: Operator) -> None:
        """Until this operator has checked everything, and every honest endpoint is ready."""
        await self._endpoints.do("read")
        deadline, checked = time.monotonic() + READY_SECONDS, set[str]()
        while len(checked) < objects.endpoints() or sum(map(len, self._seen.ready.values())) < objects.endpoints():
            if time.monotonic() > deadline:
                ready = sum(map(len, self._seen.ready.values()))
                raise BenchError(
                    f"not within {READY_SECONDS} s: {objects.endpoints()} honest endpoints ready ({ready} are, "
                    f"{len(checked)} were checked); the operator's last words:\n{operator.last_words()}"
                )
            await asyncio.sleep(0.2)
            honest = {f"{address}:{port}" for address, port in objects.checked(dying=True)}
            checked |= honest & (await self._endpoints.do("read")).keys()

    async def _measured(self, kind: kinds.Kind, operator: Operator) -> Measured:
        before = await asyncio.to_thread(operator.scrape)
        cpu = operator.cpu()
        await self._endpoints.do("read")
        self._seen.went.clear()
        began, began_wall = time.monotonic(), time.time()
        peaks: list[int] = []
        sampling = asyncio.create_task(_sample(operator, peaks))
        async with self._hostile(kind):
            await asyncio.sleep(self._options.seconds / 2)
            await self._endpoints.do("close")
            closed = time.monotonic()
            await asyncio.sleep(began + self._options.seconds - time.monotonic())
            arrivals = await self._endpoints.do("read")
            ended, ended_wall = time.monotonic(), time.time()
            cores = (operator.cpu() - cpu) / (ended - began) if operator.running else 0.0
            renewals = self._renewals.times
            died = await self._died(closed)
            await self._tell()
        after = await self._scrape(operator)
        late = [
            each
            for address, port in objects.checked(dying=False)
            for each in figures.lateness(
                began, arrivals.get(f"{address}:{port}", []), ended, objects.INTERVAL_SECONDS
            )
        ]
        last = max((index for index, when in enumerate(renewals) if when <= began_wall), default=0)
        within = [when for when in renewals[last:] if when <= ended_wall]
        name = "moorage_loop_lag_seconds"
        sampling.cancel()
        return Measured(
            kind=kind.name,
            what=kind.what,
            missed=figures.missed(within, ended_wall, TIMINGS.retry),
            lag=after.histogram(name).since(before.histogram(name)) if after else None,
            late=[figures.quantile(late, share) for share in (0.5, 0.99, 1.0)],
            checks=sum(map(len, arrivals.values())),
            died=died,
            peak_kib=max(peaks, default=0),
            cores=cores,
            ended=not operator.running,
        )

    async def _died(self, closed: float) -> list[float | None]:
        """Seconds until each endpoint that died was out of its slice."""
        dead = [(objects.honest_name(each), objects.honest_address(each, 0)) for each in range(objects.DYING)]
        with suppress(BenchError):
            await self._seen.until("the dead out", lambda: self._seen.went.keys() >= set(dead), AFTER_SECONDS)
        return [self._seen.went[each] - closed if each in self._seen.went else None for each in dead]

    async def _tell(self) -> None:
        """Say what the operator makes of the neighbour: one that it never met would cost nothing."""
        found = (await self._client.list(ExternalService, objects.HOSTILE)).items
        wrong = [each for xsvc in found for each in xsvc.status.conditions or () if each.status == "False"]
        for reason, count in Counter(each.reason for each in wrong).items():
            message = next(each.message for each in wrong if each.reason == reason)
            say("hostile", f"  {count} of {len(found)}: {reason}: {message[:200]}")

    @asynccontextmanager
    async def _hostile(self, kind: kinds.Kind) -> AsyncIterator[None]:
        """Have such a neighbour until the end of the block."""
        program, acting = None, None
        try:
            if kind.program is not None:
                name, *arguments = kind.program(self._material)
                argv = [*_nice(19), *_python(str(name), *arguments)]
                program = await asyncio.to_thread(_start, self._api, str(name), argv)
            for made in kind.made(self._material):
                await self._client.create(made)
            if kind.act is not None:
                acting = asyncio.create_task(kind.act(self._client, self._material))
            yield
        finally:
            if acting is not None:
                acting.cancel()
                await asyncio.gather(acting, return_exceptions=True)
            if program is not None:
                await asyncio.to_thread(program.stop)
            await self._clear()

    async def _clear(self) -> None:
        every: tuple[type[Object], ...] = (ExternalService, Service, EndpointSlice, Secret)
        for each in every:
            await self._client.raw("DELETE", collection_path(kind_of(each), objects.HOSTILE))

    async def _scrape(self, operator: Operator) -> Scrape | None:
        deadline = time.monotonic() + AFTER_SECONDS
        while operator.running:
            try:
                return await asyncio.to_thread(operator.scrape)
            except BenchError:
                if time.monotonic() > deadline:
                    break
                await asyncio.sleep(1)
        return None


async def _sample(operator: Operator, peaks: list[int]) -> None:
    """Follow what the operator's processes take until cancelled."""
    while True:
        with suppress(HarnessError):
            peaks.append(operator.peak_kib())
        await asyncio.sleep(SAMPLE_SECONDS)


def _nice(number: int) -> list[str]:
    """Words before a command that is to have this priority: less is more.

    Where the kernel groups processes by session (sched(7), autogroup), that of the group is what counts.
    """
    group = f"{{ echo {number} >/proc/self/autogroup; }} 2>/dev/null"
    return ["sh", "-c", f'{group}; exec nice -n {number} "$@"', "nice"]


def _python(program: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", f"bench.hostile.servers.{program}", *map(str, arguments)]


def _start(api: ApiServer, name: str, argv: Sequence[str]) -> Process:
    process = api.world.start(name, argv, PYTHONPATH=str(ROOT))
    size = process.log.stat().st_size
    wait(f"{name}", lambda: "listening" in process.log.read_text()[size:], 20, process)
    return process


async def _measure(options: Options) -> list[Measured]:
    output(["ip", "-batch", "-"], input="link set lo up\nroute add local 198.18.0.0/15 dev lo\n")
    with api_server() as api:
        directory = api.world.directory
        material = kinds.Material(
            plain=certificates.honest(directory),
            dear=certificates.dear(directory),
            metrics=("127.0.0.1", free_port()),
            bundles=kinds.bundles(),
        )
        async with Client(kubeconfig.load(api.kubeconfig)) as client:
            return await Bench(api, client, options, material).measure()


if __name__ == "__main__":
    run(_measure, Options)
