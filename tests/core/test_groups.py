"""What an ExternalService tells its group, and what the members of a group come to together."""

from typing import Any

import pytest
from msgspec.structs import replace

from moorage.api.meta import LabelSelector, ObjectKey
from moorage.api.moorage_v1alpha1 import Drain, MooringConfig, SessionAffinityConfig
from moorage.api.sources_v1alpha1 import HealthCheck, StaticAddress
from moorage.api.topology import MAX_HINTS
from moorage.core.groups import combined, leading, member_of
from moorage.core.model import Complaint, Endpoint, Health, Problem, Resolution, Verdict
from moorage.core.mooring_model import Drained, Member, MemberEndpoint
from moorage.core.snapshot import Snapshot
from moorage.core.view import view_of
from testing.moorings import START, at, drained, end, member
from testing.xsvc import LATER, NAMESPACE, NOW, THEN, Story, answers, endpoints, static, verdicts, xsvc

NODES = SessionAffinityConfig(mooring=MooringConfig(client="Node"))
MOORED: dict[str, Any] = {"session_affinity": "Mooring", "session_affinity_config": NODES, "proxy": "moorage"}


def told(snapshot: Snapshot) -> Member:
    found = member_of(view_of(snapshot), snapshot)
    assert found is not None
    return found


def story(**spec: Any) -> Story:
    """Three endpoints, published."""
    one = Story(xsvc(**{**MOORED, **spec}))
    one.step(endpoints(3))
    return one


def snapshot(one: Story, each: tuple[Endpoint, ...] = endpoints(3), **exceptions: Health) -> Snapshot:
    return one.snapshot(answers(each), verdicts(each, **exceptions), LATER)


# --- One member ----------------------------------------------------------------------------------------------------


def test_one_without_moorings_is_no_member() -> None:
    one = Story(xsvc(session_affinity="ClientIP"))
    given = one.snapshot(answers(endpoints(1)))
    assert member_of(view_of(given), given) is None


def test_a_member_tells_who_it_is_and_how_it_wants_clients_moored() -> None:
    one = story(health_check=HealthCheck(panic_threshold_percent=40))
    found = told(snapshot(one))
    assert found[:6] == (ObjectKey(NAMESPACE, "backend"), "", MooringConfig(client="Node"), False, True, 40)
    assert (found.panic, found.previous_group) == (False, "")
    assert found.endpoints == tuple(MemberEndpoint(name, True, True) for name in ("b0001", "b0002", "b0003"))
    one.change(session_affinity_config=None, health_check=None)
    assert told(snapshot(one))[2:6] == (MooringConfig(), False, False, 0)


def test_of_an_endpoint_it_tells_whether_it_takes_clients_and_keeps_those_it_has() -> None:
    def facts(**healths: Health) -> list[tuple[bool, bool]]:
        given = one.snapshot(answers(all_of_them), verdicts(all_of_them, **healths), LATER)
        return [(each.takes, each.keeps) for each in told(given).endpoints]

    up, drained_, late = endpoints(1, 1), endpoints(1, 2, weight=3), endpoints(1, 3, priority=1)
    all_of_them = (*up, *drained_, *late)
    one = Story(xsvc(**MOORED, drain=[Drain(endpoint="b0002")]))
    one.step(all_of_them)
    assert facts() == [(True, True), (False, True), (False, True)]
    assert facts(b0001="Unhealthy", b0002="Unhealthy") == [(False, False), (False, False), (True, True)]
    assert facts(b0003="Unknown")[2] == (False, True), "no check has said anything against it"


def test_an_endpoint_that_is_not_published_takes_nobody_yet() -> None:
    found = told(snapshot(story(), endpoints(4)))
    assert [each.takes for each in found.endpoints] == [True, True, True, False]
    assert found.awaited_seconds == 3


def fresh(**spec: Any) -> Story:
    """Three endpoints, published before they were checked."""
    one = Story(xsvc(**{**MOORED, **spec}))
    one.step(endpoints(3), b0001="Unknown", b0002="Unknown", b0003="Unknown")
    return one


