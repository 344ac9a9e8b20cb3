"""Moorings of nodes, zones and namespaces, carried by Kubernetes' own kube-proxy in both of its modes."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from e2e.harness import moored
from e2e.harness.install import Installation, commands
from e2e.harness.moored import ALL, CHECK_SECONDS, MANY, NODES, OTHER_FIVE, Moored, led
from e2e.harness.outside import SERVERS, Servers, serving
from e2e.harness.played import PlayedClusters
from e2e.harness.slices import Slices
from e2e.harness.world import wait
from moorage.api.discovery_v1 import Endpoint
from moorage.api.topology import MAX_HINTS, ZONE_LABEL
from testing.kube_proxy import allowed
from testing.stalls import Stalls

THREE, (STALE,) = SERVERS[:3], SERVERS[3:]
NAMES = {each.name for each in THREE}
NAMESPACES = ("moored", "failing", "draining", "zones", "one", "many")
LOOK_SECONDS = 0.5
"""Seconds that measuring takes: kubectl tells of slices."""
DRAIN_SECONDS = 8
SPARE = [*(f"a-spare-{number:02}" for number in range(1, 15)), *(f"c-spare-{number}" for number in range(1, 4))]
"""17 nodes without kubelet. By name, 14 come before the cluster's own and 3 after them."""


@pytest.fixture(scope="module")
def installed(played: PlayedClusters, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlayedClusters]:
    """The operator in B."""
    installation = Installation(played, tmp_path_factory.mktemp("moorings"))
    try:
        installation.run(*commands()["The operator, in cluster B"])
        yield played
    finally:
        played.b.kubectl("delete", "namespace", *NAMESPACES, "--ignore-not-found", "--timeout=120s", seconds=150)
        installation.remove()


@pytest.fixture(scope="module")
def running(installed: PlayedClusters) -> Iterator[Servers]:
    with serving(installed.world) as servers:
        yield servers


@pytest.fixture
def servers(running: Servers) -> Servers:
    """All of them run."""
    running.start(*SERVERS)
    return running


@pytest.fixture(scope="module")
def backend(installed: PlayedClusters, running: Servers) -> Moored:
    """Three nodes at three endpoints, which are in a slice each."""
    running.start(*SERVERS)
    backend = Moored(installed, "moored")
    backend.make(THREE)
    return backend


@contextmanager
def followed(scene: Moored) -> Iterator[Slices[Endpoint]]:
    """The slices during a change: after each write a node uses what it used before, or what it uses at last."""
    with scene.slices() as slices:
        slices.until("all endpoints", lambda state: state.keys() == NAMES)
        yield slices
        whole = [state for _, state in slices.states if state.keys() == NAMES]
        first, last = ([list(whole[index].values())] for index in (0, -1))
        for state in whole:
            for node in NODES:
                assert led(state, node.name) <= allowed(first, last, node.name), (node, state)


def test_every_new_connection_goes_where_the_moorings_say(backend: Moored, servers: Servers) -> None:
    assert {node.proxy_mode for node in NODES} == {"iptables", "nftables"}
    where = backend.until_where(lambda found: len(found) == len(NODES))
    backend.until_moored(words="3 nodes are moored to 3 of 3 endpoints")
    assert set(where) == {node.name for node in NODES}
    assert set(where.values()) == NAMES
    backend.assert_led(where)


def test_without_hints_connections_go_elsewhere(backend: Moored, servers: Servers) -> None:
    """As with plain Kubernetes. It shows that the other tests can fail."""
    backend.make(THREE, "control", sessionAffinity="ClientIP")
    backend.assert_led(backend.where())
    for node in NODES:
        backend.until_answered(node, NAMES, "control")
    assert backend.strayed(backend.where(), name="control")


def test_a_mooring_that_is_edited_moves_new_connections_and_no_open_one(backend: Moored, servers: Servers) -> None:
    before = backend.where()
    one, other, third = (node.name for node in NODES)
    wanted = {one: before[other], other: before[one], third: before[third]}
    opened = backend.open(NODES[0])
    assert set(opened.more()) == {before[one]}
    with followed(backend) as slices:
        backend.move(wanted)
        slices.until("hints follow", lambda state: all(led(state, node) == {wanted[node]} for node in wanted))
    assert backend.where() == wanted
    assert {each["status"]["reason"] for each in backend.moorings().values()} == {"Assigned", "Moved"}
    backend.assert_led(wanted)
    assert set(opened.more()) == {before[one]}
    opened.close()


