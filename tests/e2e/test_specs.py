"""What became of Kubernetes' own specs, as their report tells."""

import json

from e2e.harness.specs import states

AFFINITY = "should have session affinity"
NAME = f"[sig-network] Services {AFFINITY}"


def report(*specs: dict[str, object]) -> str:
    return json.dumps([{"SuiteSucceeded": True, "SpecReports": specs}])


def spec(state: str, kind: str = "It", name: str = AFFINITY) -> dict[str, object]:
    containers = ["[sig-network] Services"] if kind == "It" else None
    return {"ContainerHierarchyTexts": containers, "LeafNodeType": kind, "LeafNodeText": name, "State": state}


def test_specs_that_ran_are_told_by_their_full_names() -> None:
    assert states(report(spec("passed"), spec("failed", name="fails"))) == {
        NAME: "passed",
        "[sig-network] Services fails": "failed",
    }


def test_what_was_not_in_focus_did_not_run() -> None:
    assert states(report(spec("skipped"), spec("pending"))) == {}


def test_a_suite_that_failed_before_its_specs_has_run_none() -> None:
    assert states(report(spec("failed", "SynchronizedBeforeSuite", ""), spec("skipped"))) == {}


def test_one_that_did_not_end_has_not_passed() -> None:
    assert states(report(spec("interrupted"))) == {NAME: "interrupted"}
