"""Judges facts: what is right, what is wrong, and what to do. Pure."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, get_args

from moorage import __version__
from moorage.api.crds import custom_kinds, schema, walk
from moorage.api.kinds import Kind
from moorage.check.facts import AGENT_PORT, Cilium, Definition, Facts, Known, Pod, Told, Unread, Workload

Verdict = Literal["pass", "warn", "fail", "unknown"]
OLDEST, NEWEST = (1, 35), (1, 37)
"""The releases of Kubernetes that are supported (docs/support.md)."""
MAX_BEHIND_SECONDS = 60.0
"""An agent whose kernel has not been brought up to date for longer is in trouble."""
MAX_SHOWN = 3
"""Of what is listed in a line; the number of all is there, too."""
_PLACES = {"operator": "deploy/operator", "agent": "deploy/agent"}


class Finding(NamedTuple):
    """One line."""

    check: str
    """What was looked at."""
    verdict: Verdict
    what: str
    """What was found."""
    do: str = ""
    """What to do; `""` if that is nothing."""


def status(findings: Iterable[Finding]) -> int:
    """The exit status: 0 if nothing fails, 1 if something does, 2 if that cannot be told."""
    verdicts = {finding.verdict for finding in findings}
    return 1 if "fail" in verdicts else 2 if "unknown" in verdicts else 0


def counted(findings: Iterable[Finding]) -> str:
    """How many have which verdict: `8 pass, 1 warn`."""
    counts = Counter(finding.verdict for finding in findings)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in get_args(Verdict) if counts[verdict])


def few(of: Iterable[str], between: str = ", ") -> str:
    """The first of them, and how many more there are, for a line."""
    every = list(of)
    rest = len(every) - MAX_SHOWN
    return between.join(every[:MAX_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def judge(facts: Facts) -> list[Finding]:
    """All that can be said of these facts, in the order in which one looks."""
    if isinstance(facts.version, Unread):
        do = "name it with --kubeconfig and --context, or run kubectl proxy and use --server http://127.0.0.1:8001"
        return [Finding("API server", "unknown", facts.version.why, do)]
    carriers = [_carrier(facts), *_cilium(facts)]
    if facts.before:
        return [_kubernetes(facts.version), *carriers, _installer(facts.missing.get("you"))]
    return [
        _kubernetes(facts.version),
        *(_definition(kind, facts) for kind in custom_kinds()),
        _operator(facts),
        _leader(facts),
        *_rights(facts, "operator"),
        _policy(facts),
        *_agents(facts),
        *_rights(facts, "agent"),
        *carriers,
    ]


def _kubernetes(version: str) -> Finding:
    check, found = "Kubernetes", re.match(r"v?(\d+)\.(\d+)", version)
    if found is None:
        return Finding(check, "unknown", f"{version} is no version", "ask the API server for /version")
    release = int(found[1]), int(found[2])
    if release < OLDEST:
        what = f"{version} is older than {_release(OLDEST)}, the oldest that is supported"
        return Finding(check, "fail", what, "upgrade the cluster")
    if release > NEWEST:
        what = f"{version} is newer than {_release(NEWEST)}, the newest that Moorage was tested with"
        return Finding(check, "warn", what, "see whether there is a newer Moorage")
    return Finding(check, "pass", version)


def _release(release: tuple[int, int]) -> str:
    return ".".join(map(str, release))


# --- CustomResourceDefinitions -----------------------------------------------------------------------------------


def _definition(kind: Kind, facts: Facts) -> Finding:
    check, apply = f"CRD {kind.plural}", "kubectl apply -k deploy/crds"
    found = facts.definitions.get(kind.resource)
    if isinstance(found, Unread):
        return _unread(check, found, "use an account that may get customresourcedefinitions")
    if found is None:
        if not isinstance(facts.groups, Unread) and kind.api_version in facts.groups:
            what = f"{kind.api_version} is served, but by no CustomResourceDefinition: its schema cannot be compared"
            return Finding(check, "warn", what, "nothing, where something else than kube-apiserver serves it")
        return Finding(check, "fail", "there is none", apply)
    if kind.version not in found.schemas:
        return Finding(check, "fail", f"{kind.version} is not among the versions that it serves", apply)
    if not found.established:
        return Finding(check, "fail", "it is not served yet", f"kubectl describe crd {kind.resource} says why")
    return _schema(check, kind, found)


def _schema(check: str, kind: Kind, found: Definition) -> Finding:
    want, have = schema(kind), found.schemas[kind.version]
    wanted, had = ({path for path, _ in walk(part)} for part in (want, have))
    update = "kubectl apply -k deploy/crds, or check with the version of Moorage that is installed"
    if lacks := sorted(wanted - had):
        return Finding(check, "fail", f"it lacks {few(lacks)}, which {__version__} knows", update)
    if more := sorted(had - wanted):
        return Finding(check, "warn", f"it has {few(more)}, which {__version__} does not know", update)
    if _rules(want) != _rules(have):
        return Finding(check, "fail", f"it accepts other values than {__version__} does", update)
    return Finding(check, "pass", f"{kind.version}, as {__version__} knows it")


def _rules(part: Any) -> Any:
    """A schema without its descriptions. A field may be called so, too: then it is no text."""
    if isinstance(part, Mapping):
        return {
            name: _rules(each) for name, each in part.items() if not (name == "description" and isinstance(each, str))
        }
    return [_rules(each) for each in part] if isinstance(part, list) else part


# --- The operator ------------------------------------------------------------------------------------------------


def _operator(facts: Facts) -> Finding:
    check, namespace, found = "operator", facts.names.operator, facts.operator
    if isinstance(found, Unread):
        return _unread(check, found, f"use an account that may get deployments in {namespace}")
    if found is None:
        what = f"there is no Deployment {namespace}/moorage-operator"
        return Finding(check, "fail", what, "kubectl apply -k deploy/operator, or say where it is with --namespace")
    many = f"{found.ready} of {found.wanted} replicas available"
    if found.ready >= max(found.wanted, 1):
        return Finding(check, "pass", f"{many}, {', '.join(found.images)}")
    if found.wanted == 0:
        do = f"kubectl -n {namespace} scale deployment/moorage-operator --replicas 2"
        return Finding(check, "fail", "it is scaled to 0 replicas", do)
    verdict: Verdict = "warn" if found.ready else "fail"
    do = f"kubectl -n {namespace} describe pods -l app.kubernetes.io/component=operator"
    return Finding(check, verdict, _with(many, [each for _, each in _troubles(found)]), do)


def _leader(facts: Facts) -> Finding:
    check, found = "leader", facts.leader
    log = f"kubectl -n {facts.names.operator} logs -l app.kubernetes.io/component=operator --prefix says more"
    if isinstance(found, Unread):
        return _unread(check, found, f"use an account that may get leases in {facts.names.operator}")
    if found is None or not found.holder:
        return Finding(check, "fail", "no operator leads", log)
    if not found.renews:
        return Finding(check, "fail", f"{found.holder} holds the Lease, and does not renew it", log)
    return Finding(check, "pass", f"{found.holder}, since {found.since.partition('.')[0]}")


def _policy(facts: Facts) -> Finding:
    check, found, apply = "policy", facts.policy, "kubectl apply -k deploy/operator"
    who = "whoever may write Moorings may also delete those in effect and write their status"
    if isinstance(found, Unread):
        return _unread(check, found, "use an account that may get validatingadmissionpolicies and their bindings")
    if found is None and not _serves(facts, "admissionregistration.k8s.io"):
        return Finding(check, "warn", f"this API server has no policies: {who}", "give that right to few")
    if found is None:
        return Finding(check, "fail", f"ValidatingAdmissionPolicy moorage-moorings is not there: {who}", apply)
    if not found.denies or not found.fails_closed:
        lacks = "its binding does not deny" if not found.denies else "its failurePolicy is not Fail"
        return Finding(check, "fail", f"ValidatingAdmissionPolicy moorage-moorings: {lacks}: {who}", apply)
    return Finding(check, "pass", "moorings are written by whom they should be")


def _serves(facts: Facts, group: str) -> bool:
    """Also where that is not known."""
    return isinstance(facts.groups, Unread) or any(each.partition("/")[0] == group for each in facts.groups)


# --- Rights ------------------------------------------------------------------------------------------------------


def _rights(facts: Facts, component: str) -> Iterator[Finding]:
    if component not in facts.missing:
        return
    check, lacks = f"rights of {component}", facts.missing[component]
    if isinstance(lacks, Unread):
        yield _unread(check, lacks, "use an account that may create subjectaccessreviews")
    elif lacks is None:
        yield Finding(check, "warn", "this API server does not say who may do what", "nothing, if it lets all in")
    elif lacks:
        do = f"kubectl apply -k {_PLACES[component]}"
        yield Finding(check, "fail", f"its account may not {few(lacks)}", do)
    else:
        yield Finding(check, "pass", "its account may do what it has to")


def _installer(lacks: Known[tuple[str, ...] | None]) -> Finding:
    check = "your rights"
    if isinstance(lacks, Unread):
        return _unread(check, lacks, "ask with kubectl auth can-i")
    if lacks is None:
        return Finding(check, "warn", "this API server does not say who may do what", "nothing, if it lets all in")
    if lacks:
        what = f"you may not {few(lacks)}"
        return Finding(check, "fail", what, "have an administrator of the cluster install Moorage")
    return Finding(check, "pass", "you may install Moorage")


# --- Node agents -------------------------------------------------------------------------------------------------


def _agents(facts: Facts) -> Iterator[Finding]:
    check, namespace, found = "node agents", facts.names.agents, facts.agents
    if isinstance(found, Unread):
        yield _unread(check, found, f"use an account that may get daemonsets in {namespace}")
        return
    if found is None:
        if facts.carried is True:
            what = "there are none, and Services with proxy: moorage, which nobody else carries"
            yield Finding(check, "fail", what, "kubectl apply -k deploy/agent, or say where they are with --agents")
        else:
            yield Finding(check, "pass", "there are none, and no Services with proxy: moorage, which need them")
        return
    many = f"{found.ready} of {found.wanted} nodes have one that is ready"
    if found.ready >= found.wanted:
        yield Finding(check, "pass", f"{many}, {', '.join(found.images)}")
    else:
        own = {each.node: each.why_not_ready for each in facts.answers if each.why_not_ready}
        troubles = [f"{node}: {own.get(node) or why or 'not ready'}" for node, why in _troubles(found, every=True)]
        do = f"kubectl -n {namespace} describe pods -l app.kubernetes.io/component=agent"
        if isinstance(found.pods, Unread):
            troubles = [found.pods.why]
        elif len(found.pods) < found.wanted:
            do = f"kubectl -n {namespace} describe daemonset moorage-agent"
            troubles.append("some nodes have no pod")
        yield Finding(check, "fail", _with(many, troubles), do)
    if found.ready or facts.answers:
        yield from _told(facts, found)


def _troubles(found: Workload, *, every: bool = False) -> list[tuple[str, str]]:
    """Node and trouble of the pods that are not ready. `every`: also of those without words."""
    pods: Iterable[Pod] = () if isinstance(found.pods, Unread) else found.pods
    return sorted((pod.node or pod.name, pod.trouble) for pod in pods if not pod.ready and (every or pod.trouble))


def _told(facts: Facts, agents: Workload) -> Iterator[Finding]:
    told = {each.node: each.told for each in facts.answers if isinstance(each.told, Told)}
    silent = {each.node: each.told for each in facts.answers if isinstance(each.told, Unread)}
    if silent or not told:
        node, why = next(iter(silent.items()), ("", Unread("no agent could be asked")))
        what = f"{len(silent)} of {len(facts.answers)} agents could not be asked: {node}: {why.why}"
        do = f"use an account that may get pods/proxy, and let the API server reach nodes on port {AGENT_PORT}"
        yield Finding("kernels", "unknown", what if node else why.why, do)
    if not told:
        return
    of = f"{len(told)} of {agents.wanted} nodes"

    def nodes(wrong: Iterable[str]) -> str:
        return f"on {few(sorted(wrong))}"

    versions = sorted({each.version or "an older one" for each in told.values()})
    if versions != [__version__]:
        what = f"{', '.join(versions)}, and this program is {__version__}"
        do = "kubectl apply -k deploy/agent, or check with the version that is installed"
        yield Finding("agent version", "warn", what, do)
    else:
        yield Finding("agent version", "pass", f"{__version__} on {of}")
    if behind := [node for node, each in told.items() if each.behind_seconds > MAX_BEHIND_SECONDS]:
        what = f"not up to date for more than {MAX_BEHIND_SECONDS:.0f} seconds {nodes(behind)}"
        yield Finding("kernels", "fail", what, f"the logs of these agents in {facts.names.agents} say why")
    elif odd := [node for node, each in told.items() if each.refused_ports or each.warnings]:
        what = f"something is left out, or kept in its old state, {nodes(odd)}"
        yield Finding("kernels", "warn", what, f"the logs of these agents in {facts.names.agents} say what")
    elif not silent:
        yield Finding("kernels", "pass", f"up to date on {of}")
    if strict := [node for node, each in told.items() if not each.tcp_loose]:
        what = f"net.netfilter.nf_conntrack_tcp_loose is 0 {nodes(strict)}: clients of an endpoint that is gone hang"
        yield Finding("conntrack", "warn", what, "set it to 1 there, and restart the agents")
    else:
        yield Finding("conntrack", "pass", f"clients of an endpoint that is gone are reset, on {of}")
    nft = ", ".join(sorted({each.nft for each in told.values() if each.nft})) or "of unknown version"
    if cannot := [node for node, each in told.items() if not each.learns_ipv6]:
        what = (
            f"{nft} cannot learn IPv6 sessions {nodes(cannot)}: ClientIP holds by a hash of the address alone there"
        )
        yield Finding("nft", "warn", what, "use an image with nft 1.1 or newer, if there are IPv6 Services")
    else:
        yield Finding("nft", "pass", f"{nft} on {of}, which learns IPv6 sessions, too")


# --- Who else carries packets ------------------------------------------------------------------------------------


def _carrier(facts: Facts) -> Finding:
    check, found = "kube-proxy", facts.kube_proxy
    if isinstance(found, Unread):
        return _unread(check, found, "use an account that may read daemonsets and configmaps in kube-system")
    if isinstance(facts.cilium, Cilium) and facts.cilium.replaces_kube_proxy:
        return Finding(check, "pass", "Cilium stands in for it; see below")
    if found is None:
        what = "kube-system has no object of it; some distributions, such as k3s, run it without"
        return Finding(check, "warn", what, "curl http://127.0.0.1:10249/proxyMode on a node tells its mode")
    if found.mode == "ipvs":
        what = "its mode is ipvs, which Kubernetes has deprecated in 1.35, and Moorage was never tested with"
        return Finding(check, "warn", what, "change it to nftables")
    return Finding(check, "pass", f"its mode is {found.mode or 'iptables, the default'}")


def _cilium(facts: Facts) -> Iterator[Finding]:
    check, found = "Cilium", facts.cilium
    if isinstance(found, Unread):
        yield _unread(check, found, "use an account that may read daemonsets and configmaps in kube-system")
        return
    if found is None:
        return
    ignored = "it ignores the hints by which kube-proxy would lead clients of sessionAffinity: Mooring"
    if not found.replaces_kube_proxy:
        what = f"Moorage was never tested with it; {ignored} (cilium#44060)"
        yield Finding(
            check, "warn", what, "moor only clients of kind Namespace, or try proxy: moorage on a test cluster"
        )
        return
    what = f"it replaces kube-proxy: proxy: moorage cannot work beside it, and {ignored}"
    needs = facts.agents is not None or facts.carried is True
    do = "use neither, or Cilium with kube-proxy-replacement: false; sessionAffinity: ClientIP is Cilium's own"
    yield Finding(check, "fail" if needs and not facts.before else "warn", what, do)


# --- Words -------------------------------------------------------------------------------------------------------


def _unread(check: str, found: Unread, do: str) -> Finding:
    return Finding(check, "unknown", found.why, do)


def _with(what: str, more: list[str]) -> str:
    return f"{what}: {few(more, '; ')}" if more else what
