"""Whatever the API server does, the end state is right, and nothing was emptied meanwhile.

The operator is a process of its own; all that it says to the real API server goes through a proxy that makes faults.
"""

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from e2e.harness.control_plane import ApiServer
from e2e.harness.operator import Operator
from e2e.harness.proxy import Proxy
from moorage.api.discovery_v1 import SERVICE_NAME_LABEL, EndpointSlice
from moorage.api.meta import ObjectKey
from moorage.cluster import kubeconfig
from moorage.cluster.client import Client
from moorage.cluster.reflector import Reflector

NAMES = ("one", "two", "three")
SOON_SECONDS = 40
"""Seconds within which the operator has done what is to be done, once the fault is over."""


class Observer:
    """Watches the slices of a namespace past the proxy, and remembers the fewest ready endpoints of each Service."""

    def __init__(self, api: ApiServer, namespace: str) -> None:
        self._config = kubeconfig.load(api.kubeconfig)
        self._namespace = namespace
        self._fewest: dict[str, int] = {}
        self._now: dict[str, tuple[str, ...]] = {}
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)

    def __enter__(self) -> "Observer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop)
        self._thread.join()

    def endpoints(self, service: str) -> tuple[str, ...]:
        """The addresses of its ready endpoints now, in order."""
        return self._now.get(service, ())

    def all(self) -> dict[str, tuple[str, ...]]:
        """The addresses of the ready endpoints of each Service."""
        return dict(self._now)

    def arm(self) -> None:
        """Forget what was before: from now on it counts."""
        self._fewest = {name: len(addresses) for name, addresses in self._now.items()}

    @property
    def fewest(self) -> dict[str, int]:
        """Of each Service, since `arm`."""
        return dict(self._fewest)

    def _run(self) -> None:
        self._task = self._loop.create_task(self._watch())
        self._loop.run_until_complete(asyncio.gather(self._task, return_exceptions=True))
        self._loop.close()

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _watch(self) -> None:
        async with Client(self._config) as client:
            reflector = Reflector(
                client, EndpointSlice, self._namespace, on_change=lambda change: self._look(reflector.store)
            )
            await reflector.run()

    def _look(self, store: Mapping[ObjectKey, EndpointSlice]) -> None:
        ready: dict[str, list[str]] = {name: [] for name in self._now}
        for slice_ in store.values():
            service = (slice_.metadata.labels or {}).get(SERVICE_NAME_LABEL, "")
            found = ready.setdefault(service, [])
            for endpoint in slice_.endpoints or []:
                if endpoint.conditions and endpoint.conditions.ready:
                    found += endpoint.addresses
        self._now = {name: tuple(sorted(addresses)) for name, addresses in ready.items()}
        for name, addresses in self._now.items():
            self._fewest[name] = min(len(addresses), self._fewest.get(name, len(addresses)))


class Scene:
    """A namespace with ExternalServices that an operator behind a proxy has brought about."""

    def __init__(self, api: ApiServer, proxy: Proxy, namespace: str, observer: Observer) -> None:
        self.api, self.proxy, self.namespace, self.observer = api, proxy, namespace, observer
        self.wanted: dict[str, tuple[str, ...]] = {}
        self._services: dict[str, tuple[str, str]] = {}

    def arm(self) -> None:
        """From now on nothing may be emptied or made anew."""
        self._services = self.services()
        self.observer.arm()

    def services(self) -> dict[str, tuple[str, str]]:
        """uid and ClusterIP of each Service."""
        items = self.api.get("-n", self.namespace, "services")["items"]
        return {one["metadata"]["name"]: (one["metadata"]["uid"], one["spec"]["clusterIP"]) for one in items}

    def want(self, name: str, *addresses: str) -> None:
        """Apply an ExternalService with these addresses."""
        listed = ", ".join(f"{{address: {address}}}" for address in addresses)
        self.api.apply(
            f"""
            apiVersion: moorage.dev/v1alpha1
            kind: ExternalService
            metadata: {{name: {name}, namespace: {self.namespace}}}
            spec:
              ports: [{{port: 80}}]
              endpoints: [{{addresses: [{listed}]}}]
            """
        )
        self.wanted[name] = tuple(sorted(addresses))

    def change_all(self, last: int) -> None:
        """Add an address to each, that ends with `last`, and take away the one that was last added."""
        for number, name in enumerate(NAMES):
            self.want(name, f"198.51.100.{number + 1}", f"198.51.100.{number + 11}", f"198.51.100.{last + number}")

    def settled(self) -> bool:
        return all(self.observer.endpoints(name) == addresses for name, addresses in self.wanted.items())

    def ends_well(self, seconds: float = SOON_SECONDS) -> None:
        """Asserts that what is wanted is there in time, and that no Service ever had fewer than three endpoints."""
        started = time.monotonic()
        while not self.settled():
            assert time.monotonic() - started < seconds, f"{self.observer.all()}; wanted {self.wanted}"
            time.sleep(0.05)
        assert all(fewest >= 3 for fewest in self.observer.fewest.values()), self.observer.fewest
        assert self.services() == self._services

    def news_are_told(self) -> bool:
        """Whether each has the Event that comes last when it is made: that it is ready."""
        events = self.api.get("-n", self.namespace, "events", "--field-selector", "reason=Ready")["items"]
        return {one["involvedObject"]["name"] for one in events} == set(NAMES)

    def status_is_current(self) -> bool:
        items = self.api.get("-n", self.namespace, "xsvc")["items"]
        return all(one.get("status", {}).get("observedGeneration") == one["metadata"]["generation"] for one in items)


