"""One leader at a time among real operators: killed, stopped, frozen and thawed.

Each is behind a proxy of its own, which sees what it writes.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from e2e.harness.control_plane import ApiServer
from e2e.harness.operator import NAMESPACE, Operator
from e2e.harness.proxy import Proxy, Request
from e2e.harness.world import wait
from testing.stalls import Stalls

TAKEOVER_SECONDS = 20
"""Seconds within which another leads after the leader has vanished: the lease's 15, and an attempt."""
HANDOVER_SECONDS = 5
"""Seconds within which another leads after the leader has stopped."""

BOUND_SECONDS = 30
"""Seconds for all that has no promise: the machine may be busy."""


class Field:
    """Two operators, and an ExternalService that gives them something to write."""

    def __init__(self, api: ApiServer, namespace: str, operators: list[Operator]) -> None:
        self.api, self.namespace, self.operators = api, namespace, operators
        self._address = 0

    def leader(self) -> Operator:
        """Who holds the Lease, once it has done its work."""
        self.change()
        self.api.eventually(
            "one leads", lambda: any(one.leads(self.api) for one in self.operators), TAKEOVER_SECONDS + 10
        )
        self.api.eventually("it has done what there was to do", self.done)
        return next(one for one in self.operators if one.leads(self.api))

    def other(self, than: Operator) -> Operator:
        return next(one for one in self.operators if one is not than)

    def change(self) -> None:
        """Give the ExternalService another address, which is something to write."""
        self._address += 1
        self.api.apply(
            f"""
            apiVersion: moorage.dev/v1alpha1
            kind: ExternalService
            metadata: {{name: backend, namespace: {self.namespace}}}
            spec:
              ports: [{{port: 80}}]
              endpoints: [{{addresses: [{{name: b1, address: 198.51.100.{self._address}}}]}}]
            """
        )

    def done(self) -> bool:
        """Whether the slice is as the ExternalService wants it."""
        slices = self.api.get("-n", self.namespace, "endpointslices")["items"]
        return [one["addresses"] for slice_ in slices for one in slice_["endpoints"]] == [
            [f"198.51.100.{self._address}"]
        ]

    def transitions(self) -> int:
        return int(self.api.get("-n", NAMESPACE, "lease", "moorage-operator")["spec"]["leaseTransitions"])


_numbers = iter(range(1, 1000))


@pytest.fixture
def field(api: ApiServer, token: str, tmp_path: Path) -> Iterator[Field]:
    namespace = f"election-{next(_numbers)}"
    api.kubectl("create", "namespace", namespace)
    with ExitStack() as stack:
        # At the end, when none runs any more: the next test need not wait for this one's Lease.
        stack.callback(api.kubectl, "delete", "lease", "moorage-operator", "-n", NAMESPACE, "--ignore-not-found")
        stack.callback(api.kubectl, "-n", namespace, "delete", "xsvc,services,endpointslices", "--all")
        operators = []
        for name in ("one", "two"):
            proxy = stack.enter_context(Proxy(api, tmp_path))
            process = Operator(api, proxy, token, name, tmp_path)
            stack.callback(process.kill)
            operators.append(process)
        yield Field(api, namespace, operators)


def claims(one: Operator, since: float) -> list[Request]:
    """Its successful writes to the Lease since then."""
    return [each for each in one.proxy.writes(since, but="") if "/leases" in each.path and each.status < 300]


def looks(one: Operator, since: float) -> int:
    """How often it has read the Lease since then."""
    return sum("/leases/" in each.path and each.method == "GET" and each.at >= since for each in one.proxy.requests)


def test_when_the_leader_is_killed_another_takes_over(field: Field, stalls: Stalls) -> None:
    leader = field.leader()
    other = field.other(leader)
    before = field.transitions()
    killed = time.monotonic()
    leader.process.stop(signal.SIGKILL)
    field.change()
    wait("another leads", lambda: claims(other, killed), TAKEOVER_SECONDS + BOUND_SECONDS)
    took = claims(other, killed)[0].at - killed
    assert took > 10, "it cannot have waited for the lease"
    assert took < TAKEOVER_SECONDS + stalls.since(killed)
    wait("it does what there is to do", field.done, BOUND_SECONDS)
    assert other.leads(field.api)
    assert field.transitions() == before + 1


def test_a_leader_that_stops_hands_over_at_once(field: Field, stalls: Stalls) -> None:
    leader = field.leader()
    other = field.other(leader)
    stopped = time.monotonic()
    leader.process.stop(signal.SIGTERM)
    assert leader.process.popen.returncode == 0
    field.change()
    wait("another leads", lambda: claims(other, stopped), BOUND_SECONDS)
    assert claims(other, stopped)[0].at - stopped < HANDOVER_SECONDS + stalls.since(stopped)
    wait("it does what there is to do", field.done, BOUND_SECONDS)
    assert max(each.at for each in claims(leader, 0)) < claims(other, stopped)[0].at


def test_a_leader_that_was_frozen_writes_nothing_more(field: Field, stalls: Stalls) -> None:
    leader = field.leader()
    other = field.other(leader)
    leader.freeze()
    field.change()
    wait("another does what there is to do", field.done, TAKEOVER_SECONDS + BOUND_SECONDS)
    # The other's work is also news to the one that slept, and so is this.
    field.change()
    thawed = time.monotonic()
    leader.thaw()
    wait("it is a candidate again, and not only once", lambda: looks(leader, thawed) >= 2, BOUND_SECONDS)
    wait("the other goes on", field.done, BOUND_SECONDS)
    assert [each for each in leader.proxy.writes(thawed) if each.status < 400] == []
    assert claims(leader, thawed) == []
    assert other.leads(field.api)
    stopped = time.monotonic()
    other.process.stop(signal.SIGTERM)
    wait("it leads again", lambda: claims(leader, thawed), BOUND_SECONDS)
    assert claims(leader, thawed)[0].at - stopped < HANDOVER_SECONDS + stalls.since(stopped)
    field.change()
    wait("it does what there is to do", field.done, BOUND_SECONDS)


def test_a_write_that_was_under_way_when_the_leader_froze_is_refused(field: Field) -> None:
    leader = field.leader()
    # It has left the leader, and arrives after another has taken over.
    leader.proxy.slow(TAKEOVER_SECONDS + 10, method="PATCH", path="/endpointslices/", count=1)
    field.change()
    wait("it is on its way", lambda: leader.proxy.held() == 1, BOUND_SECONDS)
    before = leader.proxy.writes()
    leader.freeze()
    wait("another does what there is to do", field.done, TAKEOVER_SECONDS + BOUND_SECONDS)
    field.change()
    wait("the other goes on", field.done, BOUND_SECONDS)
    wait(
        "the late write is answered",
        lambda: len(leader.proxy.writes()) > len(before),
        TAKEOVER_SECONDS + BOUND_SECONDS,
    )
    [late] = leader.proxy.writes()[len(before) :]
    assert (late.method, late.status) == ("PATCH", 409)
    assert field.done()