@pytest.mark.parametrize(("interval", "timeout", "seconds"), [(2, 1, 3), (1, 1, 2), (8, 2, 10), (3600, 300, 10)])
def test_new_clients_wait_for_first_checks_as_long_as_these_take_and_no_more_than_that(
    interval: int, timeout: int, seconds: int
) -> None:
    one = fresh(health_check=HealthCheck(interval_seconds=interval, timeout_seconds=timeout))
    assert told(snapshot(one, b0003="Unknown")).awaited_seconds == seconds
    assert told(snapshot(one, b0003="Unhealthy")).awaited_seconds == 0


def test_nobody_waits_for_an_endpoint_that_would_take_no_clients_or_has_some() -> None:
    assert told(snapshot(fresh(drain=[Drain(endpoint="b0003")]), b0003="Unknown")).awaited_seconds == 0
    assert told(snapshot(story(), b0003="Unknown")).awaited_seconds == 0


def test_a_namespace_is_one_client_and_does_not_wait() -> None:
    config = SessionAffinityConfig(mooring=MooringConfig(client="Namespace"))
    assert told(snapshot(fresh(session_affinity_config=config), b0003="Unknown")).awaited_seconds == 0


@pytest.mark.parametrize("client", ["Node", "Namespace"])
def test_clients_wait_for_the_first_checks_of_what_an_earlier_leader_found(client: str) -> None:
    one = story(session_affinity_config=SessionAffinityConfig(mooring=MooringConfig(client=client)))

    def seen(**second: Any) -> tuple[list[bool], list[bool], float]:
        there = verdicts(endpoints(3)) | {"b0002": Verdict("Healthy", THEN, **second)}
        found = told(one.snapshot(answers(endpoints(3)), there, LATER))
        ends = found.endpoints
        return [each.takes for each in ends], [each.doubted for each in ends], found.awaited_seconds

    assert seen(resumed=True) == ([True] * 3, [False, True, False], 3)
    assert seen(resumed=True, turning=True) == ([True] * 3, [False, True, False], 0)
    assert seen(turning=True) == ([True] * 3, [False] * 3, 0)


def test_nobody_waits_for_the_checks_of_a_service_without_checks() -> None:
    one = Story(xsvc(**MOORED, health_check=None))
    one.step(endpoints(3))
    given = one.snapshot(answers(endpoints(3)), dict.fromkeys(("b0001", "b0002", "b0003"), Verdict("Unchecked")))
    assert told(given).awaited_seconds == 0


def test_a_member_of_whose_endpoints_nothing_is_known_has_no_say() -> None:
    one = fresh()
    assert not told(snapshot(one, b0001="Unknown", b0002="Unknown", b0003="Unknown")).counts
    assert told(snapshot(one, b0001="Unknown", b0002="Unknown", b0003="Unhealthy")).counts
    assert told(snapshot(story(), b0001="Unknown", b0002="Unknown", b0003="Unknown")).counts, "they took clients"


def test_one_that_the_service_cannot_reach_keeps_nobody() -> None:
    six = Endpoint("six", "2001:db8::1", "addresses")
    one = story()
    given = one.snapshot(answers((*endpoints(3), six)), verdicts((*endpoints(3), six)), LATER)
    one.step((*endpoints(3), six))
    assert [each.keeps for each in told(given).endpoints if each.name == "six"] == [False]


def test_a_drain_that_the_status_has_not_recorded_is_the_same_whenever_it_is_looked_at() -> None:
    one = story()
    one.change(drain=[Drain(endpoint="b0001", before="2027-01-01T00:00:00Z")])
    first = told(snapshot(one))
    assert first.endpoints[0].drained == Drained(None, "2027-01-01T00:00:00Z")
    assert told(snapshot(one)._replace(now="2026-06-01T00:00:00Z")) == first


def test_a_drain_begins_when_the_status_first_had_it() -> None:
    one = story(drain=[Drain(endpoint="b0001", before="2027-01-01T00:00:00Z"), Drain(endpoint="b0002")])
    found = {each.name: each.drained for each in told(snapshot(one)).endpoints}
    assert found == {"b0001": Drained(NOW, "2027-01-01T00:00:00Z"), "b0002": Drained(NOW, None), "b0003": None}


