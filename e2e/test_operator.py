"""The operator on real clusters: endpoints follow what is, clients go on, and nothing breaks while parts are down."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.harness import slices as harness
from e2e.harness.clusters import Clusters
from e2e.harness.install import Installation, commands
from e2e.harness.played import PlayedClusters
from testing.stalls import Stalls

STEPS = ("The operator, in cluster B", "The other cluster, A", "The demo, in cluster B")
TAKEOVER_SECONDS = 20
"""Seconds within which another replica leads after the leader was killed: the lease's 15, and an attempt."""
LOOK_SECONDS = 0.5
"""Seconds that measuring takes: kubectl and curl are started for each look."""

Published = dict[str, tuple[str, bool]]
"""Name of an endpoint -> its address, and whether it is ready."""


class Slices(harness.Slices[tuple[str, bool]]):
    """Those of Service frontend/backend."""

    def __init__(self, clusters: Clusters) -> None:
        super().__init__(clusters.b, "frontend", "backend", self._read)

    @staticmethod
    def _read(endpoint: Any) -> tuple[str, bool]:
        return endpoint["addresses"][0], endpoint["conditions"]["ready"]


@pytest.fixture(scope="module")
def installed(clusters: Clusters, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clusters]:
    """The operator in B, the demo on both, both backends healthy."""
    installation = Installation(clusters, tmp_path_factory.mktemp("operator"))
    steps = commands()
    try:
        for step in STEPS:
            installation.run(*steps[step])
        # A backend that gets no processor for two checks is not what is tested here.
        change({"healthCheck": {"fall": 5}}, clusters)
        yield clusters
    finally:
        installation.remove()


@pytest.fixture
def slices(installed: Clusters) -> Iterator[Slices]:
    with Slices(installed) as watched:
        watched.until(
            "both ready", lambda state: sorted(state) == ["backend1-lb", "backend2-lb"] and ready(state) == 2
        )
        yield watched


@pytest.fixture
def url(installed: Clusters) -> str:
    """The frontend's."""
    return f"http://{installed.b.load_balancer('frontend', 'frontend-lb')}"


def ready(state: Published) -> int:
    return sum(is_ready for _, is_ready in state.values())


def condition(clusters: Clusters, type: str) -> dict[str, str]:
    found = clusters.b.get("-n", "frontend", "xsvc", "backend")["status"]["conditions"]
    return next(each for each in found if each["type"] == type)


def answers(clusters: Clusters, address: str) -> bool:
    try:
        return bool(clusters.curl(f"http://{address}", seconds=1))
    except Exception:
        return False


def test_a_backend_that_dies_is_taken_out_within_the_bound_and_taken_in_again(
    installed: Clusters, slices: Slices, stalls: Stalls
) -> None:
    check = installed.b.get("-n", "frontend", "xsvc", "backend")["spec"]["healthCheck"]
    bound = check["intervalSeconds"] * check["fall"] + check["timeoutSeconds"]
    address, _ = slices.now["backend1-lb"]
    installed.a.kubectl("-n", "backend", "scale", "deployment/backend1", "--replicas=0")
    started = last = time.monotonic()
    while slices.now["backend1-lb"] == (address, True) and time.monotonic() - started < 60:
        # One that fails may also have been too slow: it dies after all that succeed.
        if answers(installed, address):
            last = time.monotonic()
    gone = slices.until(
        "not ready", lambda state: state["backend1-lb"] == (address, False), bound + 30, last - LOOK_SECONDS
    )
    print(f"backend1 not ready {gone - last:.2f} s after its last answer; bound {bound} s")
    assert gone - last <= bound + LOOK_SECONDS + stalls.since(last)
    assert slices.now["backend2-lb"][1]
    installed.a.kubectl("-n", "backend", "scale", "deployment/backend1", "--replicas=1")
    slices.until("ready again", lambda state: ready(state) == 2, since=gone)


def test_an_address_that_changes_in_a_is_followed_in_b_within_a_second(
    played: PlayedClusters, installed: Clusters, slices: Slices, stalls: Stalls
) -> None:
    before = slices.now["backend2-lb"][0]
    started = time.monotonic()
    new = played.a.cloud.change_address("backend", "backend2-lb")
    patched = time.monotonic()
    assert new != before
    at = slices.until("the new address", lambda state: state["backend2-lb"][0] == new, since=started)
    print(f"in B {max(0.0, at - patched):.2f} s after kubectl had written it in A")
    assert at - patched <= 1 + LOOK_SECONDS + stalls.since(patched)
    slices.until("it is checked and ready", lambda state: state["backend2-lb"] == (new, True))


