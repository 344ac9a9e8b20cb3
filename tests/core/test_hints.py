"""What slices say where moorings are carried without agents."""

import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moorage.api.discovery_v1 import Endpoint as ApiEndpoint
from moorage.api.moorage_v1alpha1 import Drain, MooringConfig, SessionAffinityConfig
from moorage.api.topology import MAX_HINTS, NO_NODE, Hints, decode_hints
from moorage.core.groups import GroupEndpoint
from moorage.core.loads import Loads
from moorage.core.model import Complaint, Endpoint, Health
from moorage.core.mooring_model import Client, ClientKey, Moored
from testing.kube_proxy import allowed, used
from testing.xsvc import NAME, NAMESPACE, Story, endpoints, moored, story_of, xsvc


def hinted(story: Story) -> dict[str, str]:
    """The hints of each ready endpoint, by name: `nodes: n1 n2`."""
    found = {}
    for slice_ in story.cluster.slices:
        for each in slice_.endpoints or ():
            if each.conditions.ready:
                hints = decode_hints(each.hints)
                what = "nodes" if hints.nodes else "zones"
                names = " ".join(sorted(hints.nodes | hints.zones))
                found[each.hostname or ""] = f"{what}: {names}" if names else "none"
    return found


def ready(story: Story) -> set[str]:
    return set(story.cluster.ready())


def test_each_node_is_in_the_hints_of_the_endpoint_that_it_is_moored_to() -> None:
    story = story_of("Node")
    story.moored = moored("Node", b0001="n1 n3", b0002="n2")
    story.step(endpoints(2))
    assert hinted(story) == {"b0001": "nodes: n1 n3", "b0002": "nodes: n2"}


def test_zones_are_hinted_as_zones() -> None:
    story = story_of("Zone")
    story.moored = moored("Zone", b0001="eu-1a")
    story.step(endpoints(2))
    assert hinted(story) == {"b0001": "zones: eu-1a", "b0002": f"zones: {NO_NODE}"}


def test_an_endpoint_that_nobody_is_moored_to_is_published_with_a_name_that_no_node_has() -> None:
    story = story_of("Node")
    story.moored = moored("Node", b0001="n1")
    story.step(endpoints(1))
    added = story.decide(endpoints(2))
    assert len(added.writes) == 1
    story.do(added)
    assert hinted(story) == {"b0001": "nodes: n1", "b0002": f"nodes: {NO_NODE}"}


def test_no_endpoint_has_more_hints_than_the_api_server_takes() -> None:
    story = story_of("Node")
    story.moored = moored("Node", b0001=" ".join(f"n{n}" for n in range(MAX_HINTS + 3)))
    story.step(endpoints(1))
    assert hinted(story) == {"b0001": "nodes: " + " ".join(f"n{n}" for n in range(MAX_HINTS))}


def test_the_kind_of_the_group_counts_where_this_member_says_another() -> None:
    story = story_of("Zone")
    story.moored = moored("Node", b0001="n1")
    story.step(endpoints(1))
    assert hinted(story) == {"b0001": "nodes: n1"}


def test_until_the_group_is_decided_about_hints_and_readiness_stay_as_they_are() -> None:
    """A new leader must not switch the hints off, nor take a drained endpoint from those who are moored to it."""
    story = story_of("Node")
    story.moored = moored("Node", b0001="n1", b0002="n2")
    story.step(endpoints(2))
    story.change(drain=[Drain(endpoint="b0002")])
    story.step(endpoints(2))
    before = hinted(story)
    assert before == {"b0001": "nodes: n1", "b0002": "nodes: n2"}
    story.moored = None
    story.step(endpoints(3))
    assert hinted(story) == {**before, "b0003": f"nodes: {NO_NODE}"}


def test_a_drained_endpoint_is_published_for_whom_it_has_and_then_no_more() -> None:
    story = story_of("Node", drain=[Drain(endpoint="b0001")])
    story.moored = moored("Node", b0001="n1", b0002="n2")
    story.step(endpoints(2))
    assert ready(story) == {"b0001", "b0002"}
    first = (story.xsvc.status.endpoints or [])[0]
    assert (first.ready, first.message) == (True, "drained: spec.drain names it; 1 client moored to it")
    story.moored = moored("Node", b0002="n1 n2")
    story.step(endpoints(2))
    assert ready(story) == {"b0002"}


def test_one_that_does_not_serve_is_not_published_whoever_is_moored_to_it() -> None:
    story = story_of("Node")
    story.moored = moored("Node", b0001="n1", b0002="n2")
    story.step(endpoints(2), b0001="Unhealthy")
    assert ready(story) == {"b0002"}


