"""Decides to which endpoint each client of a group is moored.

Five rules move clients: an edit by a person is followed, a client that has lost its endpoint fails over, a new client
is assigned, a client may return to its home, and a client leaves an endpoint that has to be empty by a deadline. No
other client moves; in particular, a new endpoint moves nobody.
"""

import math
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from functools import cached_property

from moorage.api.moorings_v1alpha1 import Mooring
from moorage.core import drains, mooring_problems, moorings, times
from moorage.core.groups import Group, combined
from moorage.core.loads import Loads
from moorage.core.model import Complaint, Delete, Write
from moorage.core.mooring_model import ClientKey, GroupDecision, GroupSnapshot, Moored, Move, hash_of
from moorage.core.moorings import Step, by_client, client_of, requested, unmarked

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
    deleted = {each.name for each in deletions}
    left = [each for each in snapshot.moorings if each.metadata.name not in deleted]
    assignment = Assignment(snapshot._replace(moorings=left), group)
    if group.members:
        assignment.settle()
    steps = list(assignment.writes_of_steps(deleted))
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
        self.at: dict[ClientKey, str] = {}
        """The endpoint of each client that has one. The endpoint may have left the group."""
        self.steps: dict[ClientKey, Step] = {}
        """The last step of each client that moves, in the order in which they were taken."""
        self.next_drain_seconds = math.inf
        """How long until the next client has to leave an endpoint that is drained."""
        self._moorings, self._surplus = by_client(snapshot.moorings)
        self._present = {key: snapshot.clients.present[key] for key in sorted(snapshot.clients.present)}
        self._edits: list[tuple[ClientKey, str]] = []
        for key in self._present:
            if mooring := self._moorings.get(key):
                if wanted := requested(mooring):
                    self._edits.append((key, wanted))
                if at := mooring.status.endpoint:
                    self.at[key] = at
        there = ((at, self._present[key]) for key, at in self.at.items())
        self._loads = Loads(snapshot.key.name, group.endpoints.values(), group.limit, there)

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
            if key in self.at:
                self._loads.remove(self.at[key], self._present[key])
            self._loads.add(step.endpoint, self._present[key])
            self.at[key] = step.endpoint
            self.steps.pop(key, None)
            self.steps[key] = step
        return count

    def _edited(self) -> Steps:
        for key, wanted in self._edits:
            if self.at.get(key) != wanted and not mooring_problems.obstacle(wanted, self.group, self._loads):
                yield key, Step(wanted, "Moved", "spec.endpoint of its Mooring was edited", home=wanted)

    def _failed_over(self) -> Steps:
        """While the checks are doubted, a client only leaves an endpoint that the sources no longer have.

        Others may have taken the place of such a one. So its clients wait for first checks: they would all go to
        those that were there before, and stay.
        """
        for key, name in list(self.at.items()):
            endpoint = self.group.endpoints.get(name)
            if endpoint is None and self.group.awaited_seconds:
                continue
            if endpoint and (endpoint.keeps or (endpoint.in_all and self.group.panic)):
                continue
            if self._open_home(key):
                continue  # it returns instead
            if target := self._loads.least(self._present[key]):
                why = endpoint.lost if endpoint else f"{name} is no endpoint any more"
                yield key, Step(target, "FailedOver", why, self._home(key))

    def _assigned(self) -> Steps:
        """A member that changes its group brings along where its clients are.

        Others wait for the first checks of a member that begins, for the same reason as those of endpoints that are
        gone.
        """
        past = {client_of(each): each.status for each in self.snapshot.past}
        for key, client in self._present.items():
            if key in self.at:
                continue
            record = past.get(key)
            before = record.endpoint if record else None
            if record and before and not mooring_problems.obstacle(before, self.group, self._loads):
                why = f"it was at {before} in the former group"
                yield key, Step(before, "Assigned", why, record.home or before, past=record)
            elif not self.group.beginning and (target := self._loads.least(client)):
                yield key, Step(target, "Assigned", f"{target} has the fewest clients for its weight", target)

    def _returned(self) -> Steps:
        for key in list(self.at):
            if home := self._open_home(key):
                yield key, Step(home, "Returned", f"{home}, its home, takes clients again", home)

    def _open_home(self, key: ClientKey) -> str | None:
        """The endpoint to which a client may return now."""
        if self.group.config.on_recovery != "Return" or self.group.panic:
            return None
        home = self._home(key)
        endpoint = self.group.endpoints.get(home)
        is_open = endpoint is not None and endpoint.takes and self._loads.has_room(home)
        return home if is_open and home != self.at[key] else None

    def _home(self, key: ClientKey) -> str:
        if key in self.steps:
            return self.steps[key].home
        return self._moorings[key].status.home or self.at[key]

    def _drained(self) -> Steps:
        now = times.seconds(self.snapshot.now) or 0.0
        for endpoint in self.group.endpoints.values():
            drained, deadline = endpoint.drained, endpoint.deadline
            if drained is None or deadline is None or not endpoint.keeps or self.group.panic:
                continue
            clients = [key for key, name in self.at.items() if name == endpoint.name]
            clients.sort(key=lambda key: hash_of(self.snapshot.key.name, key))
            began = min(times.seconds(drained.since) or now, now)
            last = drains.last_departure(endpoint.name, self._moorings.values(), began)
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

    def writes_of_steps(self, deleted: AbstractSet[str]) -> Iterator[tuple[Write, Move]]:
        """One for each client that moves, in the order of the steps. `deleted` are names that are not free yet."""
        names = {each.metadata.name for each in self.snapshot.moorings} | deleted
        for key, step in self.steps.items():
            mooring = self._moorings.get(key)
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
        moving = {self._moorings[key].metadata.name for key in self.steps if key in self._moorings}
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
        # Of thousands of Moorings nearly all have no message, and need none.
        keys = [
            key
            for key, mooring in self._moorings.items()
            if mooring.status.message or key not in self._present or requested(mooring) or unmarked(mooring)
        ]
        return [
            *((self._moorings[key], self._message(key, self._moorings[key])) for key in sorted(keys)),
            *((mooring, message_of_surplus(self._moorings[client_of(mooring)])) for mooring in self._surplus),
        ]

    def _message(self, key: ClientKey, mooring: Mooring) -> str | None:
        if not self.group.members:
            return mooring_problems.message_without_members(mooring)
        if key not in self._present:
            return mooring_problems.message_of_absent(mooring, self.group)
        wanted, at = requested(mooring), self.at.get(key)
        if wanted is None or wanted == at:
            return None
        return mooring_problems.message_of_edit(wanted, at, self.group, self._loads)

    def moored(self) -> Moored:
        """Where clients are once all is written. An endpoint with too many clients has those that came first."""
        clients = self.clients_by_endpoint()
        at = {
            name: tuple(sorted([key.name for key in clients[name][: self.group.limit]])) for name in sorted(clients)
        }
        return Moored(self.group.config.client, at, tuple(self._problems(clients)), self._pending())

    def unassigned(self) -> list[ClientKey]:
        """Present clients that have no endpoint."""
        if len(self.at) == len(self._present):
            return []
        return [key for key in self._present if key not in self.at]

    def waiting(self) -> set[ClientKey]:
        """Present clients that get an endpoint once first checks have ended."""
        if not self.group.awaited_seconds:
            return set()
        new = self.unassigned() if self.group.beginning else ()
        return {*new, *(key for key, name in self.at.items() if name not in self.group.endpoints)}

    def _pending(self) -> str:
        if self.waiting():
            return mooring_problems.AWAITED
        return mooring_problems.NOBODY_COUNTS if not self.group.members and self.unassigned() else ""

    def clients_by_endpoint(self) -> dict[str, list[ClientKey]]:
        """The clients of each endpoint, present and expected ones, in the order in which they came to it."""
        clients, now = self.snapshot.clients, self.snapshot.now
        found: dict[str, list[tuple[str, ClientKey]]] = {}
        for key, name in self.at.items():
            since = None if key in self.steps else self._moorings[key].status.since
            found.setdefault(name, []).append((since or now, key))
        for key in self._moorings.keys() - self._present.keys():
            record = self._moorings[key].status
            if record.endpoint and key in clients.expected:
                found.setdefault(record.endpoint, []).append((record.since or now, key))
        return {name: [key for _, key in sorted(came)] for name, came in found.items()}

    def _problems(self, clients: Mapping[str, list[ClientKey]]) -> Iterator[Complaint]:
        group = self.group
        if not group.members:
            return iter(group.problems)
        keeping = [each.name for each in group.endpoints.values() if each.keeps]
        lost = [] if group.panic else [key for key, name in self.at.items() if name not in keeping]
        waiting = self.waiting()
        return mooring_problems.complaints(
            group,
            unassigned=[key for key in self.unassigned() if key not in waiting],
            lost=[key for key in lost if key not in waiting],
            over=[key for name in keeping for key in clients.get(name, ())[group.limit :]] if group.limit else [],
            messages=sorted((each.metadata.name, message) for each, message in self._messages if message),
        )


def _collected(snapshot: GroupSnapshot) -> tuple[list[Delete], float]:
    """The deletions of Moorings whose client has been absent too long, and how many seconds until the next one.

    A Mooring without a record was made by a person for a client to come, and waits for it.
    """
    now = times.seconds(snapshot.now) or 0.0
    clients, next_seconds = snapshot.clients, math.inf
    deletions: list[Delete] = []
    for mooring in snapshot.moorings if snapshot.absent else ():
        key = client_of(mooring)
        if not clients.absent(key) or mooring.status.endpoint is None:
            continue
        absent_seconds = now - (times.seconds(snapshot.absent.get(key)) or now)
        if absent_seconds < snapshot.grace_seconds:
            next_seconds = min(next_seconds, snapshot.grace_seconds - absent_seconds)
        elif deletion := moorings.deleted(mooring):
            deletions.append(deletion)
    return deletions, next_seconds
