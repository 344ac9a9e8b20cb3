"""One leader at a time among real processes: killed, stopped, frozen and thawed.

Each is behind a proxy of its own, which sees what it writes.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from e2e.harness.control_plane import ApiServer
from e2e.harness.proxy import Proxy, Request
from e2e.harness.world import Process

TAKEN_OVER = 20
"""Seconds within which another leads after the leader has vanished: the lease's 15, and an attempt."""
HANDED_OVER = 5
"""Seconds within which another leads after the leader has stopped."""
SLICE = "/endpointslices/shared"


class Candidate:
    """A process that writes while it leads (`e2e.harness.candidate`)."""

    def __init__(self, api: ApiServer, proxy: Proxy, namespace: str, name: str) -> None:
        self.name, self.proxy = name, proxy
        argv: list[str | Path] = [sys.executable, "-m", "e2e.harness.candidate", proxy.kubeconfig, namespace, name]
        self.process: Process = api.world.start(f"{namespace}-{name}", argv, PYTHONPATH=str(Path.cwd()))

    def freeze(self) -> None:
        self.process.send(signal.SIGSTOP)

    def thaw(self) -> None:
        # `nsenter`, which started it, has stopped with it; both have to go on.
        for pid in (self.process.pid, self.process.popen.pid):
            os.kill(pid, signal.SIGCONT)

    def end(self) -> None:
        """However it is."""
        if self.process.running:
            self.thaw()
        self.process.stop(signal.SIGKILL)

    def writes(self, since: float = 0.0) -> list[Request]:
        """Its writes to the slice since then."""
        return [one for one in self.proxy.writes(since) if SLICE in one.path]

    def looks(self, since: float) -> int:
        """How often it has read the Lease since then."""
        return sum("/leases/" in one.path and one.method == "GET" and one.at >= since for one in self.proxy.requests)

    def claims(self, since: float) -> list[Request]:
        """Its successful writes to the Lease since then."""
        return [one for one in self.proxy.writes(since, but="/endpointslices/") if one.status in (200, 201)]


class Field:
    """Two candidates and what the API server holds."""

    def __init__(self, api: ApiServer, namespace: str, candidates: list[Candidate]) -> None:
        self.api, self.namespace, self.candidates = api, namespace, candidates

    def holder(self) -> str:
        lease = self.api.get("-n", self.namespace, "lease", "candidates")
        return str(lease["spec"].get("holderIdentity", ""))

    def transitions(self) -> int:
        return int(self.api.get("-n", self.namespace, "lease", "candidates")["spec"]["leaseTransitions"])

    def leader(self) -> Candidate:
        """Who holds the Lease, once it writes."""

        def writes() -> bool:
            return any(one.name == self.holder() and one.writes() for one in self.candidates)

        self.api.eventually("a candidate leads", writes, TAKEN_OVER + 10)
        return next(one for one in self.candidates if one.name == self.holder())

    def other(self, than: Candidate) -> Candidate:
        return next(one for one in self.candidates if one is not than)


@pytest.fixture
def field(api_server: ApiServer, namespace: str, tmp_path: Path) -> Iterator[Field]:
    shared = """
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata: {name: shared}
        addressType: IPv4
        endpoints: []
    """
    api_server.apply(shared, "-n", namespace)
    with ExitStack() as stack:
        candidates = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            proxy = stack.enter_context(Proxy(api_server, tmp_path / name))
            candidate = Candidate(api_server, proxy, namespace, name)
            stack.callback(candidate.end)
            candidates.append(candidate)
        yield Field(api_server, namespace, candidates)


def until(what: str, condition: Callable[[], object], seconds: float) -> float:
    """When the condition holds, how long that took; fails the test if it does not in time."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.02)
    return time.monotonic() - started


def test_when_the_leader_is_killed_another_takes_over(field: Field) -> None:
    leader = field.leader()
    other = field.other(leader)
    killed = time.monotonic()
    leader.process.stop(signal.SIGKILL)
    took = until("another writes", lambda: other.writes(killed), TAKEN_OVER)
    assert took > 10, "it cannot have waited for the lease"
    assert field.holder() == other.name
    assert field.transitions() == 1


def test_a_leader_that_stops_hands_over_at_once(field: Field) -> None:
    leader = field.leader()
    other = field.other(leader)
    stopped = time.monotonic()
    leader.process.stop(signal.SIGTERM)
    until("another writes", lambda: other.writes(stopped), HANDED_OVER)
    last = max(one.at for one in leader.writes())
    assert last < min(one.at for one in other.writes()), "its work had ended before"
    assert "stopped" in leader.process.last_words(1)


def test_a_leader_that_was_frozen_writes_nothing_more(field: Field) -> None:
    leader = field.leader()
    other = field.other(leader)
    leader.freeze()
    frozen = time.monotonic()
    until("another writes", lambda: other.writes(frozen), TAKEN_OVER)
    thawed = time.monotonic()
    leader.thaw()
    until("it is a candidate again, and not only once", lambda: leader.looks(thawed) >= 2, 15)
    assert [one for one in leader.writes(thawed) if one.status < 400] == []
    assert leader.claims(thawed) == []
    assert field.holder() == other.name
    assert other.writes(time.monotonic() - 2), "the other goes on"
    # Both are well: the one that was frozen is a candidate again.
    other.process.stop(signal.SIGTERM)
    until("it leads again", lambda: leader.writes(thawed), HANDED_OVER)


def test_a_write_that_was_under_way_when_the_leader_froze_is_refused(field: Field) -> None:
    leader = field.leader()
    other = field.other(leader)
    # It has left the leader, and arrives after another has taken over.
    leader.proxy.slow(TAKEN_OVER + 5, method="PATCH", path=SLICE, count=1)
    until("it is on its way", lambda: leader.proxy.held() == 1, 10)
    before = len(leader.writes())
    leader.freeze()
    frozen = time.monotonic()
    until("another writes", lambda: other.writes(frozen), TAKEN_OVER)
    until("the late write is answered", lambda: len(leader.writes()) > before, TAKEN_OVER)
    [late] = leader.writes()[before:]
    assert late.status == 409
    slice_ = field.api.get("-n", field.namespace, "endpointslice", "shared")
    assert slice_["metadata"]["labels"]["writer"] == other.name
