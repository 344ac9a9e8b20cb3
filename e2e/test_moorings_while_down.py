"""The operator is killed in the middle of a failover on real clusters, and more happens until it is back."""

from collections.abc import Iterator, Mapping

import pytest

from e2e.harness import operator, topology
from e2e.harness.crashing import CrashingOperator
from e2e.harness.moored import ALL, MANY, NODES, REFUSED, Moored, led
from e2e.harness.outside import SERVERS, Servers, serving
from e2e.harness.played import PlayedClusters
from e2e.harness.proxy import Proxy

NAMESPACES = ("down-1", "down-2")
BY_NAME = {each.name: each for each in SERVERS}
HEAVY = 8
"""The weight of an endpoint that has the fewest nodes for its weight, even when it has three of them."""


@pytest.fixture(scope="module")
def crashing(played: PlayedClusters, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CrashingOperator]:
    """Of `deploy/operator` there is all but the Deployment."""
    token = operator.install(played.b.api, without="Deployment")
    try:
        with Proxy(played.b.api, tmp_path_factory.mktemp("proxy")) as proxy:
            yield CrashingOperator(played.b.api, proxy, token)
    finally:
        played.b.kubectl("delete", "namespace", *NAMESPACES, "--ignore-not-found", "--timeout=120s", seconds=150)
        operator.remove(played.b.api)


@pytest.fixture
def down(crashing: CrashingOperator) -> Iterator[CrashingOperator]:
    """It has not been started."""
    yield crashing
    crashing.kill()


@pytest.fixture
def servers(played: PlayedClusters) -> Iterator[Servers]:
    """All of them run."""
    with serving(played.world, *SERVERS) as servers:
        yield servers


@pytest.mark.parametrize(
    ("writes", "joining"),
    [(1, topology.B.spare[0]), (2, topology.B.spare[1])],
    ids=["after-the-mooring", "after-the-first-slice"],
)
def test_what_happens_while_the_operator_is_down_is_put_right_once_it_is_back(
    played: PlayedClusters, down: CrashingOperator, servers: Servers, writes: int, joining: topology.Node
) -> None:
    """The endpoint of one node dies, and the operator is killed after so many writes; then that of another dies."""
    failing, other, staying = (*NODES[writes - 1 :], *NODES[: writes - 1])
    scene = Moored(played, NAMESPACES[writes - 1])
    down.namespace = scene.namespace
    down.start()
    scene.make(SERVERS)
    before = scene.until_where(lambda found: len(found) == len(NODES))
    dead, dying, alive = (before[node.name] for node in (failing, other, staying))
    (unused,) = BY_NAME.keys() - before.values()
    # So it is known where those go that need another endpoint.
    scene.make(SERVERS, weights={alive: HEAVY})
    scene.until_moored(words="3 nodes are moored to 3 of 4 endpoints")
    scene.assert_led(before)
    opened = scene.open(staying)
    assert set(opened.more()) == {alive}
    down.until_quiet()

    with scene.slices() as slices:
        slices.until("all endpoints", lambda state: state.keys() == BY_NAME.keys())
        down.kill_at(writes, lambda: servers.kill(BY_NAME[dead]), done=False, held=None)
        # Its Mooring is written. Of its two slices none is, or the one that gains.
        moved = {**before, failing.name: unused}
        assert scene.where() == moved
        uses = {dead} if writes == 1 else {dead, unused}
        slices.until("what has been written", lambda state: led(state, failing.name) == uses)
        written = scene.versions()

        with played.b.joined(joining):
            # No hint leads the clients of a node that joins. Each stays where it came to first.
            assert led(slices.now, joining.name) == BY_NAME.keys()
            first = scene.until_answered(joining, {REFUSED, unused, dying, alive})
            assert all(len(set(answers)) == 1 for answers in first.values()), first
            assert len({answer for answers in first.values() for answer in answers}) > 1, first
            servers.kill(BY_NAME[dying])
            assert scene.ask(joining, MANY, ALL) == {
                source: [REFUSED if answer == dying else answer for answer in answers]
                for source, answers in first.items()
            }
            # The others go on where they were; the clients of the node that moves may already go where it will be.
            assert scene.strayed({**before, other.name: REFUSED}, MANY, nodes=(other, staying)) == []
            found = {answer for answers in scene.ask(failing, MANY, ALL).values() for answer in answers}
            assert found <= {REFUSED, *uses}
            assert set(opened.more()) == {alive}
            assert scene.where() == moved
            assert scene.versions() == written

            down.start()
            after = {**moved, other.name: alive, joining.name: alive}
            scene.until_where(lambda found: found == after)
            scene.until_moored(words="4 nodes are moored to 2 of 4 endpoints")
            scene.assert_led(after, nodes=(*NODES, joining))
            down.until_quiet()
            assert_moved_once(scene, {failing.name: 1, other.name: 1, staying.name: 0}, joining.name)
            for _, state in slices.states:
                if state.keys() == BY_NAME.keys():
                    for node in NODES:
                        assert led(state, node.name) <= {before[node.name], after[node.name]}, (node, state)

            # Nothing is left to be done, and nobody goes back.
            moorings = scene.versions("moorings")
            assert [name for name in moorings if moorings[name] == written.get(name)] == sorted(
                f"Mooring/backend.node.{node.name}" for node in (failing, staying)
            )
            servers.start(BY_NAME[dead], BY_NAME[dying])
            scene.kubectl("wait", "--for=condition=Healthy", "--timeout=60s", "xsvc/backend")
            down.until_quiet()
            assert scene.versions("moorings") == moorings
            scene.assert_led(after, nodes=(*NODES, joining))
            assert set(opened.more()) == {alive}
    opened.close()


def assert_moved_once(scene: Moored, moves: Mapping[str, int], joined: str) -> None:
    """Each node has made so many moves, and each move was one write of its Mooring."""
    found = scene.moorings()
    made = {name: [move["reason"] for move in each["status"]["moves"]] for name, each in found.items()}
    assert made.pop(joined) == ["Assigned"]
    assert made == {name: [*["FailedOver"] * count, "Assigned"] for name, count in moves.items()}
    # It is a Mooring's number of changes: it has no status of its own.
    generations = {name: each["metadata"]["generation"] for name, each in found.items()}
    assert generations == {name: len(each["status"]["moves"]) for name, each in found.items()}
