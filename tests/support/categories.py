"""What kube-proxy makes of hints, case by case: which endpoints it sends the clients of a node to.

The first of these are facts of upstream's own test of CategorizeEndpoints, for traffic policy Cluster.
"""

import pytest

from moorage.api.topology import NO_NODE, HintedEndpoint, Hints


def endpoint(zones: str = "", nodes: str = "", *, ready: bool = True) -> HintedEndpoint:
    """Hinted to these zones and nodes, each a letter or digit."""
    return HintedEndpoint(ready, Hints(frozenset(nodes), frozenset(zones)))


ONE_EACH = (endpoint("a", "1"), endpoint("b", "2"), endpoint("c", "3"), endpoint("a", "4"))
LEAVING = HintedEndpoint(ready=False, terminating=True)


CASES = [
    pytest.param([*map(endpoint, "abca")], "", "a", {0, 3}, id="every endpoint has a zone, one is the node's"),
    pytest.param([endpoint("a")], "", "", {0}, id="the node has no zone"),
    pytest.param([*map(endpoint, "abca")], "", "", {0, 1, 2, 3}, id="the node has no zone, of several"),
    pytest.param([endpoint("a")], "", "b", {0}, id="the node is in a zone without endpoints"),
    pytest.param([*map(endpoint, "abc"), endpoint("a", ready=False)], "", "a", {0}, id="one is not ready"),
    pytest.param(
        [endpoint("a", ready=False), endpoint("b"), endpoint("c"), endpoint("a", ready=False)],
        "",
        "a",
        {1, 2},
        id="those of the zone are not ready",
    ),
    pytest.param([*map(endpoint, ["a", "b", "", "a"])], "", "a", {0, 1, 2, 3}, id="one has no hint"),
    pytest.param(
        [endpoint("a"), endpoint("b"), endpoint(ready=False), endpoint("a")],
        "",
        "a",
        {0, 3},
        id="one that is not ready has no hint",
    ),
    pytest.param([*map(endpoint, ["abc", "bc", "bd", "c"])], "", "c", {0, 1, 3}, id="several zones an endpoint"),
    pytest.param(ONE_EACH, "1", "a", {0}, id="every endpoint has a node, one is this"),
    pytest.param(ONE_EACH, "0", "a", {0, 3}, id="no endpoint names this node: by zone"),
    pytest.param(ONE_EACH, "0", "d", {0, 1, 2, 3}, id="neither this node nor its zone: all"),
    pytest.param(
        [endpoint("a", "1"), endpoint(), endpoint("c", "3"), endpoint("a", "4")],
        "1",
        "a",
        {0, 1, 2, 3},
        id="one has neither",
    ),
    pytest.param(
        [endpoint("a", "1"), endpoint("a"), endpoint("c", "3")], "1", "a", {0, 1}, id="one has no node: by zone"
    ),
    pytest.param(
        [HintedEndpoint(True, each.hints._replace(nodes=frozenset())) for each in ONE_EACH],
        "1",
        "a",
        {0, 3},
        id="kube-proxy does not know hints to nodes: by zone",
    ),
    pytest.param([endpoint(ready=False), endpoint(ready=False)], "1", "a", set(), id="none is ready"),
    pytest.param([endpoint(ready=False), endpoint()], "1", "a", {1}, id="some are ready"),
    pytest.param([LEAVING, LEAVING], "1", "a", {0, 1}, id="all are leaving and serve"),
    pytest.param(
        [LEAVING._replace(hints=Hints(frozenset("1"))), LEAVING],
        "1",
        "a",
        {0, 1},
        id="hints say nothing of those that are leaving",
    ),
    pytest.param([LEAVING, endpoint()], "1", "a", {1}, id="one is leaving and serves, another is ready"),
    pytest.param([LEAVING._replace(serving=False)], "1", "a", set(), id="one is leaving and does not serve"),
    pytest.param([], "1", "a", set(), id="there are none"),
    pytest.param(
        [endpoint(nodes="1"), HintedEndpoint(True, Hints(frozenset([NO_NODE])))],
        "1",
        "",
        {0},
        id="an endpoint that nobody is moored to",
    ),
    pytest.param(
        [endpoint(nodes="1"), HintedEndpoint(True, Hints(frozenset([NO_NODE])))],
        "2",
        "",
        {0, 1},
        id="a node that is not moored",
    ),
]
"""Endpoints, name and zone of the node, and the indexes of those that are used."""
