"""Rules about moves: to where, and why. Pure."""

from collections import Counter

from e2e.churn.facts import Facts, Found, Move

BY_LOAD = ("Assigned", "FailedOver", "Drained")
"""Moves to the endpoint with the fewest clients for its weight."""


def least(facts: Facts) -> Found:
    """Whoever was assigned, failed over or drained came to an endpoint with the fewest clients for its weight."""
    for move in facts.moves:
        if move.record.reason not in BY_LOAD:
            continue
        since = facts.busy_operator.earlier(move.at, facts.bounds.health)
        until = facts.seen(facts.busy_operator.later(move.at, facts.bounds.decide))
        moments = facts.moments(since, until, facts.specs[move.service])
        always = frozenset.intersection(*(facts.taking(move.service, each) for each in moments))
        if not any(move.endpoint in facts.taking(move.service, each) for each in moments):
            yield move.at, f"{move}: {move.endpoint} took no new clients"
        loads = _Loads(facts, move, until)
        for other in sorted(always - {move.endpoint}):
            if loads.was_too_high_for(other):
                yield move.at, f"{move}: {other} had fewer clients for its weight"


class _Loads:
    """How many clients endpoints had about the time of a move, which is counted."""

    def __init__(self, facts: Facts, move: Move, until: float) -> None:
        self._facts, self._move, self._until = facts, move, until
        self._clients = {client for service, client in facts.moored if service == move.service}
        moorings = [facts.moored[move.service, client] for client in self._clients]
        since = facts.busy_operator.earlier(move.at, facts.bounds.decide)
        self._moments = facts.moments(since, until, *moorings, *facts.presence.values())
        self._at = {moment: self._count(moment) for moment in self._moments}

    def was_too_high_for(self, other: str) -> bool:
        """Whether `other` had fewer for its weight before this client came, whatever the operator knew when."""
        mine = self._move.endpoint
        spec = self._facts.specs[self._move.service].at(self._move.at)
        weights = spec.weights if spec else {}
        after = [self._at[each] for each in self._moments if each >= self._move.at]
        if self._only_chosen(mine, other):
            # Those of one batch came one after the other, the last of them to an endpoint that was not above others.
            after = after[-1:]
            fewest, most = after[0][mine] - 1, after[0][other]
        else:
            fewest = min(each[mine] for each in after) - 1
            most = max(each[other] for each in self._at.values())
        return fewest / weights.get(mine, 1) > most / weights.get(other, 1)

    def _only_chosen(self, *endpoints: str) -> bool:
        """Whether nobody left these endpoints meanwhile, and only such came as the operator chose them for."""
        moments = zip(self._moments, self._moments[1:], strict=False)
        leaving = any(self._at[late][each] < self._at[early][each] for early, late in moments for each in endpoints)
        return not leaving and all(
            each.record.reason in BY_LOAD
            for each in self._facts.moves
            if each.service == self._move.service
            and each.endpoint in endpoints
            and self._moments[0] <= each.at <= self._until
        )

    def _count(self, moment: float) -> Counter[str]:
        service = self._move.service
        return Counter(
            self._facts.endpoint(service, client, moment)
            for client in self._clients
            if self._facts.present(client, moment)
        )


def caused(facts: Facts) -> Found:
    """Each move names a cause that the history shows."""
    for move in facts.moves:
        why = _objection(facts, move)
        if why:
            yield move.at, f"{move}: {why}"
    for (service, client), life in sorted(facts.moored.items()):
        for moment in life.changes(0.0, float("inf")):
            since = facts.moments(moment - facts.bounds.grace, moment, *facts.presence.values())
            if life.at(moment) is None and any(facts.present(client, each) for each in since):
                yield moment, f"the Mooring of {client} of {service} was deleted, though the client was there"


def _objection(facts: Facts, move: Move) -> str:
    """What is wrong about a move; empty: nothing."""
    bounds, record = facts.bounds, move.record
    if record.previous != move.previous and record.reason != "Assigned":
        return f"its record says that it came from {record.previous or 'nowhere'}"
    match record.reason:
        case "Assigned":
            return "it was somewhere already" if move.previous else ""
        case "Moved":
            since = facts.busy_operator.earlier(move.at, bounds.decide + bounds.follow)
            edited = {
                (each.client, each.endpoint)
                for each in facts.edits
                if each.service == move.service and each.at <= move.at
            }
            life = facts.moored[move.service, move.client].within(since, move.at)
            requested = any(each and each.requested == move.endpoint for each in life)
            return "" if (move.client, move.endpoint) in edited and requested else "nobody has asked for that"
        case "FailedOver":
            since = facts.busy_operator.earlier(move.at, bounds.health + bounds.decide)
            is_lost = facts.was_lost(move.service, move.previous, since, move.at + bounds.decide)
            return "" if is_lost else f"{move.previous} had not failed"
        case "Drained":
            since = facts.busy_operator.earlier(move.at, bounds.decide)
            specs = facts.specs[move.service].within(since, facts.seen(move.at))
            drained = any(spec and move.previous in spec.drained for spec in specs)
            return "" if drained else f"{move.previous} was not drained"
        case "Returned":
            since = facts.busy_operator.earlier(move.at, bounds.decide)
            specs = facts.specs[move.service].within(since, facts.seen(move.at))
            returns = any(spec and spec.returns for spec in specs)
            return "" if returns and record.home == move.endpoint else "it is not its home, or clients do not return"
    return "it has no reason"