def test_doubt_and_the_former_group_are_told() -> None:
    one = story()
    assert told(snapshot(one, b0001="Unhealthy", b0002="Unhealthy", b0003="Unhealthy")).panic
    one.change(group="all")
    assert told(snapshot(one)).previous_group == "backend"
    one.step(endpoints(3))
    assert told(snapshot(one)).previous_group == ""


@pytest.mark.parametrize("why", ["going", "suspended", "refused", "new", "taken", "unpublished", "silent", "unasked"])
def test_it_has_no_say(why: str) -> None:
    one = story()
    given = snapshot(one)
    silent = (*answers(endpoints(3)), Resolution("dns/x", None, Problem("LookupFailed", "", THEN)))
    match why:
        case "going":
            one.xsvc = replace(one.xsvc, metadata=replace(one.xsvc.metadata, deletion_timestamp=NOW))
            given = snapshot(one)
        case "suspended":
            one.change(suspend=True)
            given = snapshot(one)
        case "refused":
            one.change(ports=[])
            given = snapshot(one)
        case "new":
            given = given._replace(service=None)
        case "taken":
            assert given.service is not None
            meta = replace(given.service.metadata, owner_references=None)
            given = given._replace(service=replace(given.service, metadata=meta))
        case "unpublished":
            given = given._replace(slices=())
        case "silent":
            given = one.snapshot(silent, verdicts(endpoints(3)), LATER)
        case _:
            one.change(endpoints=static(StaticAddress(address="203.0.113.9")))
            given = one.snapshot((), verdicts(endpoints(3)), LATER)
    assert not told(given).counts


def test_a_source_that_is_silent_since_the_operator_started_counts_by_what_is_known_of_it() -> None:
    one = story()
    silent = (Resolution("addresses", None, Problem("LookupFailed", "", THEN)),)
    given = one.snapshot(silent, verdicts(endpoints(3)), LATER)
    assert told(given).counts
    assert len(told(given).endpoints) == 3


# --- All members ---------------------------------------------------------------------------------------------------


def test_an_endpoint_is_worth_what_its_worst_member_says() -> None:
    one = member(end("a", weight=3), end("b", keeps=False), end("c", takes=False), end("only-here"))
    other = member(end("a", weight=2, zone="eu-1a"), end("b"), end("c"), name="db")
    group = combined([one, other])
    a, b, c, missing = group.endpoints.values()
    assert (a.takes, a.keeps, a.weight, a.zone) == (True, True, 2, "eu-1a")
    assert (b.keeps, b.lost) == (False, "b does not serve ExternalService backend")
    assert (c.takes, c.keeps) == (False, True)
    assert (missing.in_all, missing.takes, missing.keeps) == (False, False, False)
    assert missing.lost == "only-here is no endpoint of ExternalService db"
    assert group.names == ["a", "b", "c"]


def test_a_member_that_does_not_count_has_no_say() -> None:
    group = combined([member(end("a")), member(end("a", serves=False), name="db", counts=False)])
    assert group.endpoints["a"].takes
    assert combined([member(end("a"), counts=False)]).endpoints == {}


def test_the_drain_that_ends_first_holds() -> None:
    def deadline(*drains: MemberEndpoint) -> float | None:
        members = [member(each, name=f"m{number}") for number, each in enumerate(drains)]
        return combined(members).endpoints["a"].deadline

    ends = drained("a", 0), drained("a", 5, 90), drained("a", 9, 80), end("a")
    assert deadline(*ends) == START.timestamp() + 80
    assert deadline(drained("a", 0), end("a")) is None
    assert deadline(end("a")._replace(drained=Drained(at(0), "some day"))) is None
    begins = end("a")._replace(drained=Drained(None, at(90)))
    assert combined([member(begins, name="m0"), member(drained("a", 5, 90))]).endpoints["a"].drained == Drained(
        at(5), at(90)
    )


def test_the_oldest_says_how_clients_are_moored_and_the_others_are_told() -> None:
    old = member(end("a"), client="Node", name="old")
    young = member(end("a", serves=False), client="Zone", on_recovery="Return", name="a-young", created=at(5))
    group = combined([young, old])
    assert group.config == old.config
    assert group.endpoints["a"].takes
    (told_,) = group.problems
    assert told_.reason == "MooringConfigDiffers"
    assert "frontend/a-young" in told_.message
    assert "old, which is older, in client, onRecovery" in told_.message
    assert leading([young, old._replace(counts=False)]) == old._replace(counts=False)
    assert combined([young, old._replace(counts=False)]).members == ()
    assert leading([]) is None


