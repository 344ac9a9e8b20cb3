from collections.abc import Sequence
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from moorage.api.moorage_v1alpha1 import EndpointStatus, ExternalServicePort, ExternalServiceSpec
from moorage.api.sources_v1alpha1 import HealthCheck, HttpCheck, TcpCheck
from moorage.core.health import (
    Outcome,
    Published,
    State,
    Subject,
    checked_port,
    follow,
    initial,
    observe,
    ready_set,
    resume,
    revise,
    subjects,
)
from moorage.core.model import Endpoint, Health, Verdict

START = "2026-01-01T00:00:00Z"
LATER = "2026-01-01T00:00:09Z"
CHECK = HealthCheck(fall=3, rise=2)
SUBJECT = Subject("203.0.113.11", 80, CHECK)
WORKS = Outcome(True)
REFUSED = Outcome(False, "connection refused")
SILENT = Outcome(False, "no answer within 1 s")
HEALTHY = State(SUBJECT, Verdict("Healthy", START))
RESUMED = State(SUBJECT, Verdict("Healthy", START, resumed=True))
UNHEALTHY = State(SUBJECT, Verdict("Unhealthy", START, "connection refused"))


def after(state: State, outcomes: Sequence[Outcome], now: str = LATER) -> Verdict:
    for outcome in outcomes:
        state = observe(state, outcome, now)
    return state.verdict


def test_a_message_names_the_port_that_is_checked() -> None:
    http = ExternalServicePort(port=9000, target_port=8080)
    spec = ExternalServiceSpec(ports=[ExternalServicePort(port=53, protocol="UDP"), http], health_check=CHECK)
    assert checked_port(spec, None) == 8080
    assert checked_port(spec, 81) == 81
    assert checked_port(replace(spec, health_check=HealthCheck(port=7)), 81) == 7
    assert checked_port(replace(spec, ports=[]), None) == 0


# --- verdicts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [(WORKS, Verdict("Healthy", LATER)), (REFUSED, Verdict("Unhealthy", LATER, "connection refused"))],
)
def test_the_first_outcome_decides(outcome: Outcome, verdict: Verdict) -> None:
    assert initial(SUBJECT, START).verdict == Verdict("Unknown", START)
    assert after(initial(SUBJECT, START), [outcome]) == verdict


def test_fall_failures_in_a_row_make_it_unhealthy() -> None:
    assert after(HEALTHY, [REFUSED] * 2) == Verdict("Healthy", START, turning=True)
    assert after(HEALTHY, [REFUSED] * 3) == Verdict("Unhealthy", LATER, "connection refused")
    assert after(HEALTHY, [REFUSED, REFUSED, WORKS]) == Verdict("Healthy", START)
    assert after(HEALTHY, [REFUSED, REFUSED, WORKS, REFUSED, REFUSED]) == Verdict("Healthy", START, turning=True)


def test_rise_successes_in_a_row_make_it_healthy_again() -> None:
    turning = Verdict("Unhealthy", START, "connection refused", turning=True)
    assert after(UNHEALTHY, [WORKS]) == turning
    assert after(UNHEALTHY, [WORKS, REFUSED]) == UNHEALTHY.verdict
    assert after(UNHEALTHY, [WORKS, REFUSED, WORKS]) == turning
    assert after(UNHEALTHY, [WORKS] * 2) == Verdict("Healthy", LATER)


def test_the_last_failure_is_told_and_changes_nothing_else() -> None:
    assert after(UNHEALTHY, [SILENT]) == Verdict("Unhealthy", START, "no answer within 1 s")
    assert after(HEALTHY, [REFUSED, REFUSED, SILENT]) == Verdict("Unhealthy", LATER, "no answer within 1 s")


def test_what_is_not_checked_has_no_outcomes() -> None:
    state = initial(SUBJECT._replace(check=None), START)
    assert state.verdict == Verdict("Unchecked", START)
    assert observe(state, REFUSED, LATER) == state


@given(st.lists(st.booleans()), st.integers(1, 5), st.integers(1, 5))
def test_health_changes_only_after_a_run_that_is_long_enough(results: list[bool], rise: int, fall: int) -> None:
    state = initial(Subject("203.0.113.11", 80, HealthCheck(rise=rise, fall=fall)), "before")
    for number, success in enumerate(results):
        new = observe(state, Outcome(success, None if success else "refused"), str(number))
        if new.verdict.health != state.verdict.health:
            needed = 1 if number == 0 else rise if success else fall
            assert results[number + 1 - needed : number + 1] == [success] * needed
            assert new.verdict.since == str(number)
        else:
            assert new.verdict.since == state.verdict.since
        assert (new.verdict.message is None) == (new.verdict.health == "Healthy")
        state = new


