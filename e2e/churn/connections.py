"""Rules about connections, and about the endpoints that they go to. Pure."""

from e2e.churn.facts import Connection, Facts, Found, Move
from e2e.churn.history import Failed


def kept(facts: Facts) -> Found:
    """No connection to an endpoint that stayed healthy is broken, but by a move of its client that resets.

    Of one who makes one connection after the other a move breaks one at most.
    """
    used: set[tuple[Move, str, str]] = set()
    for each in sorted(facts.connections, key=lambda each: each.open):
        if (
            each.ended is None
            or not each.broken
            or facts.was_lost(each.service, each.endpoint, each.start, each.ended)
        ):
            continue
        broken = f"{_words(facts, each)} was broken ({each.how}) after {each.ended - each.answered:.1f} s"
        moves = [move for move in facts.resets(each.service, each.pod) if _may_break(facts, move, each)]
        free = [move for move in moves if (move, each.pod, each.worker) not in used]
        if free:
            used.add((free[0], each.pod, each.worker))
        elif moves:
            yield each.ended, f"{broken}, a second one by one move: {moves[0]}"
        else:
            yield each.ended, f"{broken}; {each.endpoint} was healthy, and its client was not moved away from it"


def reset(facts: Facts) -> Found:
    """A client that is moved away from an endpoint has no connection there any more, soon after.

    Where its agent is killed meanwhile, it may have one.
    """
    for each in facts.connections:
        pod = facts.pod(each.pod)
        if pod is None:
            continue
        for move in facts.resets(each.service, each.pod):
            busy = facts.busy_agent(pod.node)
            until = busy.later(move.at, facts.bounds.follow)
            is_old = move.previous == each.endpoint and each.answered < move.at - facts.bounds.seen
            if not is_old or each.open <= until or facts.down("agent", pod.node).touch(move.at, until):
                continue
            if {each.endpoint, ""}.isdisjoint(facts.in_force(each.service, each.pod, move.at, until)):
                yield until, f"{_words(facts, each)} is open {each.open - move.at:.1f} s after the move {move}"


def led(facts: Facts) -> Found:
    """Each new connection of a client that is moored goes to the endpoint of its mooring."""
    for each in facts.connections:
        if not _may_go(facts, each.service, each.pod, each.start, each.answered, each.endpoint):
            wanted = _in_force(facts, each.service, each.pod, each.start, each.answered)
            yield each.answered, f"{_words(facts, each)} was to go to {' or '.join(sorted(wanted))}"


def served(facts: Facts) -> Found:
    """No new connection goes to an endpoint that has failed, or has been removed, later than the bound."""
    for each in facts.connections:
        since, until = _span(facts, each.pod, each.start, each.answered)
        if not any(each.endpoint in serving for serving in facts.served(each.service, since, until)):
            yield each.answered, f"{_words(facts, each)}, which does not serve"


def answered(facts: Facts) -> Found:
    """A new connection fails only because of an endpoint that has just failed, or of a move that resets."""
    for each in facts.failed:
        if not _is_excused(facts, each):
            pod = facts.pod(each.pod)
            name = f"{pod.name} on {pod.node}" if pod else f"a pod with uid {each.pod}"
            wanted = _in_force(facts, each.service, each.pod, each.start, each.at) - {""}
            where = f" ({' or '.join(sorted(wanted))})" if wanted else ""
            took = f"{each.at - each.start:.1f} s"
            yield each.at, f"{name} was not connected to {each.service}{where} in {took}: {each.error}"


def verdicts(facts: Facts) -> Found:
    """Slices say what is so: an endpoint that fails is out of use within the bound, and no other is."""
    busy = facts.busy_operator
    for service, slices in facts.slices.items():
        for endpoint in facts.names(service):
            for since, until in facts.down("endpoint", endpoint).spans:
                last = facts.seen(busy.later(since, facts.bounds.health))
                if last < min(until, facts.end) and all(
                    endpoint in serving for serving in facts.served(service, since, last)
                ):
                    yield last, f"{endpoint} of {service} failed at {since:.3f}, and serves still"
            was = False
            for moment in slices.changes(0.0, float("inf")):
                serves = endpoint in facts.serving(service, moment)
                if was and not serves and not _has_cause(facts, service, endpoint, moment):
                    yield moment, f"{endpoint} of {service} does not serve any more, and nothing had happened to it"
                was = serves


def _words(facts: Facts, each: Connection) -> str:
    pod = facts.pod(each.pod)
    name = f"{pod.name} on {pod.node}" if pod else f"a pod with uid {each.pod}"
    return f"a connection of {name} ({each.worker}) to {each.service}, begun at {each.start:.3f}, at {each.endpoint}"


def _may_break(facts: Facts, move: Move, each: Connection) -> bool:
    pod = facts.pod(each.pod)
    assert pod is not None
    assert each.ended is not None
    last = facts.busy_agent(pod.node).later(move.at, facts.bounds.follow)
    return move.previous == each.endpoint and each.start <= last and move.at <= facts.seen(each.ended)


def _span(facts: Facts, uid: str, start: float, end: float) -> tuple[float, float]:
    """From when to when what the API held can be what led a connection."""
    pod = facts.pod(uid)
    return facts.busy_agent(pod.node if pod else "").earlier(start, facts.bounds.follow), facts.seen(end)


def _in_force(facts: Facts, service: str, uid: str, start: float, end: float) -> set[str]:
    return facts.in_force(service, uid, *_span(facts, uid, start, end))


def _may_go(facts: Facts, service: str, uid: str, start: float, end: float, endpoint: str) -> bool:
    return not {endpoint, ""}.isdisjoint(_in_force(facts, service, uid, start, end))


def _is_excused(facts: Facts, each: Failed) -> bool:
    since, until = _span(facts, each.pod, each.start, each.at)
    serving = list(facts.served(each.service, since, until))
    pod = facts.pod(each.pod)
    if pod is None or not all(serving):
        return True  # nobody serves
    for endpoint in frozenset.union(*serving) - frozenset.intersection(*serving):
        if _may_go(facts, each.service, each.pod, each.start, each.at, endpoint):
            return True  # it was about to be taken out of use
    busy = facts.busy_operator | facts.busy_agent(pod.node)
    for endpoint in facts.names(each.service):
        for failed, back in facts.down("endpoint", endpoint).spans:
            known = facts.seen(busy.later(failed, facts.bounds.health + facts.bounds.follow))
            if (
                failed <= each.at
                and each.start <= min(back, known)
                and _may_go(facts, each.service, each.pod, each.start, each.at, endpoint)
            ):
                return True
    return any(
        move.at <= until and each.start <= facts.busy_agent(pod.node).later(move.at, facts.bounds.follow)
        for move in facts.resets(each.service, each.pod)
    )


def _has_cause(facts: Facts, service: str, endpoint: str, moment: float) -> bool:
    """Whether an endpoint had failed, or was taken away, when it ceased to serve."""
    since = facts.busy_operator.earlier(moment, facts.bounds.health)
    specs = facts.specs[service].within(facts.busy_operator.earlier(moment, facts.bounds.decide), facts.seen(moment))
    is_removed = any(spec is None or endpoint not in spec.weights for spec in specs)
    return is_removed or facts.down("endpoint", endpoint).touch(since, moment)
