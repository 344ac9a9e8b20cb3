"""A real API server, the operator beside it, and what both have done."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from bench import BUILD, objects, tree
from bench.namespaces import BenchError
from bench.scrape import Scrape, scrape
from e2e.harness.control_plane import ApiServer, free_port
from e2e.harness.errors import HarnessError
from e2e.harness.world import Process, wait
from moorage.api.meta import Object
from moorage.cluster.client import Client
from moorage.cluster.errors import ApiError
from moorage.errors import MoorageError

SETTLED_SECONDS = 5
"""How long without a write until a step counts as settled."""
MAX_SETTLING_SECONDS = 600
"""How long to wait for that."""
MAX_ATTEMPTS = 5
"""To create an object."""
AGAIN_SECONDS = 2
_WRITTEN = "services|endpointslices|externalservices|moorings|events"
_WRITING = "POST|PUT|PATCH|APPLY|DELETE"


T = TypeVar("T")


def run(measure: Callable[[T], Coroutine[Any, Any, object]], options: type[T]) -> None:
    """Measure with the options of the command line, and print what that returns, both in JSON.

    Ends this process with a line if it cannot be measured.
    """
    try:
        measured = asyncio.run(measure(msgspec.json.decode(sys.argv[1], type=options)))
    except (BenchError, HarnessError, MoorageError) as error:
        sys.exit(f"moorage bench: {error}")
    sys.stdout.write(msgspec.json.encode(measured).decode())


def say(part: str, step: str) -> None:
    """Tell whoever waits what is being done."""
    print(f"{part}: {step}", file=sys.stderr, flush=True)


async def create(client: Client, made: Object) -> None:
    """Create an object that a measurement needs, as `until_there` does."""
    await until_there(lambda: client.create(made))


async def until_there(request: Callable[[], Awaitable[object]]) -> None:
    """Create an object by this request; again, if a server that is busy lets it fail.

    etcd may time out while thousands of objects are made, and then it is not known whether this one is there.
    """
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            await request()
            return
        except MoorageError as error:
            is_there = isinstance(error, ApiError) and error.reason == "AlreadyExists"
            if is_there and attempt > 1:
                return
            if is_there or attempt == MAX_ATTEMPTS:
                raise
            say("server", f"{error}; it is asked again")
            await asyncio.sleep(AGAIN_SECONDS)


class Operator:
    """`moorage operator`, with the processes that it has."""

    def __init__(self, api: ApiServer, *, port: int | None = None, before: Sequence[str] = ()) -> None:
        """`port` for the metrics, of 127.0.0.1; `before`: words before the command."""
        directory = api.world.directory
        config = directory / "operator.yaml"
        config.write_text(f"admission: {{allow: [{objects.RANGE}, 127.0.0.0/8]}}\n")
        listen = f"127.0.0.1:{port or free_port()}"
        self._metrics = f"http://{listen}/metrics"
        argv = [sys.executable, "-m", "moorage", "operator", "--namespace", "default", "--listen", listen]
        files: list[str | Path] = ["--kubeconfig", api.kubeconfig, "--config", config]
        self.started = time.monotonic()
        self._process: Process = api.world.start("operator", [*before, *argv, *files])

    @property
    def running(self) -> bool:
        return self._process.running

    def stop(self) -> None:
        self._process.stop()

    def scrape(self) -> Scrape:
        try:
            return scrape(self._metrics)
        except OSError as error:
            raise BenchError(f"the operator: {error}; its last words:\n{self._process.last_words()}") from None

    def cpu(self) -> float:
        return tree.cpu(self._process.pid)

    def peak_kib(self) -> int:
        return tree.peak_kib(self._process.pid)

    def last_words(self) -> str:
        return self._process.last_words()


def install(api: ApiServer, manifests: str) -> None:
    """Have Moorage's definitions, and these objects, in YAML."""
    crds = subprocess.run([sys.executable, "-m", "moorage", "crds"], capture_output=True, text=True, check=True)
    api.apply(crds.stdout + "\n---\n" + manifests)
    api.until_definitions_are_served()


def listen(api: ApiServer, port: int) -> Process:
    """Endpoints on every address, at this port."""
    argv = [str(BUILD / "server"), "--listen", f"0.0.0.0:{port}"]
    process = api.world.start(f"listener-{port}", argv)
    wait(f"port {port}", lambda: "listening" in process.log.read_text(), 10, process)
    return process


async def scrapes(api: ApiServer, operator: Operator) -> tuple[Scrape, Scrape]:
    """The metrics of the operator and of the API server."""
    return await asyncio.to_thread(operator.scrape), await asyncio.to_thread(_scrape, api)


def _scrape(api: ApiServer) -> Scrape:
    return scrape(f"{api.server}/metrics", api.token, api.credentials.ca)


def writes(server: Scrape, resource: str = _WRITTEN, verb: str = _WRITING) -> float:
    """As the API server counts them; but for the Lease."""
    return server.total("apiserver_request_total", verb=verb, resource=resource)


async def until_quiet(api: ApiServer) -> float:
    """When the last write was, to a few seconds. Raises BenchError."""
    deadline = time.monotonic() + MAX_SETTLING_SECONDS
    before, count = time.monotonic(), -1.0
    while (now := writes(await asyncio.to_thread(_scrape, api))) != count:
        if time.monotonic() > deadline:
            raise BenchError(f"the operator still writes after {MAX_SETTLING_SECONDS} s")
        before, count = time.monotonic(), now
        await asyncio.sleep(SETTLED_SECONDS)
    return before


def cpu_of(processes: Sequence[Process]) -> float:
    """Seconds of a processor until now."""
    return sum(tree.cpu(each.pid) for each in processes)