_numbers = iter(range(1, 1000))


@pytest.fixture
def scene(request: pytest.FixtureRequest, api: ApiServer, token: str, tmp_path: Path) -> Iterator[Scene]:
    """Its parameter: the seconds of silence after which the operator gives up a watch, in place of its own."""
    namespace = f"faults-{next(_numbers)}"
    api.kubectl("create", "namespace", namespace)
    with ExitStack() as stack:
        proxy = stack.enter_context(Proxy(api, tmp_path))
        observer = stack.enter_context(Observer(api, namespace))
        scene = Scene(api, proxy, namespace, observer)
        stack.callback(api.kubectl, "-n", namespace, "delete", "xsvc,services,endpointslices", "--all")
        process = Operator(api, proxy, token, "operator", tmp_path, idle=getattr(request, "param", None))
        stack.callback(process.process.stop)
        # A Lease that cannot be given back in time would have to be waited for by the next one.
        stack.callback(proxy.clear)
        scene.change_all(101)
        api.eventually("the operator has brought all about", lambda: scene.settled() and scene.status_is_current())
        scene.arm()
        yield scene


def test_with_no_change_nothing_is_written(scene: Scene) -> None:
    scene.api.eventually("the last Events are written", scene.news_are_told)
    since = time.monotonic()
    leases = len(scene.proxy.writes(but="/nothing/"))
    deadline = since + 60
    # Five renewals of the Lease: ten seconds in which it was awake.
    while len(scene.proxy.writes(but="/nothing/")) < leases + 5:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert scene.proxy.writes(since) == []
    lists = [one for one in scene.proxy.requests if one.at >= since and one.method == "GET" and not one.watches]
    assert [one.path for one in lists if one.path not in ("/version",)] == []


def test_a_change_costs_one_write_to_the_slice_and_one_to_the_status(scene: Scene) -> None:
    since = time.monotonic()
    scene.want("one", "198.51.100.1", "198.51.100.11", "198.51.100.77")
    scene.ends_well()
    scene.api.eventually("the status is current", scene.status_is_current)
    writes = [(one.method, one.path.split("/")[-2]) for one in scene.proxy.writes(since) if "/events" not in one.path]
    assert sorted(writes) == [("PATCH", "endpointslices"), ("PATCH", "one")]


def test_what_somebody_else_empties_is_mended_and_would_be_noticed_here(scene: Scene) -> None:
    [name] = [
        one["metadata"]["name"]
        for one in scene.api.get("-n", scene.namespace, "endpointslices")["items"]
        if one["metadata"]["labels"][SERVICE_NAME_LABEL] == "two"
    ]
    empty = ("--type=merge", '-p={"endpoints":[]}')
    scene.api.kubectl("-n", scene.namespace, "patch", "endpointslice", name, *empty)
    scene.api.eventually("it is mended", lambda: scene.observer.fewest["two"] == 0 and scene.settled())
    with pytest.raises(AssertionError, match="'two': 0"):
        scene.ends_well()


def test_the_api_server_is_restarted(scene: Scene) -> None:
    scene.api.restart()
    scene.change_all(111)
    scene.ends_well()


def test_the_api_server_is_away_for_longer_than_the_lease(scene: Scene) -> None:
    scene.proxy.stop()
    scene.change_all(111)
    time.sleep(20)  # the fault itself: the leader has given up after ten
    assert not scene.settled()
    scene.proxy.start()
    scene.ends_well(60)


def test_the_api_server_is_slow(scene: Scene) -> None:
    scene.proxy.slow(2)
    scene.change_all(111)
    scene.ends_well(60)


@pytest.mark.parametrize("code", [409, 429, 500, 503])
def test_writes_are_refused_for_a_while(scene: Scene, code: int) -> None:
    for method in ("PATCH", "POST"):
        scene.proxy.fail(code, method=method, path="/endpointslices|/externalservices", count=8)
    scene.change_all(111)
    scene.ends_well()
    assert sum(one.faulty for one in scene.proxy.requests) >= 8


@pytest.mark.parametrize("code", [0, 500])
def test_writes_are_done_but_the_answer_is_lost(scene: Scene, code: int) -> None:
    scene.proxy.fail(code, method="PATCH", path="/endpointslices", count=6, late=True)
    scene.change_all(111)
    scene.ends_well()
    scene.change_all(121)
    scene.ends_well()
    scene.api.eventually("the status is current", scene.status_is_current)


@pytest.mark.parametrize("code", [410, 429, 500])
def test_lists_are_refused_for_a_while_after_the_watches_ended(scene: Scene, code: int) -> None:
    scene.proxy.fail(code, method="GET", path="(endpointslices|externalservices|services|pods|nodes)[?]", count=20)
    assert scene.proxy.expire() >= 5
    scene.change_all(111)
    scene.ends_well(90)


def test_connections_break_again_and_again(scene: Scene) -> None:
    for last in (111, 121, 131):
        scene.proxy.cut()
        scene.change_all(last)
        scene.proxy.cut()
    scene.ends_well()


def test_answers_are_errors_again_and_again(scene: Scene) -> None:
    for number in range(12):
        scene.proxy.fail(500, count=2)
        scene.change_all(131 + number)
    scene.ends_well(90)


@pytest.mark.parametrize("scene", [10.0], indirect=True, ids=["given-up-after-10-seconds"])
def test_watches_go_silent(scene: Scene) -> None:
    assert scene.proxy.silence() >= 5
    scene.change_all(111)
    assert not scene.settled()
    scene.ends_well(10 + SOON_SECONDS)
