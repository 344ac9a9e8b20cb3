"""How the steps of a plan are done."""

import threading

import pytest

from e2e.churn.faults import Step
from e2e.churn.play import play
from e2e.harness.errors import HarnessError

SECONDS = 30


def test_a_lane_does_not_wait_for_another_and_its_steps_do_for_each_other() -> None:
    done: list[str] = []
    late = threading.Event()

    def do(step: Step) -> None:
        if step.target == "first":
            assert late.wait(SECONDS)
        done.append(step.target)
        if step.target == "third":
            late.set()

    play(
        do,
        [
            Step(0.0, "specs", "drain endpoint", "first"),
            Step(0.01, "specs", "keep endpoint", "second"),
            Step(0.02, "pods", "move pod", "third"),
        ],
    )
    assert done == ["third", "first", "second"]


def test_a_step_that_fails_says_which_it_was_and_ends_all() -> None:
    done: list[str] = []

    def do(step: Step) -> None:
        if step.target == "failing":
            raise HarnessError("no")
        done.append(step.target)

    with pytest.raises(HarnessError, match="no") as raised:
        play(
            do,
            [
                Step(0.0, "pods", "move pod", "before"),
                Step(0.2, "specs", "drain endpoint", "failing"),
                Step(0.3, "specs", "keep endpoint", "after"),
                Step(600.0, "pods", "move pod", "long after"),
            ],
        )
    assert raised.value.__notes__ == ["while this was done:     0.2 drain endpoint failing"]
    assert done == ["before"]


def test_no_steps_are_done_at_once() -> None:
    play(lambda step: pytest.fail(str(step)), [])
