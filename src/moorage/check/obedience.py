"""Judges a trial of the service proxy. Pure."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from moorage.check.facts import Heard, Known, Outcome, Tried, Unread
from moorage.check.findings import Finding, few
from moorage.check.plan import AGENTS, NODES, ZONES

CHECK = "behaviour"
"""What could not be tried at all."""


class _Words(NamedTuple):
    check: str
    disobeyed: str
    """Who does not do what, on these nodes."""
    do: str
    do_if_failed: str


_KUBE_PROXY = "see whether kube-proxy, or what stands in for it, runs there, and what NetworkPolicies forbid pods"
_ELSE = "use proxy: moorage for ExternalServices with client: {}, or moor by client: Namespace (docs/moorings.md)"
_WORDS = {
    NODES: _Words("hints to nodes", "the service proxy ignores them", _ELSE.format("Node"), _KUBE_PROXY),
    ZONES: _Words("hints to zones", "the service proxy ignores them", _ELSE.format("Zone"), _KUBE_PROXY),
    AGENTS: _Words(
        "carried by agents",
        "node agents ignore hints, or somebody else leads connections",
        "see whether agents are of this version, and what else on these nodes translates addresses of Services",
        "the logs of the agents of these nodes may say why; something that goes around netfilter may be the reason",
    ),
}


def judge(outcome: Outcome) -> list[Finding]:
    """What follows from it: a line for each way, and one for what it has left behind."""
    return [*_tried(outcome.tried), *_left(outcome)]


def _tried(tried: Known[Tried]) -> Iterator[Finding]:
    if isinstance(tried, Unread):
        do = "put that right and check again; --behaviour-namespace and --image say where it tries, and with what"
        yield Finding(CHECK, "unknown", tried.why, do)
        return
    for name, way in tried.plan.ways.items():
        heard = {node: _of(tried.heard[node], name) for node in way.lead}
        yield from _way(_WORDS[name], heard, way.lead, tried.plan.every)


def _of(heard: Known[Mapping[str, Heard]], way: str) -> Known[Heard]:
    if isinstance(heard, Unread):
        return heard
    return heard.get(way, Unread("its pod says nothing of it"))


def _way(words: _Words, heard: Mapping[str, Known[Heard]], lead: Mapping[str, str], every: int) -> Iterator[Finding]:
    silent = {node: each.why for node, each in heard.items() if isinstance(each, Unread)}
    said = {node: each for node, each in heard.items() if isinstance(each, Heard)}
    failed = {node: each.why for node, each in said.items() if each.failed}
    astray = {node: each for node, each in said.items() if set(each.answers) - {lead[node]}}
    if astray:
        node, row = next(iter(astray.items()))
        wrong = sum(many for name, many in row.answers.items() if name != lead[node])
        of = sum(row.answers.values())
        what = f"{words.disobeyed} on {few(astray)}: {wrong} of {of} connections from {node} went elsewhere"
        yield Finding(words.check, "fail", what, words.do)
    if failed:
        node, why = next(iter(failed.items()))
        what = f"connections to a Service's address fail on {few(failed)}: {node}: {why}"
        yield Finding(words.check, "fail", what, words.do_if_failed)
    if silent:
        node, why = next(iter(silent.items()))
        what = f"no pod could try it on {few(silent)}: {node}: {why}"
        yield Finding(words.check, "unknown", what, "see what keeps small pods from running there, and check again")
    if not (astray or failed or silent):
        yield Finding(words.check, "pass", f"every connection went where it should, on {len(said)} of {every} nodes")


def _left(outcome: Outcome) -> Iterator[Finding]:
    if outcome.left is not None:
        what = f"what was made for this check could not be deleted: {outcome.left.why}"
        yield Finding("clean-up", "warn", what, outcome.left.command)
