"""What holds of every decision about a group, whatever has happened before: random histories, checked at each step.

Pods and nodes come and go, endpoints fail, are drained and come back, people edit, members join and disagree, time
passes; the operator is killed between any two writes, and decides from what it read some time ago.
"""

import random
from collections import Counter
from copy import copy
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from moorage.api.moorings_v1alpha1 import Mooring
from moorage.api.topology import MAX_HINTS
from moorage.core.assignment import decide_group
from moorage.core.model import Create, Delete
from moorage.core.mooring_model import ClientKey, GroupDecision, Member, MemberEndpoint, Move
from moorage.core.roster import Roster
from moorage.core.snapshot import GroupSnapshot
from testing.moorings import GroupStory, at, clients, drained, end, member, mooring

T = TypeVar("T")
NAMES = ("a", "b", "c", "d")
WISHES = (*NAMES, "x")
GRACE = 300


def key_of(one: Mooring) -> ClientKey:
    return ClientKey(one.spec.client.kind, one.spec.client.name)


class Facts:
    """What a snapshot shows, worked out the long way."""

    def __init__(self, snapshot: GroupSnapshot) -> None:
        first = min(snapshot.members, key=lambda each: (each.created, each.key))
        self.snapshot = snapshot
        self.config = first.config
        self.counting = [each for each in snapshot.members if each.counts and each.config == first.config]
        hinted = self.config.client == "Node" and any(each.by_kube_proxy for each in self.counting)
        self.limit = MAX_HINTS if hinted else 10**6
        judged = [name for name in NAMES if self.all(name) and not self.drains(name)]
        threshold = max((each.panic_threshold_percent for each in self.counting), default=0)
        few = bool(judged) and 100 * sum(map(self.keeps, judged)) <= threshold * len(judged)
        self.panic = few or any(each.panic for each in self.counting)
        self.awaited = any(each.awaited_seconds for each in self.counting)
        self.begins = any(each.awaited_seconds and each.beginning for each in self.counting)
        self.past = {key_of(each): each.status.endpoint for each in snapshot.past}
        self.moorings: dict[ClientKey, Mooring] = {}
        for each in sorted(
            snapshot.roster.moorings.values(), key=lambda it: (it.status.endpoint is None, it.metadata.name)
        ):
            self.moorings.setdefault(key_of(each), each)

    def all(self, name: str) -> list[MemberEndpoint]:
        """As each member sees it; empty if one does not have it."""
        seen = [each for one in self.counting for each in one.endpoints if each.name == name]
        return seen if len(seen) == len(self.counting) else []

    def gone(self, name: str) -> bool:
        return not any(each.name == name for one in self.counting for each in one.endpoints)

    def keeps(self, name: str) -> bool:
        return bool(self.all(name)) and all(each.keeps for each in self.all(name))

    def takes(self, name: str) -> bool:
        return bool(self.all(name)) and all(each.takes for each in self.all(name))

    def drains(self, name: str) -> bool:
        return any(each.drained for each in self.all(name))

    def emptied(self, name: str) -> bool:
        return any(each.drained and each.drained.before for each in self.all(name))

    def where(self) -> dict[ClientKey, str]:
        """Present clients that are somewhere."""
        present = self.snapshot.roster.present
        found = {key: each.status.endpoint for key, each in self.moorings.items() if key in present}
        return {key: name for key, name in found.items() if name}


def check_move(facts: Facts, move: Move) -> None:
    """It names a cause that the snapshot shows."""
    key = move.client.key
    before = facts.where().get(key)
    record = facts.moorings.get(key)
    assert key in facts.snapshot.roster.present
    assert (move.previous or None) == before
    assert move.endpoint != before
    assert move.why
    match move.reason:
        case "Moved":
            assert record is not None
            assert record.spec.endpoint == move.endpoint
            assert facts.keeps(move.endpoint)
            return
        case "Assigned":
            assert before is None
            if facts.past.get(key) == move.endpoint:
                assert facts.keeps(move.endpoint)
                return
            assert not facts.begins
        case "FailedOver":
            assert before is not None
            assert not facts.keeps(before)
            assert not (facts.panic and facts.all(before))
            assert not (facts.awaited and facts.gone(before))
        case "Returned":
            assert record is not None
            assert record.status.home == move.endpoint
            assert facts.config.on_recovery == "Return"
            assert not facts.panic
        case "Drained":
            assert before is not None
            assert facts.emptied(before)
            assert not facts.panic
    assert facts.takes(move.endpoint)


def check_loads(facts: Facts, decision: GroupDecision) -> None:
    """Whoever had a choice went where the fewest were, and nobody where there was no room."""
    loads = Counter(facts.where().values())
    for move in decision.moves:
        if move.previous:
            loads[move.previous] -= 1
        chosen = move.reason in ("Assigned", "FailedOver", "Drained")
        if chosen and facts.limit > MAX_HINTS and facts.past.get(move.client.key) != move.endpoint:
            weigh = {name: min(each.weight for each in facts.all(name)) for name in NAMES if facts.takes(name)}
            least = min(loads[name] / weight for name, weight in weigh.items())
            assert loads[move.endpoint] / weigh[move.endpoint] == least
        loads[move.endpoint] += 1
    before = Counter(facts.where().values())
    for name, count in loads.items():
        assert count <= max(facts.limit, before[name])


