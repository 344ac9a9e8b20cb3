"""Decides to which endpoint each client of a group is moored.

Five rules move clients: an edit by a person is followed, a client that has lost its endpoint fails over, a new client
is assigned, a client may return to its home, and a client leaves an endpoint that has to be empty by a deadline. No
other client moves; in particular, a new endpoint moves nobody.
"""

import math
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from functools import cached_property

from moorage.api.moorings_v1alpha1 import Mooring
from moorage.core import drains, mooring_problems, moorings, times
from moorage.core.groups import Group, combined
from moorage.core.loads import Loads
from moorage.core.model import Complaint, Delete, Write
from moorage.core.mooring_model import ClientKey, GroupDecision, Moored, Move, hash_of
from moorage.core.moorings import Step, client_of, requested, unmarked
from moorage.core.snapshot import GroupSnapshot

MAX_PASSES = 20
"""In one decision. Thousands of edits can wait for each other in a chain; the next decision goes on with the rest."""

Steps = Iterator[tuple[ClientKey, Step]]


def decide_group(snapshot: GroupSnapshot) -> GroupDecision:
    """What to write, which clients move and why, and where all clients are afterwards.

    Each Mooring is written at most once. Deciding again from the result changes nothing. While there are members and
    none of them counts, nothing is written.
    """
    group = combined(snapshot.members)
    if snapshot.members and not group.members:
        return GroupDecision((), (), Assignment(snapshot, group).moored(), None)
    deletions, grace_seconds = _collected(snapshot)
    roster = snapshot.roster
    if deletions:
        roster = roster.copy()
        for each in deletions:
            roster.discard(each.name)
    assignment = Assignment(snapshot._replace(roster=roster), group)
    if group.members:
        assignment.settle()
    steps = list(assignment.writes_of_steps(snapshot.roster.moorings))
    awaited_seconds = group.awaited_seconds if assignment.waiting() else math.inf
    again_seconds = min(assignment.next_drain_seconds, grace_seconds, awaited_seconds)
    return GroupDecision(
        writes=(*(write for write, _ in steps), *assignment.writes_of_messages(), *deletions),
        moves=tuple(move for _, move in steps),
        moored=assignment.moored(),
        again_seconds=None if math.isinf(again_seconds) else max(1.0, again_seconds),
    )


