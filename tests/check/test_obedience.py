"""What follows from a trial of the service proxy."""

from typing import Any

import pytest

from moorage.check.facts import Heard, Known, Left, Outcome, Tried, Unread
from moorage.check.findings import Finding, status
from moorage.check.obedience import judge
from moorage.check.plan import AGENTS, NODES, SERVERS, ZONES, Plan, Way

WAY = Way({}, {"n1": "b", "n2": "a"})
PLAN = Plan(
    ("n1", "n2"), 3, dict(zip(SERVERS, ("n1", "n2"), strict=True)), dict.fromkeys((NODES, ZONES, AGENTS), WAY)
)
RIGHT = {"n1": Heard({"b": 30}, 0, ""), "n2": Heard({"a": 30}, 0, "")}
LOST = Heard({}, 3, "timed out")


def judged(way: str = NODES, **heard: Known[Heard]) -> list[Finding]:
    """What is said if all is right but for this."""
    every: dict[str, Any] = {
        node: {**dict.fromkeys((NODES, ZONES, AGENTS), right), way: heard.get(node, right)}
        for node, right in RIGHT.items()
    }
    silent = {node: each for node, each in heard.items() if isinstance(each, Unread)}
    return judge(Outcome(Tried(PLAN, {**every, **silent})))


def found(findings: list[Finding], check: str) -> Finding:
    (finding,) = (each for each in findings if each.check == check)
    return finding


def test_where_hints_are_obeyed_all_passes_and_there_is_nothing_to_do() -> None:
    what = "every connection went where it should, on 2 of 3 nodes"
    names = ("hints to nodes", "hints to zones", "carried by agents")
    assert judged() == [Finding(name, "pass", what) for name in names]


@pytest.mark.parametrize(
    ("way", "check", "do"),
    [
        (NODES, "hints to nodes", "use proxy: moorage for ExternalServices with client: Node"),
        (ZONES, "hints to zones", "use proxy: moorage for ExternalServices with client: Zone"),
        (AGENTS, "carried by agents", "see whether agents are of this version"),
    ],
)
def test_connections_that_go_elsewhere_fail_and_the_others_pass(way: str, check: str, do: str) -> None:
    findings = judged(way, n1=Heard({"b": 17, "a": 13}, 0, ""))
    finding = found(findings, check)
    assert finding.verdict == "fail"
    assert finding.what.endswith(" on n1: 13 of 30 connections from n1 went elsewhere")
    assert finding.do.startswith(do)
    assert [each.verdict for each in findings if each.check != check] == ["pass", "pass"]


def test_one_that_nobody_who_should_has_answered_is_told_like_one_that_some_have() -> None:
    what = found(judged(n2=Heard({"b": 30}, 0, "")), "hints to nodes").what
    assert what == "the service proxy ignores them on n2: 30 of 30 connections from n2 went elsewhere"


@pytest.mark.parametrize(
    ("way", "check", "do"),
    [(NODES, "hints to nodes", "kube-proxy"), (AGENTS, "carried by agents", "the logs of the agents")],
)
def test_connections_that_fail_are_no_disobedience(way: str, check: str, do: str) -> None:
    finding = found(judged(way, n2=LOST), check)
    assert finding[:3] == (check, "fail", "connections to a Service's address fail on n2: n2: timed out")
    assert do in finding.do


def test_a_node_that_fails_and_one_that_ignores_hints_are_two_lines() -> None:
    findings = judged(n1=Heard({"a": 30}, 0, ""), n2=LOST)
    assert [each.what.partition(" on ")[0] for each in findings if each.verdict == "fail"] == [
        "the service proxy ignores them",
        "connections to a Service's address fail",
    ]


def test_a_node_whose_pod_says_nothing_is_unknown() -> None:
    findings = judged(n1=Unread("0/3 nodes are available"))
    assert {each.verdict for each in findings} == {"unknown"}
    assert findings[0].what == "no pod could try it on n1: n1: 0/3 nodes are available"
    assert status(findings) == 2
    tried = Tried(PLAN, {"n1": {NODES: RIGHT["n1"]}, "n2": {NODES: RIGHT["n2"]}})
    assert [each.verdict for each in judge(Outcome(tried))] == ["pass", "unknown", "unknown"]


def test_what_could_not_be_tried_at_all_is_one_line() -> None:
    (finding,) = judge(Outcome(Unread("you may not create namespaces")))
    assert finding[:3] == ("behaviour", "unknown", "you may not create namespaces")
    assert "--behaviour-namespace" in finding.do


def test_what_is_left_behind_is_told_with_the_command_that_deletes_it() -> None:
    findings = judge(Outcome(Unread("interrupted"), Left("kubectl delete namespace x", "no connection")))
    assert [each.check for each in findings] == ["behaviour", "clean-up"]
    assert findings[1].verdict == "warn"
    assert findings[1].what.endswith("no connection")
    assert findings[1].do == "kubectl delete namespace x"


def test_each_is_one_line_and_what_does_not_pass_says_what_to_do() -> None:
    for finding in judged(n1=Heard({"a": 1}, 3, "timed out"), n2=Unread("no")):
        assert "\n" not in finding.what + finding.do
        assert finding.do
