"""The whole operator against a real API server: how fast, how large, and whether it is quiet when nothing happens.

One network namespace holds etcd, kube-apiserver, the operator and the endpoints, whose addresses are local there. The
steps, with one operator process:

0. *bare*: the same writes by a client that does nothing else, to see what of the time is the API server's.
1. *cold*: all ExternalServices are there, and nothing of theirs is; the operator is started.
2. *steady*: nothing changes.
3. *moved*: the load balancer's address changes in the cluster that a source follows.
4. *refused*, *silent*: endpoints die, by a closed port and by packets that are dropped.

What is measured is what a watch of the API sees. Run by `python -m bench`, as root; prints JSON.
"""

import asyncio
import base64
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from bench import bare, objects
from bench.namespaces import BenchError, output
from bench.running import Operator, cpu_of, create, install, listen, run, say, scrapes, until_quiet, writes
from bench.scrape import Histogram
from bench.watching import Seen
from e2e.harness.control_plane import ApiServer, api_server
from e2e.harness.world import Process
from moorage.api.core_v1 import Secret, Service
from moorage.api.meta import ObjectMeta
from moorage.cluster import kubeconfig
from moorage.cluster.client import Client

COLD_SECONDS = 300
SOURCE_USER = "source"
_ACCESS = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: {objects.NAMESPACE}}}
---
apiVersion: v1
kind: Namespace
metadata: {{name: {objects.SOURCE_NAMESPACE}}}
---
apiVersion: v1
kind: Namespace
metadata: {{name: {objects.BARE_NAMESPACE}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: source, namespace: {objects.SOURCE_NAMESPACE}}}
rules:
- {{apiGroups: [""], resources: [services], verbs: [get, list, watch]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: source, namespace: {objects.SOURCE_NAMESPACE}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: source}}
subjects:
- {{apiGroup: rbac.authorization.k8s.io, kind: User, name: {SOURCE_USER}}}
"""
_say = partial(say, "operator")


class Options(msgspec.Struct):
    services: int
    endpoints: int
    seconds: int
    """Of the steady state."""
    deaths: int
    """Endpoints that die, each way."""
    moves: int


class Result(msgspec.Struct):
    """Times in seconds."""

    bare: float
    """By a client that only writes."""
    cold: float
    """From the start of the process until a watch has seen every endpoint ready and every status say so."""
    quiet: float
    """The same, until the last write: Events are written one after the other, in their own time."""
    cold_cpu: float
    """Of a processor, by the operator."""
    cold_server_cpu: float
    """The same, by kube-apiserver and etcd."""
    cold_writes: float
    """But for Events."""
    checks: float
    """In the steady state."""
    lateness: Histogram
    """Of these checks."""
    core: float
    """Share of a processor, by the operator, in the steady state."""
    writes: float
    """In the steady state, as the API server counts them; but for the Lease."""
    moved: list[float]
    refused: list[float]
    silent: list[float]
    peak_kib: int


class Bench:
    def __init__(self, api: ApiServer, client: Client, options: Options) -> None:
        self._api = api
        self._client = client
        self._options = options
        self._seen = Seen(client, objects.NAMESPACE)

    async def measure(self) -> Result:
        options = self._options
        await asyncio.to_thread(install, self._api, _ACCESS)
        server = listen(self._api, objects.PORT)
        closing = listen(self._api, objects.CLOSING_PORT)
        size = options.services, options.endpoints, options.deaths
        _say("bare")
        bare_seconds = await bare.seconds(
            self._client, objects.BARE_NAMESPACE, objects.external_services(objects.BARE_NAMESPACE, *size)
        )
        await bare.each(list(objects.external_services(objects.NAMESPACE, *size)), partial(create, self._client))
        async with self._seen.watching():
            _say("cold")
            operator = Operator(self._api)
            try:
                return await self._steps(bare_seconds, operator, closing)
            except BenchError as error:
                raise BenchError(f"{error}\nThe operator's last words:\n{operator.last_words()}") from None
            finally:
                server.stop()

    async def _steps(self, bare_seconds: float, operator: Operator, closing: Process) -> Result:
        options, seen = self._options, self._seen

        def all_ready() -> bool:
            every = options.services * options.endpoints
            return len(seen.settled) == options.services and sum(map(len, seen.ready.values())) == every

        servers = [each for each in self._api.world.processes if each.name.startswith(self._api.name)]
        server_cpu = cpu_of(servers)
        cold = await seen.until("every endpoint ready", all_ready, COLD_SECONDS) - operator.started
        cold_cpu, cold_server_cpu = operator.cpu(), cpu_of(servers) - server_cpu
        quiet = await until_quiet(self._api) - operator.started
        cold_writes = (await asyncio.to_thread(operator.scrape)).total("moorage_writes_total", result="ok")
        _say("steady")
        before, server_before = await scrapes(self._api, operator)
        cpu, began = operator.cpu(), time.monotonic()
        await asyncio.sleep(options.seconds)
        cpu, took = operator.cpu() - cpu, time.monotonic() - began
        after, server_after = await scrapes(self._api, operator)
        lateness = "moorage_probe_lateness_seconds"
        _say("moved")
        moved = await self._move()
        _say("refused")
        refused = await self._die(lambda: closing.send(signal.SIGKILL), range(options.deaths))
        _say("silent")
        silent = await self._die(self._drop, range(options.deaths, 2 * options.deaths))
        return Result(
            bare=bare_seconds,
            cold=cold,
            quiet=quiet,
            cold_cpu=cold_cpu,
            cold_server_cpu=cold_server_cpu,
            cold_writes=cold_writes,
            checks=after.total("moorage_probes_total") - before.total("moorage_probes_total"),
            lateness=after.histogram(lateness).since(before.histogram(lateness)),
            core=cpu / took,
            writes=writes(server_after) - writes(server_before),
            moved=moved,
            refused=refused,
            silent=silent,
            peak_kib=operator.peak_kib(),
        )

    # --- steps ------------------------------------------------------------------------------------------------

    async def _move(self) -> list[float]:
        """From the answer to the change in one cluster to the slice in the other, each."""
        await self._client.create(objects.load_balancer())
        await self._client.create(self._kubeconfig_secret())
        await self._place(objects.moved(0))
        await self._client.create(objects.follower())
        took = []
        for number in range(self._options.moves + 1):
            where = objects.moved(number)
            began = time.monotonic() if number == 0 else await self._place(where)
            ready = ("follower", where)
            await self._seen.until(f"{ready} ready", lambda ready=ready: ready in self._seen.came, 60)  # type: ignore[misc]
            took.append(self._seen.came[ready] - began)
        return took[1:]

    async def _place(self, where: str) -> float:
        body = {"status": msgspec.to_builtins(objects.balanced_at(where))}
        began = time.monotonic()
        await self._client.patch(Service, objects.SOURCE_NAMESPACE, "balanced", body, subresource="status")
        return began

    async def _die(self, kill: Callable[[], None], numbers: Sequence[int]) -> list[float]:
        """From the death of the first endpoint of each of these services to the slice that says so."""
        dead = [(objects.name(n), objects.address(n, 0, self._options.endpoints)) for n in numbers]
        began = time.monotonic()
        await asyncio.to_thread(kill)
        await self._seen.until("every dead endpoint not ready", lambda: self._seen.went.keys() >= set(dead), 60)
        return [self._seen.went[each] - began for each in dead]

    def _drop(self) -> None:
        """What is sent to the first endpoints of the second lot of services is lost."""
        options = self._options
        lot = range(options.deaths, 2 * options.deaths)
        addresses = ", ".join(objects.address(number, 0, options.endpoints) for number in lot)
        script = [
            "add table inet bench",
            "add chain inet bench input { type filter hook input priority 0; }",
            f"add rule inet bench input ip daddr {{ {addresses} }} drop",
        ]
        output(["nft", "-f", "-"], input="\n".join(script) + "\n")

    # --- around them ------------------------------------------------------------------------------------------

    def _kubeconfig_secret(self) -> Secret:
        keys = self._api.credentials
        ca = base64.b64encode(keys.ca.encode()).decode()
        text = msgspec.yaml.encode(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "source",
                "contexts": [{"name": "source", "context": {"cluster": "source", "user": "source"}}],
                "clusters": [
                    {"name": "source", "cluster": {"server": self._api.server, "certificate-authority-data": ca}}
                ],
                "users": [{"name": "source", "user": {"token": keys.tokens[SOURCE_USER]}}],
            }
        )
        ref = objects.KUBECONFIG
        return Secret(
            metadata=ObjectMeta(name=ref.name, namespace=objects.NAMESPACE),
            data={ref.key: base64.b64encode(text).decode()},
        )


async def _measure(options: Options) -> Result:
    output(["ip", "-batch", "-"], input=f"link set lo up\nroute add local {objects.RANGE} dev lo\n")
    with api_server(users={SOURCE_USER: []}) as api:
        async with Client(kubeconfig.load(api.kubeconfig)) as client:
            return await Bench(api, client, options).measure()


if __name__ == "__main__":
    run(_measure, Options)