# --- from one leader to the next, and from one spec to the next -----------------------------------------------------


def status(**changes: Any) -> EndpointStatus:
    fields: dict[str, Any] = {
        "name": "backend1",
        "address": "203.0.113.11",
        "source": "addresses",
        "health": "Unhealthy",
        "ready": False,
        "since": START,
        "message": "connection refused",
    }
    return EndpointStatus(**{**fields, **changes})


def test_a_new_leader_starts_from_the_verdict_in_the_status() -> None:
    assert resume(status(), SUBJECT, LATER) == UNHEALTHY
    assert resume(status(port=80), SUBJECT, LATER) == UNHEALTHY
    assert resume(status(health="Healthy"), SUBJECT, LATER) == RESUMED
    assert resume(status(health="Unknown"), SUBJECT, LATER).verdict == Verdict("Unknown", START)
    assert after(resume(status(health="Healthy"), SUBJECT, LATER), [REFUSED] * 2).health == "Healthy"


def test_what_an_earlier_leader_found_healthy_is_that_by_its_word_until_a_check_has_passed() -> None:
    verdict = RESUMED.verdict
    assert after(RESUMED, [WORKS]) == HEALTHY.verdict
    assert after(RESUMED, [REFUSED]) == verdict._replace(turning=True)
    assert after(RESUMED, [REFUSED, REFUSED]) == verdict._replace(turning=True)
    assert after(RESUMED, [REFUSED, WORKS]) == HEALTHY.verdict
    assert after(RESUMED, [REFUSED] * 3) == Verdict("Unhealthy", LATER, "connection refused")


def test_what_a_panic_kept_is_doubted_by_a_new_leader_until_its_first_check() -> None:
    resumed = resume(status(ready=True), SUBJECT, LATER)
    assert resumed.verdict == UNHEALTHY.verdict._replace(turning=True)
    assert after(resumed, [REFUSED]) == UNHEALTHY.verdict


def test_a_status_without_a_port_says_nothing_of_one_that_has_its_own() -> None:
    own = Subject("203.0.113.11", 8080, CHECK, own_port=8080)
    assert resume(status(), own, LATER) == initial(own, LATER)
    assert follow({}, {"new": own}, [status(name="old")], LATER) == {"new": initial(own, LATER)}
    assert resume(status(port=8080), own, LATER).verdict == UNHEALTHY.verdict


@pytest.mark.parametrize(
    "changes", [{"address": "203.0.113.12"}, {"port": 81}, {"health": "Unchecked"}, {"health": "Splendid"}]
)
def test_a_status_of_something_else_says_nothing(changes: dict[str, Any]) -> None:
    assert resume(status(**changes), SUBJECT, LATER) == initial(SUBJECT, LATER)


def test_a_check_that_is_taken_away_leaves_no_verdict() -> None:
    bare = SUBJECT._replace(check=None)
    assert resume(status(), bare, LATER).verdict == Verdict("Unchecked", LATER)
    assert resume(status(health="Unchecked"), bare, LATER).verdict == Verdict("Unchecked", START)
    assert revise(UNHEALTHY, bare, LATER).verdict == Verdict("Unchecked", LATER)
    assert revise(initial(bare, START), SUBJECT, LATER).verdict == Verdict("Unknown", LATER)


@pytest.mark.parametrize("changes", [{"address": "203.0.113.12"}, {"port": 81}])
def test_another_address_or_port_is_another_instance(changes: dict[str, Any]) -> None:
    subject = SUBJECT._replace(**changes)
    assert revise(HEALTHY, subject, LATER) == initial(subject, LATER)


@pytest.mark.parametrize("check", [HealthCheck(http=HttpCheck()), HealthCheck(port=81)])
def test_another_check_keeps_the_verdict_and_counts_anew(check: HealthCheck) -> None:
    state = observe(observe(HEALTHY, REFUSED, LATER), REFUSED, LATER)
    revised = revise(state, SUBJECT._replace(check=check), LATER)
    assert after(revised, [REFUSED] * 2).health == "Healthy"
    assert after(revised, [REFUSED] * 3).health == "Unhealthy"