def test_who_took_clients_before_is_known_from_the_status_and_the_moorings_not_from_slices() -> None:
    story = story_of("Node")
    story.moored = moored("Node", b0001="n1")
    story.step(endpoints(2))
    for endpoint in story.cluster.objects["EndpointSlice", "backend-1"]["endpoints"]:
        endpoint["conditions"] = {"ready": False, "serving": False, "terminating": False}
    story.step(endpoints(2), b0001="Unknown", b0002="Unknown")
    assert ready(story) == {"b0001", "b0002"}


def test_node_agents_get_no_hints() -> None:
    story = story_of("Node", proxy="moorage")
    story.moored = moored("Node", b0001="n1")
    story.step(endpoints(1))
    assert hinted(story) == {"b0001": "none"}


def test_without_moorings_the_hints_go() -> None:
    story = story_of("Node")
    story.moored = moored("Node", b0001="n1")
    story.step(endpoints(1))
    story.change(session_affinity="ClientIP", session_affinity_config=None)
    story.step(endpoints(1))
    assert hinted(story) == {"b0001": "none"}


def test_hints_that_somebody_takes_away_come_back() -> None:
    story = story_of("Node")
    story.moored = moored("Node", b0001="n1")
    story.step(endpoints(1))
    story.cluster.edit("EndpointSlice", "backend-1", {"endpoints": [{"addresses": ["198.18.0.1"]}]})
    story.step(endpoints(1))
    assert hinted(story) == {"b0001": "nodes: n1"}


# --- Namespace ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proxy", ["kube-proxy", "moorage"])
def test_of_a_namespaces_endpoints_only_the_one_that_it_is_moored_to_is_published(proxy: str) -> None:
    story = story_of("Namespace", proxy=proxy)
    story.moored = moored("Namespace", b0002="frontend")
    story.step(endpoints(3))
    assert hinted(story) == {"b0002": "none"}
    assert [(each.ready, each.message) for each in story.xsvc.status.endpoints or ()] == [
        (False, "stands by: the namespace uses one endpoint at a time"),
        (True, None),
        (False, "stands by: the namespace uses one endpoint at a time"),
    ]


def test_one_that_stands_by_takes_the_namespace_after_a_panic_too() -> None:
    story = story_of("Namespace")
    story.moored = moored("Namespace", b0001="frontend")
    story.step(endpoints(2))
    story.step(endpoints(2), b0001="Unhealthy", b0002="Unhealthy")
    assert ready(story) == {"b0001"}, "nothing is known that would be better"


@pytest.mark.parametrize("down", ["b0001", "b0002"])
def test_until_a_namespace_is_moored_one_endpoint_is_published_and_it_stays_the_same(down: str) -> None:
    story = story_of("Namespace")
    healths: dict[str, Health] = {down: "Unhealthy"}
    story.step(endpoints(2), **healths)
    assert ready(story) == {"b0001", "b0002"} - {down}
    story.step(endpoints(2))
    assert ready(story) == {"b0001", "b0002"} - {down}


def test_the_endpoint_that_is_published_first_is_the_one_that_the_namespace_will_be_moored_to() -> None:
    story = story_of("Namespace")
    each = endpoints(5)
    story.step(each)
    key = ClientKey("Namespace", NAMESPACE)
    loads = Loads(NAME, [GroupEndpoint(one.name, True, True, True, 1, "", None, "") for one in each], None)
    assert ready(story) == {loads.least(Client(key))}


def test_a_namespace_whose_mooring_cannot_be_written_is_served_all_the_same() -> None:
    story = story_of("Namespace")
    story.moored = moored("Namespace", b0001="frontend")
    story.step(endpoints(2))
    story.moored = moored("Namespace", (Complaint("QuotaExceeded", "no room"),), b0001="frontend")
    story.step(endpoints(2), b0001="Unhealthy")
    assert ready(story) == {"b0002"}


# --- Zones without moorings ---------------------------------------------------------------------------------------


def in_zones(*zones: str) -> tuple[Endpoint, ...]:
    return tuple(one._replace(zone=zone) for one, zone in zip(endpoints(len(zones)), zones, strict=True))


def test_endpoints_are_hinted_to_their_own_zones_where_that_is_preferred() -> None:
    story = Story(xsvc(traffic_distribution="PreferSameZone"))
    story.step(in_zones("eu-1a", "eu-1b"))
    assert hinted(story) == {"b0001": "zones: eu-1a", "b0002": "zones: eu-1b"}
    story.change(traffic_distribution=None)
    story.step(in_zones("eu-1a", "eu-1b"))
    assert hinted(story) == {"b0001": "none", "b0002": "none"}


def test_a_ready_endpoint_without_a_zone_ends_that_and_one_that_is_not_ready_does_not() -> None:
    story = Story(xsvc(traffic_distribution="PreferSameZone"))
    story.step(in_zones("eu-1a", ""), b0002="Unhealthy")
    assert hinted(story) == {"b0001": "zones: eu-1a"}
    story.step(in_zones("eu-1a", ""))
    assert hinted(story) == {"b0001": "none", "b0002": "none"}