def check(snapshot: GroupSnapshot, decision: GroupDecision) -> None:
    facts = Facts(snapshot)
    written = [each.obj.metadata.name if isinstance(each, Create) else each.name for each in decision.writes]
    assert len(set(written)) == len(written)
    if not facts.counting:
        assert (decision.writes, decision.moves) == ((), ())
        return
    assert len({move.client.key for move in decision.moves}) == len(decision.moves) <= len(decision.writes)
    for move in decision.moves:
        check_move(facts, move)
    check_loads(facts, decision)
    by_name = {each.metadata.name: each for each in snapshot.roster.moorings.values()}
    for write in decision.writes:
        if isinstance(write, Delete):
            gone = by_name[write.name]
            key = key_of(gone)
            assert key not in snapshot.roster.present
            assert key not in snapshot.expected
            assert gone.status.endpoint is not None
            assert snapshot.absent[key] <= at(float(seconds_of(snapshot.now) - GRACE))


def seconds_of(text: str) -> int:
    return next(second for second in range(100_000) if at(second) == text)


class Histories(RuleBasedStateMachine):
    """Few names, so that the same things come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.story = GroupStory()
        self.chance = random.Random(0)
        self.read: GroupSnapshot | None = None

    @initialize(
        kind=st.sampled_from(["Pod", "Node"]),
        on_recovery=st.sampled_from(["Stay", "Return"]),
        by_kube_proxy=st.booleans(),
        threshold=st.sampled_from([0, 0, 50]),
        seed=st.integers(0, 1000),
    )
    def begin(self, kind: str, on_recovery: str, by_kube_proxy: bool, threshold: int, seed: int) -> None:
        self.kind = kind
        self.chance = random.Random(seed)
        self.fields: dict[str, Any] = {
            "client": kind,
            "by_kube_proxy": by_kube_proxy and kind == "Node",
            "on_recovery": on_recovery,
            "panic_threshold_percent": threshold,
        }
        self.story.set(member(end("a"), end("b", weight=2), **self.fields))

    # What others do.

    @rule(count=st.integers(1, 7))
    def clients_come(self, count: int) -> None:
        names = self.chance.sample([f"p{number}" for number in range(22)], count)
        new = clients(*names, kind=self.kind, owner=self.chance.choice(["", "ReplicaSet/web"]))
        self.story.present = new | self.story.present
        self.story.expected -= set(new)

    @rule(count=st.integers(1, 4), come_back=st.booleans())
    def clients_go(self, count: int, come_back: bool) -> None:
        for key in self.chance.sample(sorted(self.story.present), min(count, len(self.story.present))):
            del self.story.present[key]
            if come_back:
                self.story.expected.add(key)

    @rule()
    def nobody_is_expected_any_more(self) -> None:
        self.story.expected = set()

    @rule(
        name=st.sampled_from(NAMES),
        how=st.sampled_from(["up", "up", "up", "down", "standby", "gone", "drained", "emptied"]),
        weight=st.sampled_from([1, 1, 2, 3]),
    )
    def an_endpoint_changes(self, name: str, how: str, weight: int) -> None:
        now = self.story.now
        new = {
            "up": [end(name, weight=weight)],
            "down": [end(name, serves=False, weight=weight)],
            "standby": [end(name, takes=False, weight=weight)],
            "gone": [],
            "drained": [drained(name, now, weight=weight)],
            "emptied": [drained(name, now, now + self.chance.choice([1, 60, 1000]), weight=weight)],
        }[how]
        which = self.chance.choice(self.story.members)
        others = [each for each in which.endpoints if each.name != name]
        self.story.set(which._replace(endpoints=tuple(sorted([*others, *new]))))

    @rule()
    def another_member_joins_or_leaves(self) -> None:
        if len(self.story.members) > 1:
            del self.story.members[1]
        else:
            same = self.story.members[0]
            self.story.set(same._replace(key=same.key._replace(name="db"), created=at(1)))

    @rule(how=st.sampled_from(["counts", "panic", "onRecovery", "awaits", "begins"]))
    def a_member_changes(self, how: str) -> None:
        which: Member = self.chance.choice(self.story.members)
        match how:
            case "counts":
                which = which._replace(counts=not which.counts)
            case "panic":
                which = which._replace(panic=not which.panic)
            case "awaits":
                which = which._replace(awaited_seconds=3.0 - which.awaited_seconds)
            case "begins":
                which = which._replace(beginning=not which.beginning)
            case _:
                other = "Stay" if which.config.on_recovery == "Return" else "Return"
                which = which._replace(config=replace(which.config, on_recovery=other))
        self.story.set(which)

    @rule()
    def all_members_go_to_another_group(self) -> None:
        """Which has no Moorings yet. Where clients are goes along."""
        self.story.past = self.story.moorings
        for one in self.story.past:
            del self.story.cluster.objects["Mooring", one.metadata.name]

    @precondition(lambda self: self.story.moorings)
    @rule(wish=st.sampled_from(WISHES))
    def somebody_edits(self, wish: str) -> None:
        one = self.chance.choice(self.story.moorings)
        self.story.cluster.edit("Mooring", one.metadata.name, {"spec": {"endpoint": wish}})

    @rule(wish=st.sampled_from(WISHES), number=st.integers(0, 21))
    def somebody_makes_a_mooring(self, wish: str, number: int) -> None:
        made = mooring(f"p{number}", wish, kind=self.kind)
        if ("Mooring", made.metadata.name) not in self.story.cluster.objects:
            self.story.make(made)

    @rule(seconds=st.sampled_from([1, 5, 60, 301]))
    def time_passes(self, seconds: int) -> None:
        self.story.now += seconds

    # What the operator does.

    @rule()
    def the_leader_changes(self) -> None:
        self.story.lead_anew()

    @rule()
    def the_operator_decides_and_writes(self) -> None:
        self.decide_and_write(1.0)

    @rule(share=st.floats(0, 1))
    def it_is_killed_while_it_writes(self, share: float) -> None:
        self.decide_and_write(share)

    @rule()
    def it_reads(self) -> None:
        self.read = self.story.snapshot()

    @precondition(lambda self: self.read)
    @rule(what=st.sampled_from(["moorings", "clients", "members", "all"]))
    def it_decides_from_what_it_read_before(self, what: str) -> None:
        """What has changed since refuses the write; nothing else may go wrong. Each kind has a watch of its own."""
        assert self.read
        old, new = self.read, self.story.snapshot()
        present, moorings = new.roster.present, new.roster.moorings
        match what:
            case "moorings":
                snapshot = new._replace(roster=Roster.of(present, old.roster.moorings.values()))
            case "clients":
                roster = Roster.of(old.roster.present, moorings.values())
                snapshot = new._replace(roster=roster, expected=old.expected)
            case "members":
                snapshot = new._replace(members=old.members)
            case _:
                snapshot = old
        decision = decide_group(snapshot)
        check(snapshot, decision)
        self.story.do(decision.writes)

    def decide_and_write(self, share: float) -> None:
        snapshot = self.story.snapshot()
        decision = decide_group(snapshot)
        check(snapshot, decision)
        self.planned_twice_changes_nothing(snapshot, decision)
        self.order_does_not_matter(snapshot, decision)
        assert self.story.do(decision.writes[: int(share * len(decision.writes))]) == 0

    def planned_twice_changes_nothing(self, snapshot: GroupSnapshot, decision: GroupDecision) -> None:
        later = copy(self.story)
        later.cluster = copy(self.story.cluster)
        later.cluster.objects = dict(self.story.cluster.objects)
        assert later.do(decision.writes) == 0
        again = decide_group(snapshot._replace(roster=Roster.of(snapshot.roster.present, later.moorings)))
        assert (again.writes, again.moves) == ((), ())
        assert again.moored == decision.moored

    def order_does_not_matter(self, snapshot: GroupSnapshot, decision: GroupDecision) -> None:
        def mixed(items: list[T]) -> list[T]:
            return self.chance.sample(items, len(items))

        present = dict(mixed(list(snapshot.roster.present.items())))
        roster = Roster.of(present, mixed(list(snapshot.roster.moorings.values())))
        other = snapshot._replace(members=mixed(list(snapshot.members)), roster=roster)
        assert decide_group(other) == decision

    @invariant()
    def it_comes_to_rest_where_it_should(self) -> None:
        if self.chance.random() < 0.8:
            return  # it takes a while
        story = copy(self.story)
        story.cluster = copy(self.story.cluster)
        story.cluster.objects = dict(self.story.cluster.objects)
        story.now += 2000
        story.step()
        story.step(GRACE)
        decision = story.step()
        assert (decision.writes, decision.moves) == ((), ())
        snapshot = story.snapshot()
        facts = Facts(snapshot)
        assert decision.again_seconds == (3.0 if decision.moored.pending and facts.awaited else None)
        if not facts.counting:
            return
        where = facts.where()
        loads = Counter(where.values())
        room = [name for name in NAMES if facts.takes(name) and loads[name] < facts.limit]
        for key in story.present:
            name = where.get(key)
            if name is None:
                assert not room or facts.begins
            elif not facts.keeps(name):
                assert not room or (facts.panic and facts.all(name)) or (facts.awaited and facts.gone(name))
            elif facts.emptied(name):
                assert not room or facts.panic
        for key, each in facts.moorings.items():
            assert key in story.present or key in story.expected or each.status.endpoint is None
            wish = each.spec.endpoint
            if key in story.present and wish != each.status.endpoint and facts.keeps(wish):
                assert facts.emptied(wish) or loads[wish] >= facts.limit
            assert (each.status.message is None) or wish != each.status.endpoint


Histories.TestCase.settings = settings(
    max_examples=50, stateful_step_count=30, report_multiple_bugs=False, suppress_health_check=[HealthCheck.too_slow]
)
TestHistories = Histories.TestCase