@pytest.mark.parametrize("check", [HealthCheck(fall=2), HealthCheck(tcp=TcpCheck(), interval_seconds=5)])
def test_other_times_and_thresholds_count_on(check: HealthCheck) -> None:
    state = observe(observe(HEALTHY, REFUSED, LATER), REFUSED, LATER)
    assert after(revise(state, SUBJECT._replace(check=check), LATER), [REFUSED]).health == "Unhealthy"


def test_states_follow_the_endpoints() -> None:
    new = Subject("203.0.113.13", 80, CHECK)
    followed = follow(
        {"known": HEALTHY, "gone": HEALTHY},
        {"known": SUBJECT, "backend1": SUBJECT, "new": new},
        [status(), status(name="known"), status(name="gone")],
        LATER,
    )
    assert followed == {"known": HEALTHY, "backend1": UNHEALTHY, "new": initial(new, LATER)}


def test_what_is_renamed_keeps_its_verdict() -> None:
    other = Subject("203.0.113.12", 80, CHECK)
    ported = Subject("203.0.113.11", 81, CHECK)
    written = [status(name="old"), replace(status(name="old81"), port=81, health="Healthy", message=None)]
    states = {"old": UNHEALTHY, "old81": State(ported, HEALTHY.verdict)}
    wanted = {"new": SUBJECT, "new81": ported, "other": other}
    for known in (states, {}):
        assert {name: state.verdict for name, state in follow(known, wanted, written, LATER).items()} == {
            "new": UNHEALTHY.verdict,
            "new81": RESUMED.verdict,
            "other": Verdict("Unknown", LATER),
        }
    assert follow(states, {"old": SUBJECT, "new": SUBJECT}, written, LATER)["new"].verdict.health == "Unknown"


# --- what is checked ----------------------------------------------------------------------------------------------


def spec(*ports: ExternalServicePort, check: HealthCheck | None = CHECK) -> ExternalServiceSpec:
    return ExternalServiceSpec(ports=list(ports), health_check=check)


UDP = ExternalServicePort(port=53, protocol="UDP")


@pytest.mark.parametrize(
    ("checked", "port", "check"),
    [
        (spec(ExternalServicePort(port=9000)), 9000, CHECK),
        (spec(ExternalServicePort(port=9000, target_port=80)), 80, CHECK),
        (spec(UDP, ExternalServicePort(port=9000, target_port=80)), 80, CHECK),
        (spec(UDP), 53, None),
        (spec(UDP, check=HealthCheck(port=8053)), 53, HealthCheck(port=8053)),
        (spec(ExternalServicePort(port=9000), check=None), 9000, None),
        (spec(), 0, None),
    ],
)
def test_the_first_tcp_port_is_checked(checked: ExternalServiceSpec, port: int, check: HealthCheck | None) -> None:
    endpoint = Endpoint("backend1", "203.0.113.11", "addresses")
    assert subjects(checked, [endpoint]) == {"backend1": Subject("203.0.113.11", port, check)}


def test_an_endpoint_s_own_port_is_checked() -> None:
    endpoint = Endpoint("backend1", "203.0.113.11", "addresses", port=8080)
    assert subjects(spec(ExternalServicePort(port=9000)), [endpoint])["backend1"].port == 8080


# --- which are ready ----------------------------------------------------------------------------------------------


def verdicts(turning: str = "", **health: Health) -> dict[str, Verdict]:
    """`turning`: the names of those whose last check says otherwise."""
    return {name: Verdict(each, turning=name in turning) for name, each in health.items()}


def test_healthy_and_unchecked_ones_are_ready_and_unknown_ones_if_they_were() -> None:
    mixed = verdicts(a="Healthy", b="Unhealthy", c="Unknown", d="Unknown", e="Unchecked")
    assert ready_set({"b", "c"}, mixed, 0) == Published(frozenset("ace"), frozen=False)


def test_where_none_is_healthy_what_was_ready_stays_until_one_is() -> None:
    down = verdicts(a="Unhealthy", b="Unhealthy", c="Unhealthy")
    assert ready_set({"a", "b"}, down, 0) == Published(frozenset("ab"), frozen=True)
    one_is_back = {**down, "c": Verdict("Healthy")}
    assert ready_set({"a", "b"}, one_is_back, 0) == Published(frozenset("c"), frozen=False)