# --- Several slices -----------------------------------------------------------------------------------------------

NODES = ("n1", "n2", "n3", "n4", "n5", "stranger")


class Situation(NamedTuple):
    """What is to be at one moment."""

    spec: dict[str, Any]
    endpoints: tuple[Endpoint, ...]
    healths: dict[str, Health]
    moored: Moored | None


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    """Few endpoints, whose own ports put them into several slices, and few nodes; seldom many more endpoints."""
    some = [
        one._replace(
            port=draw(st.sampled_from([None, 8080, 8081])),
            priority=draw(st.sampled_from([0, 0, 0, 1])),
            zone=draw(st.sampled_from(["", "n1", "n1", "n2", "n2"])),
            address=draw(st.sampled_from([one.address, one.address, f"203.0.113.{one.name[-1]}"])),
        )
        for number in sorted(draw(st.sets(st.integers(1, 5))))
        for one in endpoints(1, number)
    ]
    names = [each.name for each in some] or ["b0001"]
    client = draw(st.sampled_from(["Node", "Node", "Node", "Zone", "Namespace", ""]))
    config = SessionAffinityConfig(mooring=MooringConfig(client=client)) if client else None
    at: dict[str, tuple[str, ...]] = {}
    who = NODES[:-1] if client != "Namespace" else ("frontend",)
    for node, name in draw(st.dictionaries(st.sampled_from(who), st.sampled_from(names))).items():
        at[name] = tuple(sorted((*at.get(name, ()), node)))
    return Situation(
        {
            "session_affinity": "Mooring" if client else "ClientIP",
            "session_affinity_config": config,
            "traffic_distribution": None if client else draw(st.sampled_from([None, "PreferSameZone"])),
            "drain": draw(st.sampled_from([None, None, [Drain(endpoint="b0001")]])),
        },
        (*some, *endpoints(*draw(st.sampled_from([(0, 10), (0, 10), (0, 10), (120, 10), (150, 60)])))),
        {name: draw(st.sampled_from(("Healthy", "Healthy", "Unhealthy", "Unknown"))) for name in names},
        Moored(client, at) if client and draw(st.integers(0, 9)) else None,
    )


def contents(story: Story) -> list[list[ApiEndpoint]]:
    return [each.endpoints or [] for each in story.cluster.slices]


def one_meaning(story: Story) -> bool:
    """Whether all that is said of one address and port is the same: kube-proxy takes any of it."""
    found: dict[tuple[str, int | None], set[tuple[bool | None, Hints]]] = {}
    for slice_ in story.cluster.slices:
        for port in slice_.ports or ():
            for each in slice_.endpoints or ():
                said = each.conditions.ready, decode_hints(each.hints)
                found.setdefault((each.addresses[0], port.port), set()).add(said)
    return all(len(each) == 1 for each in found.values())


def changes(story: Story, situation: Situation, chance: random.Random) -> Iterator[list[list[list[ApiEndpoint]]]]:
    """What the slices hold before a change, after each write and in the end, though the operator is killed thrice.

    What is ready may follow from what was ready, so that one change brings about another one.
    """
    moments, ready_then = [contents(story)], None
    for attempt in range(12):
        decision = story.decide(situation.endpoints, **situation.healths)
        ready_now = [(each.name, each.ready) for each in decision.status.endpoints or ()]
        if ready_then not in (None, ready_now):
            yield moments
            moments = moments[-1:]
        ready_then = ready_now
        writes = decision.writes if attempt > 2 else decision.writes[: chance.randint(0, len(decision.writes))]
        for write in writes:
            story.cluster.do(write)
            moments.append(contents(story))
            assert one_meaning(story)
        if len(writes) == len(decision.writes):
            story.do(decision._replace(writes=()))
            if not writes and decision.status == story.xsvc.status:
                yield moments
                return
    raise AssertionError("does not come to rest")


@settings(max_examples=40)
@given(situations(), st.lists(situations(), min_size=1, max_size=2), st.randoms(use_true_random=False))
def test_after_every_write_each_node_uses_only_what_it_used_before_or_uses_after(
    first: Situation, then: list[Situation], chance: random.Random
) -> None:
    story = story_of("Node")
    story.change(**first.spec)
    story.moored = first.moored
    story.step(first.endpoints, **first.healths)
    for situation in then:
        story.change(**situation.spec)
        story.moored = situation.moored
        for before, *between, after in (each for each in changes(story, situation, chance) if len(each) > 1):
            for node in NODES:
                was, is_, most = used(before, node), used(after, node), allowed(before, after, node)
                for moment in between:
                    now = used(moment, node)
                    assert was & is_ <= now <= most, node
                    assert now or not (was and is_), node