def test_a_backend_that_is_added_or_removed_is_followed(installed: Clusters, slices: Slices) -> None:
    service = installed.a.get("-n", "backend", "service", "backend2-lb")
    third = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "backend3-lb", "namespace": "backend", "labels": {"app": "backend"}},
        "spec": {
            "type": "LoadBalancer",
            "selector": service["spec"]["selector"],
            "ports": [{"port": 80, "targetPort": 9000}],
        },
    }
    installed.a.apply(json.dumps(third))
    slices.until("a third", lambda state: "backend3-lb" in state and ready(state) == 3)
    removed = time.monotonic()
    installed.a.kubectl("-n", "backend", "delete", "service", "backend3-lb")
    slices.until("two", lambda state: sorted(state) == ["backend1-lb", "backend2-lb"], since=removed)


def test_the_service_keeps_its_address_through_changes(installed: Clusters, slices: Slices) -> None:
    def service() -> Any:
        return installed.b.get("-n", "frontend", "service", "backend")

    before = service()
    change({"sessionAffinity": "None", "ports": [{"name": "http", "port": 9001, "targetPort": 80}]}, installed)
    installed.b.eventually("the new port", lambda: [each["port"] for each in service()["spec"]["ports"]] == [9001])
    change({"sessionAffinity": "ClientIP", "ports": [{"port": 9000, "targetPort": 80}]}, installed)
    installed.b.eventually("the old port", lambda: [each["port"] for each in service()["spec"]["ports"]] == [9000])
    after = service()
    assert after["spec"]["clusterIP"] == before["spec"]["clusterIP"]
    assert after["metadata"]["uid"] == before["metadata"]["uid"]


def change(spec: dict[str, Any], clusters: Clusters) -> None:
    patch = json.dumps({"spec": spec})
    clusters.b.kubectl("-n", "frontend", "patch", "xsvc", "backend", "--type=merge", "-p", patch)


def test_one_that_is_suspended_is_left_as_it_is(installed: Clusters, slices: Slices) -> None:
    change({"suspend": True}, installed)
    installed.b.eventually("it says so", lambda: condition(installed, "Ready")["reason"] == "Suspended")
    states = len(slices.states)
    installed.a.kubectl("-n", "backend", "scale", "deployment/backend1", "--replicas=0")
    try:
        address, _ = slices.now["backend1-lb"]
        installed.b.eventually("it is gone", lambda: not answers(installed, address))
        assert len(slices.states) == states
        change({"suspend": False}, installed)
        slices.until("not ready", lambda state: not state["backend1-lb"][1])
    finally:
        installed.a.kubectl("-n", "backend", "scale", "deployment/backend1", "--replicas=1")
    slices.until("ready again", lambda state: ready(state) == 2, since=time.monotonic())


def test_a_service_that_somebody_made_is_not_taken_over(installed: Clusters) -> None:
    service = {"name": "mine", "namespace": "frontend"}
    mine = {"apiVersion": "v1", "kind": "Service", "metadata": service, "spec": {"ports": [{"port": 80}]}}
    installed.b.apply(json.dumps(mine))
    before = installed.b.get("-n", "frontend", "service", "mine")
    wanted = {"ports": [{"port": 80}], "endpoints": [{"addresses": [{"address": "203.0.113.200"}]}]}
    xsvc = {"apiVersion": "moorage.dev/v1alpha1", "kind": "ExternalService", "metadata": service, "spec": wanted}
    installed.b.apply(json.dumps(xsvc))
    installed.b.kubectl(
        *("-n", "frontend", "wait", "xsvc/mine", "--timeout=30s"),
        "--for=jsonpath={.status.conditions[?(@.type=='Ready')].reason}=NameTaken",
    )
    assert installed.b.get("-n", "frontend", "service", "mine") == before
    installed.b.kubectl("-n", "frontend", "delete", "xsvc/mine", "service/mine")


