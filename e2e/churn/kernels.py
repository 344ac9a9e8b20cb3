"""Rules about what kernels hold. Pure."""

from collections.abc import Iterable

from e2e.churn.facts import Facts, Found
from e2e.churn.history import Kernel


def missed(facts: Facts) -> Found:
    """No look-up misses what is there."""
    for each in facts.kernels:
        if each.misses:
            yield each.at, f"{each.node}: {each.misses} look-ups found nothing at first"
    for node in sorted({*facts.nodes} - {each.node for each in facts.kernels}):
        yield 0.0, f"{node}: nobody has looked into its kernel"


def agreed(facts: Facts) -> Found:
    """Once it is quiet, each node's kernel has what Moorings and slices say, and nothing else."""
    for each in facts.kernels:
        since, until = facts.busy_agent(each.node).earlier(each.at, facts.bounds.follow), facts.seen(each.at)
        for service in sorted(facts.kinds.keys() - facts.by_kube_proxy):
            wanted = _led_to(facts, each.node, service, since, until)
            has = frozenset(each.ready.get(service, ()))
            if has not in wanted:
                yield each.at, f"{each.node}: {service} leads to {_list(has)}, not to {_list(wanted[-1])}"
            if facts.kinds[service] == "Pod":
                yield from _agreed_about_pods(facts, each, service, since, until)


def _led_to(facts: Facts, node: str, service: str, since: float, until: float) -> list[frozenset[str]]:
    """To which endpoints a Service may lead on a node: to all that are ready, or where the node is moored."""
    client, found = f"Node/{node}", []
    for moment in facts.moments(since, until, facts.slices[service], facts.moored[service, client]):
        slices = facts.slices[service].at(moment)
        endpoint = facts.led_to(service, client, moment)
        ready = frozenset(slices.ready) if slices else frozenset[str]()
        found.append(frozenset({endpoint}) if endpoint else ready)
    return found


def _agreed_about_pods(facts: Facts, kernel: Kernel, service: str, since: float, until: float) -> Found:
    has = dict(kernel.moorings.get(service, {}))
    for uid, life in sorted(facts.pods.items()):
        states = life.within(since, until)
        alive = [pod for pod in states if pod and pod.address and pod.life in ("present", "ending")]
        if not alive or alive[-1].node != kernel.node:
            continue
        pod = alive[-1]
        wanted = facts.in_force(service, uid, since, until) | ({""} if len(alive) < len(states) else set())
        found = has.pop(pod.address, "")
        if found not in wanted:
            name = f"{pod.name} ({pod.address})"
            yield kernel.at, f"{kernel.node}: {name} is led to {found or 'nothing'}, not to {_list(wanted)}"
    for address, endpoint in sorted(has.items()):
        yield kernel.at, f"{kernel.node}: {address}, which no pod has, is led to {endpoint} of {service}"


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(filter(None, names))) or "nothing"