def test_what_was_never_ready_is_not_made_so() -> None:
    assert ready_set(set(), verdicts(a="Unhealthy", b="Unhealthy"), 0) == Published(frozenset(), frozen=False)


def test_the_threshold_is_met_exactly() -> None:
    third = verdicts(a="Healthy", b="Unhealthy", c="Unhealthy")
    assert not ready_set({"a", "b", "c"}, third, 33).frozen
    assert ready_set({"a", "b", "c"}, third, 34) == Published(frozenset("abc"), frozen=True)
    half = verdicts(a="Healthy", b="Unhealthy")
    assert not ready_set({"a", "b"}, half, 49).frozen
    assert ready_set({"a", "b"}, half, 50).frozen


def test_those_of_which_nothing_is_known_or_asked_do_not_count_for_the_threshold() -> None:
    half = verdicts(a="Healthy", b="Unhealthy", c="Unknown", d="Unknown", e="Unknown", f="Unchecked")
    assert ready_set({"a", "b"}, half, 49) == Published(frozenset("af"), frozen=False)
    assert ready_set({"a", "b"}, half, 50).frozen


def test_the_first_to_fall_of_all_is_not_taken_out() -> None:
    """Where checks fail for want of a network here, they do so one after the other, within an interval."""
    names = {"a", "b", "c"}
    first = verdicts("bc", a="Unhealthy", b="Healthy", c="Healthy")
    assert ready_set(names, first, 0) == Published(frozenset(names), frozen=True)
    one_passes = verdicts("b", a="Unhealthy", b="Healthy", c="Healthy")
    assert ready_set(names, one_passes, 0) == Published(frozenset("bc"), frozen=False)


def test_the_first_to_recover_of_all_need_not_serve_for_all() -> None:
    names = {"a", "b", "c"}
    first = verdicts("b", a="Healthy", b="Unhealthy", c="Unhealthy")
    assert ready_set(names, first, 0) == Published(frozenset("ab"), frozen=True)
    assert ready_set({"a"}, first, 0) == Published(frozenset("a"), frozen=False)


@pytest.mark.parametrize("count", [2, 5])
def test_while_nothing_can_be_checked_from_here_none_is_taken_out_and_none_when_it_can_again(count: int) -> None:
    """All fail from the fourth round of checks to the ninth, each in its turn, and each turn is looked at."""
    names = [f"b{number}" for number in range(count)]
    states = {name: initial(SUBJECT, START) for name in names}
    ready: frozenset[str] = frozenset()
    for turn in range(15):
        for name in names:
            outcome = REFUSED if 4 <= turn < 10 else WORKS
            states[name] = observe(states[name], outcome, LATER)
            before, ready = ready, ready_set(ready, {one: state.verdict for one, state in states.items()}, 0).ready
            assert ready >= before
    assert ready == set(names)


def test_healthy_ones_are_added_below_the_threshold_too() -> None:
    assert ready_set({"a"}, verdicts(a="Unhealthy", b="Healthy"), 100) == Published(frozenset("ab"), frozen=True)


NAMES = st.sampled_from("abcdef")
VERDICTS = st.dictionaries(NAMES, st.builds(Verdict, st.sampled_from(get_args(Health)), turning=st.booleans()))


@given(st.frozensets(NAMES), VERDICTS, st.integers(0, 100))
def test_readiness(previous: frozenset[str], those: dict[str, Verdict], threshold: int) -> None:
    published = ready_set(previous, those, threshold)
    assert published.ready <= those.keys()
    healthy = {name for name, verdict in those.items() if verdict.health == "Healthy"}
    unhealthy = {name for name, verdict in those.items() if verdict.health == "Unhealthy"}
    turning = {name for name, verdict in those.items() if verdict.turning}
    assert healthy <= published.ready
    assert bool(published.ready & unhealthy) == published.frozen
    assert published.ready & unhealthy <= previous, "an unhealthy one is never made ready"
    if previous & those.keys():
        assert published.ready, "what was ready is never emptied"
    if published.ready & unhealthy - turning:
        assert len(healthy - turning) / (len(healthy) + len(unhealthy)) <= threshold / 100 + 1e-9
        assert previous & those.keys() <= published.ready
    if not unhealthy:
        assert not published.frozen
    assert ready_set(published.ready, those, threshold) == published, "nothing changes by itself"