def leader(clusters: Clusters) -> str:
    """The name of the pod that leads, empty where none does."""
    lease = ("-n", "moorage-system", "get", "lease", "moorage-operator")
    return clusters.b.kubectl(*lease, "-o", "jsonpath={.spec.holderIdentity}").rpartition("_")[0]


def test_without_an_operator_clients_go_on(installed: Clusters, slices: Slices, url: str) -> None:
    states = len(slices.states)
    scale = ("-n", "moorage-system", "scale", "deployment/moorage-operator")
    installed.b.kubectl(*scale, "--replicas=0")
    try:
        installed.b.kubectl(*("-n", "moorage-system", "wait", "--for=delete", "pods"), "--all", "--timeout=60s")
        assert all("backend[" in installed.curl(url) for _ in range(10))
        assert len(slices.states) == states
    finally:
        installed.b.kubectl(*scale, "--replicas=2")
        installed.b.wait_for_deployment("moorage-system", "moorage-operator")
    # After an end that could not give the Lease back, it names one that is gone.
    pods = installed.b.kubectl("-n", "moorage-system", "get", "pods", "-o", "jsonpath={.items[*].metadata.name}")
    installed.b.eventually("one of them leads", lambda: leader(installed) in pods.split())
    assert len(slices.states) == states, "a new leader begins from what the status says"


def test_when_the_leader_is_killed_the_other_replica_goes_on(
    installed: Clusters, slices: Slices, stalls: Stalls
) -> None:
    pod = leader(installed)
    started = time.monotonic()
    installed.b.kubectl("-n", "moorage-system", "delete", "pod", pod, "--grace-period=0", "--force")
    installed.b.eventually("another leads", lambda: leader(installed) not in ("", pod))
    taken_over = time.monotonic() - started
    print(f"another leads {taken_over:.1f} s after the leader was deleted")
    assert taken_over <= TAKEOVER_SECONDS + stalls.since(started)
    states = len(slices.states)
    installed.a.kubectl("-n", "backend", "scale", "deployment/backend1", "--replicas=0")
    try:
        slices.until("it follows", lambda state: not state["backend1-lb"][1])
        assert len(slices.states) > states
    finally:
        installed.a.kubectl("-n", "backend", "scale", "deployment/backend1", "--replicas=1")
    slices.until("ready again", lambda state: ready(state) == 2, since=time.monotonic())


def test_while_the_other_cluster_cannot_be_reached_the_last_endpoints_stay(
    played: PlayedClusters, installed: Clusters, slices: Slices, url: str
) -> None:
    before = slices.now
    played.a.api.stop()
    try:
        installed.b.eventually("it is said", lambda: condition(installed, "Resolved")["status"] == "False")
        said = condition(installed, "Resolved")
        print(said["reason"], said["message"])
        assert "stay in use" in said["message"]
        assert "since 20" in said["message"]
        assert slices.now == before
        assert "backend[" in installed.curl(url)
    finally:
        played.a.api.start()
    installed.b.eventually("it is over", lambda: condition(installed, "Resolved")["status"] == "True")
    assert slices.now == before


def test_while_no_backend_can_be_reached_none_is_taken_out_and_none_when_they_can_again(
    played: PlayedClusters, installed: Clusters, slices: Slices
) -> None:
    started = time.monotonic()
    played.a.cut()
    try:
        installed.b.eventually("both fail", lambda: condition(installed, "Healthy")["message"].startswith("0 of 2"))
        assert condition(installed, "Healthy")["reason"] == "Panic"
    finally:
        played.a.mend()
    installed.b.eventually("both pass", lambda: condition(installed, "Healthy")["reason"] == "AllHealthy")
    assert {ready(state) for at, state in slices.states if at > started} <= {2}


def test_while_its_own_api_server_is_down_clients_go_on_and_it_recovers(
    played: PlayedClusters, installed: Clusters, slices: Slices, url: str
) -> None:
    before = slices.now
    played.b.api.stop()
    try:
        assert all("backend[" in installed.curl(url) for _ in range(10))
    finally:
        played.b.api.start()
    played.b.wait_for_deployment("moorage-system", "moorage-operator")
    new = played.a.cloud.change_address("backend", "backend1-lb")
    with Slices(installed) as watched:
        watched.until("the new address", lambda state: state["backend1-lb"] == (new, True))
        assert watched.now["backend2-lb"] == before["backend2-lb"]
