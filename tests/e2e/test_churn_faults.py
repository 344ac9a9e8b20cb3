"""What is planned to go wrong in a churn run."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2e.churn.faults import LANES, Cast, Step, plan

CAST = Cast(("one", "two"), ("e1", "e2", "e3"), ("n1", "n2"), ("frontend", "worker"))
ENDS = {fault.begin: fault.end for lane in LANES.values() for fault in lane.faults if fault.end}
SHORT = 75.0
"""Seconds of the run in CI."""

planned = given(st.integers(0, 2**32), st.floats(0, 600))


@planned
def test_a_seed_says_all(seed: int, seconds: float) -> None:
    steps = plan(seed, seconds, CAST)
    assert plan(seed, seconds, CAST) == steps
    assert [each.at for each in steps] == sorted(each.at for each in steps)
    assert all(0 <= each.at <= seconds for each in steps)


@planned
def test_a_longer_run_begins_as_a_shorter_one(seed: int, seconds: float) -> None:
    for lane in LANES:
        short, long = (in_lane(plan(seed, each, CAST), lane) for each in (seconds, 2 * seconds))
        assert long[: len(short)] == short


def test_another_seed_is_another_plan() -> None:
    assert plan(1, SHORT, CAST) != plan(2, SHORT, CAST)


@planned
def test_in_a_lane_one_fault_ends_before_the_next_begins_and_in_the_end_all_are_over(
    seed: int, seconds: float
) -> None:
    for lane in LANES:
        waiting: Step | None = None
        for step in in_lane(plan(seed, seconds, CAST), lane):
            if waiting:
                assert step == waiting._replace(at=step.at, what=ENDS[waiting.what])
                waiting = None
            elif step.what in ENDS:
                waiting = step
        assert waiting is None


@planned
def test_between_two_faults_of_a_lane_there_is_a_pause(seed: int, seconds: float) -> None:
    for name, lane in LANES.items():
        for early, late in pairwise(in_lane(plan(seed, seconds, CAST), name)):
            assert late.at - early.at >= (min(lane.pause) if late.what not in ENDS.values() else 1)


@planned
def test_each_service_always_has_an_endpoint_that_takes_clients(seed: int, seconds: float) -> None:
    """However late the steps of one lane are, compared with those of the others."""
    steps = plan(seed, seconds, CAST)
    failing = states(in_lane(steps, "endpoints"), lambda step: step.target)
    specs = states(in_lane(steps, "specs"), lambda step: f"{step.service}/{step.target}")
    for service in CAST.services:
        for lost in failing:
            for changed in specs:
                taken = lost | {each.partition("/")[2] for each in changed if each.startswith(f"{service}/")}
                assert taken < set(CAST.endpoints)


def states(steps: Sequence[Step], name: Callable[[Step], str]) -> set[frozenset[str]]:
    """All sets of names that have a fault at the same time."""
    now = frozenset[str]()
    found = {now}
    for step in steps:
        if step.what in ENDS:
            now |= {name(step)}
        elif step.what in ENDS.values():
            now -= {name(step)}
        found.add(now)
    return found


@given(st.integers(0, 2**32))
def test_each_kind_of_fault_happens_in_a_short_run(seed: int) -> None:
    done = {step.what for step in plan(seed, SHORT, CAST)}
    assert done == {each for lane in LANES.values() for fault in lane.faults for each in (fault.begin, fault.end)} - {
        None
    }


def test_what_a_fault_is_about_is_of_the_cast() -> None:
    for step in plan(3, 600, CAST):
        assert step.target in ("", *CAST.endpoints, *CAST.nodes, *CAST.workloads)
        assert step.service in ("", *CAST.services)


def test_with_few_endpoints_there_is_no_plan() -> None:
    with pytest.raises(ValueError, match="at least 3 endpoints, not 2"):
        plan(1, SHORT, CAST._replace(endpoints=("e1", "e2")))


def test_a_step_says_what_it_is() -> None:
    assert str(Step(3.25, "specs", "drain endpoint", "e1", "one")) == "    3.2 drain endpoint e1 one"


def in_lane(steps: Sequence[Step], lane: str) -> list[Step]:
    return [step for step in steps if step.lane == lane]