def test_a_stale_endpoints_object_switches_hints_off_and_the_condition_says_so(
    backend: Moored, servers: Servers
) -> None:
    where = backend.where()
    ports = [{"port": STALE.port}]
    stale = {"metadata": {"name": "backend"}, "subsets": [{"addresses": [{"ip": STALE.address}], "ports": ports}]}
    backend.apply({"apiVersion": "v1", "kind": "Endpoints", **stale})
    backend.until_moored("ForeignSlices", "False", "kube-proxy ignores all")
    # A client that connects too early would get a session where it is led.
    wait("kube-proxy knows the stale endpoint", lambda: backend.known(STALE), 60)
    # Whoever connected before stays where it is by its session.
    assert backend.strayed(where, sources=OTHER_FIVE)
    backend.kubectl("delete", "endpoints", "backend")
    backend.until_moored()
    backend.assert_led(where, sources=OTHER_FIVE)
    assert backend.where() == where


def test_an_endpoint_that_dies_moves_exactly_its_nodes_and_they_return(
    installed: PlayedClusters, servers: Servers, stalls: Stalls
) -> None:
    failing = Moored(installed, "failing")
    failing.make(THREE, **moored.mooring("Node", "Return"))
    before = failing.until_where(lambda found: len(found) == len(NODES))
    failing.assert_led(before)
    dying, victim = THREE[0], next(node for node in NODES if before[node.name] == THREE[0].name)
    opened = failing.open(victim)
    assert set(opened.more()) == {dying.name}
    with followed(failing) as slices:
        killed = time.monotonic()
        servers.kill(dying)
        gone = slices.until("not ready", lambda state: not state[dying.name].conditions.ready, since=killed)
        hinted = slices.until("new hints", lambda state: dying.name not in led(state, victim.name), since=killed)
        print(f"new hints {hinted - killed:.2f} s, not ready {gone - killed:.2f} s after the end; {CHECK_SECONDS} s")
        assert max(gone, hinted) - killed <= CHECK_SECONDS + LOOK_SECONDS + stalls.since(killed)
        after = failing.where()
        slices.until("hints follow", lambda state: all(led(state, node) == {after[node]} for node in after))
    assert {node for node in after if after[node] != before[node]} == {victim.name}
    record = failing.moorings()[victim.name]["status"]
    assert (record["reason"], record["previous"], record["home"]) == ("FailedOver", dying.name, dying.name)
    failing.assert_led(after)
    assert opened.ended
    servers.start(dying)
    failing.until_where(lambda found: found == before)
    assert failing.moorings()[victim.name]["status"]["reason"] == "Returned"
    failing.assert_led(before)


def test_a_drain_moves_its_nodes_by_its_deadline_and_no_open_connection(
    installed: PlayedClusters, servers: Servers, stalls: Stalls
) -> None:
    draining = Moored(installed, "draining")
    draining.make(THREE[:2])
    before = draining.until_where(lambda found: len(found) == len(NODES))
    # Two of the nodes at one endpoint, so that they can leave one after the other.
    (drained,) = (name for name in set(before.values()) if len(draining.at(name)) == 2)
    leaving = draining.at(drained)
    node = next(node for node in NODES if node.name in leaving)
    draining.assert_led(before)
    opened = draining.open(node)
    began = time.monotonic()
    deadline = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=DRAIN_SECONDS)
    draining.change({"drain": [{"endpoint": drained, "before": deadline.strftime("%Y-%m-%dT%H:%M:%SZ")}]})
    after = draining.until_where(lambda found: drained not in found.values())
    lost = stalls.since(began)
    (left_over,) = set(after.values())
    moorings = draining.moorings()
    records = [moorings[name]["status"] for name in sorted(leaving)]
    assert {each["reason"] for each in records} == {"Drained"}
    first, last = sorted(datetime.fromisoformat(each["since"]) for each in records)
    print(f"left {first} and {last}, to be empty by {deadline}")
    assert first < last, "spread over the time that there is"
    assert last <= deadline + timedelta(seconds=1 + lost)
    draining.assert_led(after)
    assert set(opened.more()) == {drained}
    draining.change({"drain": None})
    draining.until_moored()
    assert set(draining.where().values()) == {left_over}
    opened.close()