class Assignment:
    """Where the present clients of a group are, and the steps that they take."""

    def __init__(self, snapshot: GroupSnapshot, group: Group) -> None:
        self.snapshot = snapshot
        self.group = group
        self.steps: dict[ClientKey, Step] = {}
        """The last step of each client that moves, in the order in which they were taken."""
        self.next_drain_seconds = math.inf
        """How long until the next client has to leave an endpoint that is drained."""
        self._roster = roster = snapshot.roster
        self._present = roster.present
        there = {name: len(clients) for name, clients in roster.at.items()}
        self._loads = Loads(snapshot.key.name, group.endpoints.values(), group.limit, there, roster.by_owner)

    def at(self, key: ClientKey) -> str | None:
        """The endpoint of a present client; it may have left the group. None: it has none yet."""
        step = self.steps.get(key)
        return step.endpoint if step else self._roster.endpoint(key)

    def _those_at(self, chosen: Callable[[str], bool]) -> list[ClientKey]:
        """The present clients of the endpoints whose names are chosen, in order."""
        names = filter(chosen, self._roster.at)
        stayed = (key for name in names for key in self._roster.at[name] if key not in self.steps)
        return sorted([*stayed, *(key for key, step in self.steps.items() if chosen(step.endpoint))])

    def _mooring(self, key: ClientKey) -> Mooring:
        """Of a client that has one."""
        mooring = self._roster.mooring(key)
        assert mooring is not None
        return mooring

    # --- The rules ------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Apply the rules until no client moves any more.

        Where the number of clients is limited, a client that leaves makes room for another one, so one pass may not
        be enough. Drains come last because nobody moves to an endpoint that has to be empty.
        """
        rules = (self._edited, self._failed_over, self._assigned, self._returned)
        for _ in range(MAX_PASSES):
            if not sum(self._take(rule()) for rule in rules):
                break
        self._take(self._drained())

    def _take(self, steps: Steps) -> int:
        """Take each step before the next one is asked for, since that depends on it. Returns their number."""
        count = 0
        for key, step in steps:
            count += 1
            if at := self.at(key):
                self._loads.remove(at, self._present[key])
            self._loads.add(step.endpoint, self._present[key])
            self.steps.pop(key, None)
            self.steps[key] = step
        return count

    def _edited(self) -> Steps:
        for key in sorted(self._roster.noted & self._present.keys()):
            wanted = requested(self._mooring(key))
            if wanted and self.at(key) != wanted and not mooring_problems.obstacle(wanted, self.group, self._loads):
                yield key, Step(wanted, "Moved", "spec.endpoint of its Mooring was edited", home=wanted)

    def _failed_over(self) -> Steps:
        """While the checks are doubted, a client only leaves an endpoint that the sources no longer have.

        Others may have taken the place of such a one. So its clients wait for first checks: they would all go to
        those that were there before, and stay.
        """
        for key in self._those_at(self._is_lost):
            if self._open_home(key):
                continue  # it returns instead
            if target := self._loads.least(self._present[key]):
                name = self.at(key) or ""
                endpoint = self.group.endpoints.get(name)
                why = endpoint.lost if endpoint else f"{name} is no endpoint any more"
                yield key, Step(target, "FailedOver", why, self._home(key))

    def _is_lost(self, name: str) -> bool:
        endpoint = self.group.endpoints.get(name)
        if endpoint is None:
            return not self.group.awaited_seconds
        return not endpoint.keeps and not (endpoint.in_all and self.group.panic)

    def _assigned(self) -> Steps:
        """A member that changes its group brings along where its clients are.

        Others wait for the first checks of a member that begins, for the same reason as those of endpoints that are
        gone.
        """
        past = {client_of(each): each.status for each in self.snapshot.past}
        for key in self.unassigned():
            client = self._present[key]
            record = past.get(key)
            before = record.endpoint if record else None
            if record and before and not mooring_problems.obstacle(before, self.group, self._loads):
                why = f"it was at {before} in the former group"
                yield key, Step(before, "Assigned", why, record.home or before, past=record)
            elif not self.group.beginning and (target := self._loads.least(client)):
                yield key, Step(target, "Assigned", f"{target} has the fewest clients for its weight", target)

    def _returned(self) -> Steps:
        for key in sorted((self._roster.strayed & self._present.keys()) | self.steps.keys()):
            if home := self._open_home(key):
                yield key, Step(home, "Returned", f"{home}, its home, takes clients again", home)

    def _open_home(self, key: ClientKey) -> str | None:
        """The endpoint to which a client may return now."""
        if self.group.config.on_recovery != "Return" or self.group.panic:
            return None
        home = self._home(key)
        endpoint = self.group.endpoints.get(home)
        is_open = endpoint is not None and endpoint.takes and self._loads.has_room(home)
        return home if is_open and home != self.at(key) else None

    def _home(self, key: ClientKey) -> str:
        if key in self.steps:
            return self.steps[key].home
        record = self._mooring(key).status
        return record.home or record.endpoint or ""

    def _drained(self) -> Steps:
        now = times.seconds(self.snapshot.now) or 0.0
        for endpoint in self.group.endpoints.values():
            drained, deadline = endpoint.drained, endpoint.deadline
            if drained is None or deadline is None or not endpoint.keeps or self.group.panic:
                continue
            clients = self._those_at(endpoint.name.__eq__)
            clients.sort(key=lambda key: hash_of(self.snapshot.key.name, key))
            began = min(times.seconds(drained.since) or now, now)
            last = drains.last_departure(endpoint.name, self._roster.moorings.values(), began)
            due = drains.due(len(clients), last, deadline, now)
            left = 0
            for key in clients[:due]:
                if target := self._loads.least(self._present[key]):
                    left += 1
                    why = f"{endpoint.name} is drained, to be empty by {drained.before}"
                    yield key, Step(target, "Drained", why, self._home(key))
            if left == due < len(clients):
                departure = drains.next_departure(len(clients) - left, now if left else last, deadline)
                self.next_drain_seconds = min(self.next_drain_seconds, departure - now)

    # --- The outcome ----------------------------------------------------------------------------------------------

    def writes_of_steps(self, names: Container[str]) -> Iterator[tuple[Write, Move]]:
        """One for each client that moves, in the order of the steps. `names` are not free."""
        for key, step in self.steps.items():
            mooring = self._roster.mooring(key)
            write: Write | None
            if mooring is None:
                write = moorings.created(self.snapshot.key, key, step, self.snapshot.now, names)
            else:
                write = moorings.patched(mooring, step, self._message(key, mooring), self.snapshot.now)
            if write:
                previous = (mooring.status.endpoint if mooring else None) or ""
                yield write, Move(self._present[key], step.endpoint, previous, step.reason, step.why)

    def writes_of_messages(self) -> Iterator[Write]:
        """One for each Mooring that gets another message, or labels that it lacks, and no step."""
        moving = {each.metadata.name for each in map(self._roster.mooring, self.steps) if each}
        for mooring, message in self._messages:
            changes = message != mooring.status.message or unmarked(mooring)
            if changes and mooring.metadata.name not in moving:
                write = moorings.patched(mooring, None, message, self.snapshot.now)
                if write:
                    yield write

    @cached_property
    def _messages(self) -> list[tuple[Mooring, str | None]]:
        """Of all Moorings that have one, or need one or a label, once all steps have been taken."""
        message_of_surplus = mooring_problems.message_of_surplus
        noted = [(key, self._mooring(key)) for key in sorted(self._roster.noted | self._roster.away)]
        return [
            *((mooring, self._message(key, mooring)) for key, mooring in noted),
            *((each, message_of_surplus(self._mooring(client_of(each)))) for each in self._roster.surplus()),
        ]

    def _message(self, key: ClientKey, mooring: Mooring) -> str | None:
        if not self.group.members:
            return mooring_problems.message_without_members(mooring)
        if key not in self._present:
            return mooring_problems.message_of_absent(mooring, self.group)
        wanted, at = requested(mooring), self.at(key)
        if wanted is None or wanted == at:
            return None
        return mooring_problems.message_of_edit(wanted, at, self.group, self._loads)

    def moored(self) -> Moored:
        """Where clients are once all is written. An endpoint with too many clients has those that came first."""
        clients = self.clients_by_endpoint()
        at = {name: tuple(sorted([key.name for key in self._split(clients[name])[0]])) for name in sorted(clients)}
        return Moored(self.group.config.client, at, tuple(self._problems(clients)), self._pending())

    def unassigned(self) -> list[ClientKey]:
        """Present clients that have no endpoint."""
        return sorted(self._roster.unassigned - self.steps.keys())

    def waiting(self) -> set[ClientKey]:
        """Present clients that get an endpoint once first checks have ended."""
        group = self.group
        if not group.awaited_seconds:
            return set()
        if not any(each.takes for each in group.endpoints.values()):
            return {
                *self.unassigned(),
                *self._those_at(lambda name: name not in group.endpoints or self._is_lost(name)),
            }
        new = self.unassigned() if group.beginning else ()
        return {*new, *self._those_at(lambda name: name not in group.endpoints)}

    def _pending(self) -> str:
        if self.waiting():
            return mooring_problems.AWAITED
        return mooring_problems.NOBODY_COUNTS if not self.group.members and self.unassigned() else ""

    def clients_by_endpoint(self) -> dict[str, list[ClientKey]]:
        """The clients of each endpoint, present and expected ones, in order."""
        found = {name: list(clients) for name, clients in self._roster.at.items()}
        if self.steps:
            found = {name: [key for key in clients if key not in self.steps] for name, clients in found.items()}
        for key, step in self.steps.items():
            found.setdefault(step.endpoint, []).append(key)
        for key in self._roster.away:
            endpoint = self._mooring(key).status.endpoint
            if endpoint and key in self.snapshot.expected:
                found.setdefault(endpoint, []).append(key)
        return {name: sorted(clients) for name, clients in found.items() if clients}

    def by_arrival(self, clients: Sequence[ClientKey]) -> list[ClientKey]:
        """Those who came to their endpoint first come first."""

        def came(key: ClientKey) -> tuple[str, ClientKey]:
            since = None if key in self.steps else self._mooring(key).status.since
            return since or self.snapshot.now, key

        return sorted(clients, key=came)

    def _split(self, clients: Sequence[ClientKey]) -> tuple[Sequence[ClientKey], Sequence[ClientKey]]:
        """An endpoint's clients: as many as it may have, those who came first, and the others."""
        limit = self.group.limit
        if limit is None or len(clients) <= limit:
            return clients, ()
        by_arrival = self.by_arrival(clients)
        return by_arrival[:limit], by_arrival[limit:]

    def _problems(self, clients: Mapping[str, list[ClientKey]]) -> Iterator[Complaint]:
        group = self.group
        if not group.members:
            return iter(group.problems)
        kept = {each.name for each in group.endpoints.values() if each.keeps}
        lost = [] if group.panic else self._those_at(lambda name: name not in kept)
        waiting = self.waiting()
        return mooring_problems.complaints(
            group,
            unassigned=[key for key in self.unassigned() if key not in waiting],
            lost=[key for key in lost if key not in waiting],
            over=[key for name in sorted(kept) for key in self._split(clients.get(name, ()))[1]],
            messages=sorted((each.metadata.name, message) for each, message in self._messages if message),
        )


def _collected(snapshot: GroupSnapshot) -> tuple[list[Delete], float]:
    """The deletions of Moorings whose client has been absent too long, and how many seconds until the next one.

    A Mooring without a record was made by a person for a client to come, and waits for it.
    """
    now = times.seconds(snapshot.now) or 0.0
    roster, next_seconds = snapshot.roster, math.inf
    deletions: list[Delete] = []
    for key in sorted(roster.away):
        if key in snapshot.expected:
            continue
        absent_seconds = now - (times.seconds(snapshot.absent.get(key)) or now)
        for mooring in roster.moorings_of(key):
            if mooring.status.endpoint is None:
                continue
            if absent_seconds < snapshot.grace_seconds:
                next_seconds = min(next_seconds, snapshot.grace_seconds - absent_seconds)
            elif deletion := moorings.deleted(mooring):
                deletions.append(deletion)
    return deletions, next_seconds