def test_of_the_same_age_the_first_by_name_is_right() -> None:
    assert leading([member(name="b"), member(name="a"), member(name="c")]) == member(name="a")


def test_what_only_their_own_services_do_may_differ() -> None:
    group = combined([member(end("a")), member(end("a"), name="db", while_pending="Hash")])
    assert (len(group.members), group.problems) == (2, ())
    selecting = member(end("a"), name="db")
    other = selecting._replace(config=replace(selecting.config, pod_selector=LabelSelector(match_labels={"a": "b"})))
    assert [each.reason for each in combined([member(end("a")), other]).problems] == ["MooringConfigDiffers"]


@pytest.mark.parametrize(
    ("threshold", "sound", "panic"), [(0, 1, False), (0, 0, True), (49, 1, False), (50, 1, True), (100, 2, True)]
)
def test_below_the_threshold_the_checks_are_doubted(threshold: int, sound: int, panic: bool) -> None:
    ends = [end(name, serves=number < sound) for number, name in enumerate("ab")]
    group = combined([member(*ends, drained("c", 0), panic_threshold_percent=threshold)])
    assert group.panic == panic
    assert group.problems == ()


def test_members_that_contradict_each_other_are_doubted_together_and_told() -> None:
    one = member(end("a", serves=False), end("b"))
    group = combined([one, member(end("a"), end("b", serves=False), name="db")])
    assert group.panic
    (complaint,) = group.problems
    assert isinstance(complaint, Complaint)
    assert (complaint.reason, "0 of 2" in complaint.message, "backend, db" in complaint.message) == (
        "GroupPanic",
        True,
        True,
    )
    assert combined([one, member(end("a"), end("b"), name="db", panic=True)]).panic


@pytest.mark.parametrize(
    ("client", "by_kube_proxy", "limit"),
    [("Node", True, MAX_HINTS), ("Zone", True, MAX_HINTS), ("Namespace", True, None), ("Node", False, None)],
)
def test_hints_bound_how_many_clients_an_endpoint_has(client: str, by_kube_proxy: bool, limit: int | None) -> None:
    agents = member(end("a"), client=client)
    assert combined([agents, member(end("a"), client=client, name="db", by_kube_proxy=by_kube_proxy)]).limit == limit


def test_clients_wait_for_all_members_that_have_a_say() -> None:
    one, other = member(end("a"), awaited_seconds=2), member(end("a"), name="db", awaited_seconds=5, beginning=True)
    both, first = combined([one, other]), combined([one, other._replace(counts=False)])
    assert (both.awaited_seconds, both.beginning) == (5, True)
    assert (first.awaited_seconds, first.beginning) == (2, False)
    known = combined([member(end("a"), beginning=True)])
    assert (known.awaited_seconds, known.beginning) == (0, False)


def test_a_doubted_endpoint_takes_clients_if_no_other_does_and_none_is_about_to_be_checked() -> None:
    def taking(*members: Member) -> list[str]:
        return [each.name for each in combined(members).endpoints.values() if each.takes]

    sure, doubted = end("a"), end("b", doubted=True)
    assert taking(member(sure, doubted)) == ["a"]
    assert taking(member(end("a", serves=False), doubted)) == ["b"]
    assert taking(member(end("a", doubted=True), doubted)) == ["a", "b"]
    assert taking(member(end("a", doubted=True), doubted, awaited_seconds=1)) == []
    assert taking(member(sure, doubted), member(end("a", serves=False), end("b"), name="db")) == ["b"]
    assert taking(member(sure, end("b")), member(sure, doubted, name="db")) == ["a"]
    assert [each.keeps for each in combined([member(sure, doubted)]).endpoints.values()] == [True, True]


def test_without_members_there_is_nothing() -> None:
    group = combined([])
    assert (group.members, group.endpoints, group.panic, group.limit, group.problems) == ((), {}, False, None, ())