def test_zones_are_led_by_hints_too(installed: PlayedClusters, servers: Servers) -> None:
    zones = {NODES[0].name: "eu-1a", NODES[1].name: "eu-1a", NODES[2].name: "eu-1b"}
    for node, zone in zones.items():
        installed.b.kubectl("label", "node", node, f"{ZONE_LABEL}={zone}")
    try:
        scene = Moored(installed, "zones")
        scene.make(THREE[:2], **moored.mooring("Zone"))
        where = scene.until_where(lambda found: set(found) == {"eu-1a", "eu-1b"})
        assert len(set(where.values())) == 2
        scene.assert_led({node: where[zone] for node, zone in zones.items()})
        scene.move({"eu-1a": where["eu-1b"], "eu-1b": where["eu-1a"]})
        where = {"eu-1a": where["eu-1b"], "eu-1b": where["eu-1a"]}
        scene.assert_led({node: where[zone] for node, zone in zones.items()})
    finally:
        for node in zones:
            installed.b.kubectl("label", "node", node, f"{ZONE_LABEL}-")


def test_a_namespace_has_one_endpoint_and_keeps_it_after_a_failover(
    installed: PlayedClusters, servers: Servers
) -> None:
    scene = Moored(installed, "one")
    scene.make(THREE[:2], **moored.mooring("Namespace"))
    active = scene.until_where(lambda found: set(found) == {"one"})["one"]
    (standby,) = {each.name for each in THREE[:2]} - {active}
    scene.assert_led({node.name: active for node in NODES})
    (dying,) = (each for each in THREE if each.name == active)
    servers.kill(dying)
    scene.until_where(lambda found: found["one"] == standby)
    scene.assert_led({node.name: standby for node in NODES})
    servers.start(dying)
    scene.kubectl("wait", "--for=condition=Healthy", "--timeout=60s", "xsvc/backend")
    assert scene.where() == {"one": standby}
    scene.assert_led({node.name: standby for node in NODES})


def test_a_ninth_node_has_no_hint_and_holds_nothing_up(
    installed: PlayedClusters, servers: Servers, stalls: Stalls
) -> None:
    nodes = [{"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}} for name in SPARE]
    spec = {"unschedulable": True}
    installed.b.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": [{**n, "spec": spec} for n in nodes]}))
    try:
        scene = Moored(installed, "many")
        scene.make(THREE[:2], weights={THREE[0].name: 3})
        message = scene.until_moored("TooManyNodes", "False", "4 nodes have no endpoint of their own")
        assert message.startswith("spec.sessionAffinityConfig.mooring.client: 4 nodes")
        where = scene.where()
        assert len(where) == 2 * MAX_HINTS
        *moored_nodes, beyond = NODES
        assert beyond.name not in where
        scene.assert_led(where, nodes=moored_nodes)
        dying, left = THREE[:2]
        first = scene.until_answered(beyond, {dying.name, left.name})
        assert all(len(set(answers)) == 1 for answers in first.values()), first
        assert scene.ask(beyond, MANY, ALL) == first, "whom no hint leads is held by its session"
        with scene.slices() as slices:
            slices.until("all endpoints", lambda state: state.keys() == {dying.name, left.name})
            killed = time.monotonic()
            servers.kill(dying)
            gone = slices.until("not ready", lambda state: not state[dying.name].conditions.ready, since=killed)
            print(f"not ready {gone - killed:.2f} s after the end; bound {CHECK_SECONDS} s")
            assert gone - killed <= CHECK_SECONDS + LOOK_SECONDS + stalls.since(killed)
        scene.assert_led({node.name: left.name for node in NODES})
        scene.until_moored("TooManyNodes", "False", "12 nodes have no endpoint of their own")
    finally:
        installed.b.kubectl("delete", "node", *SPARE, "--wait=false")


def test_a_namespace_with_moorings_can_be_deleted(installed: PlayedClusters, backend: Moored) -> None:
    assert backend.where()
    installed.b.kubectl("delete", "namespace", backend.namespace, "--timeout=60s")
