"""What follows from the facts."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from moorage import __version__
from moorage.api.crds import custom_kinds, schema
from moorage.api.kinds import kind_of
from moorage.api.moorings_v1alpha1 import Mooring
from moorage.check.facts import (
    Agent,
    Cilium,
    Definition,
    Facts,
    KubeProxy,
    Leader,
    Pod,
    Policy,
    Told,
    Unread,
    Workload,
)
from moorage.check.findings import NEWEST, OLDEST, Finding, counted, judge, status

SUPPORT = (Path(__file__).parents[2] / "docs/support.md").read_text()
TOLD = Told(__version__, "1.1.3")
MOORINGS = "moorings.moorage.dev"
DEFINITIONS = {
    f"{kind.plural}.{kind.group}": Definition(established=True, schemas={kind.version: schema(kind)})
    for kind in custom_kinds()
}


def pod(name: str, *, ready: bool = True, running: bool = True, trouble: str = "") -> Pod:
    return Pod(name, f"node-{name}", ready, running, trouble)


def agents(*pods: Pod, wanted: int | None = None) -> Workload:
    return Workload(len(pods) if wanted is None else wanted, sum(each.ready for each in pods), ("moorage:1",), pods)


WELL = Facts(
    version="v1.37.2",
    before=False,
    groups=frozenset({"moorage.dev/v1alpha1", "admissionregistration.k8s.io/v1"}),
    definitions=dict(DEFINITIONS),
    operator=Workload(2, 2, ("moorage:1",), (pod("x"), pod("y"))),
    leader=Leader("moorage-operator-x", "2027-01-01T00:00:00.000000Z", renews=True),
    agents=agents(pod("a"), pod("b")),
    answers=(Agent("node-a", told=TOLD), Agent("node-b", told=TOLD)),
    policy=Policy(fails_closed=True, denies=True),
    missing={"operator": (), "agent": ()},
    kube_proxy=KubeProxy("nftables"),
)
BEFORE = Facts(version="v1.37.2", before=True, missing={"you": ()}, kube_proxy=KubeProxy(""))
NOT_ALLOWED = Unread("deployments.apps is forbidden")


def found(facts: Facts, check: str) -> Finding:
    """The one finding of this name."""
    (finding,) = (each for each in judge(facts) if each.check == check)
    return finding


def defined(**changes: Any) -> Facts:
    """With another definition of Mooring."""
    return replace(WELL, definitions={**DEFINITIONS, MOORINGS: DEFINITIONS[MOORINGS]._replace(**changes)})


def schemas(change: Any) -> Facts:
    kind = kind_of(Mooring)
    changed = copy.deepcopy(schema(kind))
    change(changed["properties"]["spec"]["properties"])
    return defined(schemas={kind.version: changed})


def test_where_all_is_well_all_passes_and_there_is_nothing_to_do() -> None:
    for facts in (WELL, BEFORE):
        findings = judge(facts)
        assert {(each.verdict, each.do) for each in findings} == {("pass", "")}
        assert status(findings) == 0
    assert [each.check for each in judge(WELL)] == [
        *("Kubernetes", "CRD externalservices", "CRD moorings", "operator", "leader", "rights of operator", "policy"),
        *("node agents", "agent version", "kernels", "conntrack", "nft", "rights of agent", "kube-proxy"),
    ]
    assert [each.check for each in judge(BEFORE)] == ["Kubernetes", "kube-proxy", "your rights"]


def test_the_status_is_that_of_the_worst_and_failure_is_more_certain_than_ignorance() -> None:
    def verdicts(*of: Any) -> list[Finding]:
        return [Finding("", each, "") for each in of]

    assert status(verdicts("pass", "warn")) == 0
    assert status(verdicts("pass", "unknown", "warn")) == 2
    assert status(verdicts("unknown", "fail")) == 1
    assert counted(verdicts("pass", "unknown", "warn", "pass")) == "2 pass, 1 warn, 1 unknown"


def test_what_does_not_pass_says_what_to_do_and_each_is_one_line() -> None:
    of = [facts for facts, *_ in (*FAILING.values(), *WARNING.values())]
    for facts in (*of, *UNKNOWN.values(), replace(WELL, version=NOT_ALLOWED)):
        for finding in judge(facts):
            assert finding.verdict == "pass" or finding.do
            assert "\n" not in finding.what + finding.do


def test_an_api_server_that_does_not_answer_is_all_that_is_said() -> None:
    (finding,) = judge(replace(WELL, version=Unread("no connection")))
    assert finding[:3] == ("API server", "unknown", "no connection")


@pytest.mark.parametrize(
    ("version", "verdict"),
    [
        ("v1.34.4", "fail"),
        ("v1.35.0", "pass"),
        ("v1.35.4-eks-1a2b3c", "pass"),
        ("v1.37.2+k3s1", "pass"),
        ("v1.38.0-alpha.1", "warn"),
        ("v2.0.0", "warn"),
        ("main", "unknown"),
    ],
)
def test_releases_of_kubernetes(version: str, verdict: str) -> None:
    assert found(replace(WELL, version=version), "Kubernetes").verdict == verdict


def test_the_releases_are_those_of_the_support_matrix() -> None:
    rows = re.findall(r"^\| (1\.\d+) \|", SUPPORT, re.MULTILINE)
    assert (min(rows), max(rows)) == tuple(".".join(map(str, each)) for each in (OLDEST, NEWEST))


FAILING = {
    "no definition": (replace(WELL, groups=frozenset(), definitions={}), "CRD moorings", "there is none"),
    "one of another version": (defined(schemas={"v1": {}}), "CRD moorings", "v1alpha1 is not among"),
    "one that is not established": (defined(established=False), "CRD moorings", "not served yet"),
    "one without a field": (schemas(lambda spec: spec.pop("endpoint")), "CRD moorings", "lacks .spec.endpoint"),
    "one with another rule": (
        schemas(lambda spec: spec["endpoint"].update(maxLength=7)),
        "CRD moorings",
        "other values",
    ),
    "no operator": (replace(WELL, operator=None), "operator", "no Deployment moorage-system/moorage-operator"),
    "an operator that is stopped": (replace(WELL, operator=Workload(0, 0, (), ())), "operator", "scaled to 0"),
    "an operator that does not start": (
        replace(WELL, operator=Workload(2, 0, (), (pod("x", ready=False, trouble="ErrImagePull: no"),))),
        "operator",
        "0 of 2 replicas available: ErrImagePull: no",
    ),
    "no leader yet": (replace(WELL, leader=None), "leader", "no operator leads"),
    "no leader": (replace(WELL, leader=Leader("", "", renews=False)), "leader", "no operator leads"),
    "a leader that is gone": (replace(WELL, leader=Leader("x", "", renews=False)), "leader", "x holds the Lease"),
    "a right that is missing": (
        replace(WELL, missing={"operator": ("a", "b", "c", "d", "e")}),
        "rights of operator",
        "may not a, b, c and 2 more",
    ),
    "no policy": (replace(WELL, policy=None), "policy", "moorage-moorings is not there"),
    "a policy that only warns": (replace(WELL, policy=Policy(True, False)), "policy", "its binding does not deny"),
    "a policy that fails open": (replace(WELL, policy=Policy(False, True)), "policy", "failurePolicy"),
    "Services for agents without agents": (replace(WELL, agents=None, carried=True), "node agents", "nobody else"),
    "an agent that says why": (
        replace(
            WELL,
            agents=agents(pod("a"), pod("b", ready=False)),
            answers=(Agent("node-a", told=TOLD), Agent("node-b", "the kernel is old", TOLD)),
        ),
        "node agents",
        "1 of 2 nodes have one that is ready: node-b: the kernel is old",
    ),
    "an agent that does not start": (
        replace(WELL, agents=agents(pod("a"), pod("b", ready=False, running=False, trouble="Error: no nft"))),
        "node agents",
        "node-b: Error: no nft",
    ),
    "an agent without words": (
        replace(WELL, agents=agents(pod("b", ready=False))),
        "node agents",
        "0 of 1 nodes have one that is ready: node-b: not ready",
    ),
    "a node without an agent": (
        replace(WELL, agents=agents(pod("a"), wanted=2)),
        "node agents",
        "some nodes have no",
    ),
    "agents whose pods are not ours to list": (
        replace(WELL, agents=Workload(2, 1, (), Unread("pods is forbidden"))),
        "node agents",
        "1 of 2 nodes have one that is ready: pods is forbidden",
    ),
    "a kernel that is not up to date": (
        replace(WELL, answers=(Agent("node-a", told=TOLD._replace(behind_seconds=61.0)),)),
        "kernels",
        "for more than 60 seconds on node-a",
    ),
    "Cilium in the place of kube-proxy, with agents": (
        replace(WELL, cilium=Cilium(replaces_kube_proxy=True)),
        "Cilium",
        "cannot work beside it",
    ),
    "an account that may not install": (replace(BEFORE, missing={"you": ("create x",)}), "your rights", "create x"),
}


@pytest.mark.parametrize("name", FAILING)
def test_what_fails(name: str) -> None:
    facts, check, words = FAILING[name]
    finding = found(facts, check)
    assert finding.verdict == "fail"
    assert words in finding.what
    assert status(judge(facts)) == 1


def test_one_failure_is_no_other() -> None:
    facts, check, _ = FAILING["no policy"]
    assert [each.check for each in judge(facts) if each.verdict != "pass"] == [check]


ODD = TOLD._replace(warnings=1)
WARNING = {
    "kinds that something else serves": (
        replace(WELL, definitions=dict.fromkeys(DEFINITIONS)),
        "CRD moorings",
        "by no CustomResourceDefinition",
    ),
    "a newer definition": (
        schemas(lambda spec: spec.update(more={"type": "string"})),
        "CRD moorings",
        "it has .spec.more",
    ),
    "one replica of two": (
        replace(WELL, operator=Workload(2, 1, (), (pod("x"), pod("y", ready=False)))),
        "operator",
        "1 of 2 replicas available",
    ),
    "nobody says who may do what": (replace(WELL, missing={"agent": None}), "rights of agent", "does not say"),
    "nobody says what you may": (replace(BEFORE, missing={"you": None}), "your rights", "does not say"),
    "an API server without policies": (replace(WELL, groups=frozenset(), policy=None), "policy", "has no policies"),
    "agents of another version": (
        replace(WELL, answers=(Agent("node-a", told=TOLD._replace(version="9.9.9")),)),
        "agent version",
        f"9.9.9, and this program is {__version__}",
    ),
    "a warning of an agent": (replace(WELL, answers=(Agent("node-a", told=ODD),)), "kernels", "left out"),
    "a kernel that picks up nothing": (
        replace(WELL, answers=(Agent("node-a", told=TOLD._replace(tcp_loose=False)),)),
        "conntrack",
        "nf_conntrack_tcp_loose is 0 on node-a",
    ),
    "an nft that learns no IPv6": (
        replace(WELL, answers=(Agent("node-a", told=TOLD._replace(learns_ipv6=False, nft="1.0.6")),)),
        "nft",
        "1.0.6 cannot learn IPv6 sessions on node-a",
    ),
    "no kube-proxy to be seen": (replace(WELL, kube_proxy=None), "kube-proxy", "no object of it"),
    "a mode that nobody tests": (replace(WELL, kube_proxy=KubeProxy("ipvs")), "kube-proxy", "ipvs"),
    "Cilium beside kube-proxy": (
        replace(WELL, cilium=Cilium(replaces_kube_proxy=False)),
        "Cilium",
        "ignores the hints",
    ),
    "Cilium in its place, before": (
        replace(BEFORE, cilium=Cilium(replaces_kube_proxy=True)),
        "Cilium",
        "cannot work beside it",
    ),
    "Cilium in its place, without agents": (
        replace(WELL, agents=None, answers=(), missing={}, cilium=Cilium(replaces_kube_proxy=True)),
        "Cilium",
        "cannot work beside it",
    ),
}


@pytest.mark.parametrize("name", WARNING)
def test_what_is_a_warning(name: str) -> None:
    facts, check, words = WARNING[name]
    finding = found(facts, check)
    assert finding.verdict == "warn"
    assert words in finding.what
    assert status(judge(facts)) == 0


UNKNOWN = {
    "operator": replace(WELL, operator=NOT_ALLOWED),
    "leader": replace(WELL, leader=NOT_ALLOWED),
    "CRD moorings": replace(WELL, definitions={**DEFINITIONS, MOORINGS: NOT_ALLOWED}),
    "rights of operator": replace(WELL, missing={"operator": NOT_ALLOWED}),
    "your rights": replace(BEFORE, missing={"you": NOT_ALLOWED}),
    "policy": replace(WELL, policy=NOT_ALLOWED),
    "node agents": replace(WELL, agents=NOT_ALLOWED, answers=()),
    "kernels": replace(WELL, answers=(Agent("node-a", told=NOT_ALLOWED),)),
    "kube-proxy": replace(WELL, kube_proxy=NOT_ALLOWED),
    "Cilium": replace(WELL, cilium=NOT_ALLOWED),
}


@pytest.mark.parametrize("check", UNKNOWN)
def test_what_cannot_be_read_is_unknown_with_the_server_s_words(check: str) -> None:
    finding = found(UNKNOWN[check], check)
    assert finding.verdict == "unknown"
    assert NOT_ALLOWED.why in finding.what
    assert status(judge(UNKNOWN[check])) == 2


def test_descriptions_do_not_count_and_a_field_of_that_name_does() -> None:
    assert (
        found(schemas(lambda spec: spec["endpoint"].update(description="Other.")), "CRD moorings").verdict == "pass"
    )
    with_field = schemas(lambda spec: spec.update(description={"type": "string"}))
    assert "it has .spec.description" in found(with_field, "CRD moorings").what


def test_without_agents_and_without_need_of_them_nothing_is_wrong() -> None:
    facts = replace(WELL, agents=None, answers=(), missing={"operator": ()})
    assert found(facts, "node agents").verdict == "pass"
    assert "kernels" not in {each.check for each in judge(facts)}


def test_where_some_agents_answer_the_others_are_told_of() -> None:
    answers = (Agent("node-a", told=TOLD), Agent("node-b", told=NOT_ALLOWED))
    facts = replace(WELL, answers=answers)
    assert found(facts, "kernels").verdict == "unknown"
    assert "1 of 2 agents could not be asked: node-b" in found(facts, "kernels").what
    assert found(facts, "nft").what.startswith("1.1.3 on 1 of 2 nodes")


def test_agents_of_many_nodes_are_counted_and_not_listed() -> None:
    strict = TOLD._replace(tcp_loose=False)
    facts = replace(WELL, answers=tuple(Agent(f"n{number}", told=strict) for number in range(50)))
    assert "on n0, n1, n10 and 47 more" in found(facts, "conntrack").what


def test_before_an_installation_nothing_is_said_of_what_is_not_there() -> None:
    facts = replace(BEFORE, operator=None, leader=None, definitions=dict.fromkeys(DEFINITIONS))
    assert judge(facts) == judge(BEFORE)
    assert not facts.installed
    assert replace(facts, leader=Leader("", "", renews=False)).installed
    assert not replace(facts, leader=NOT_ALLOWED).installed


def test_whoever_may_not_read_definitions_sees_by_the_api_s_groups_that_they_are_there() -> None:
    facts = replace(BEFORE, definitions=dict.fromkeys(DEFINITIONS, NOT_ALLOWED))
    assert not facts.installed
    assert replace(facts, groups=WELL.groups).installed
    assert not replace(BEFORE, definitions=dict.fromkeys(DEFINITIONS), groups=WELL.groups).installed
