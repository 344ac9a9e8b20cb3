"""An ExternalService and its group over random histories: where packets go in the end is what Moorings say.

Both decisions are made as the operator makes them: the group is decided about from what the ExternalService tells,
and the slices from what the group comes to. The operator is killed between any two writes of either, has no time for
all writes of a group, decides from what it read some time ago, and another one takes over. After each write of a
slice each node uses what it used before these writes, or uses after them.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from copy import copy

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from msgspec.structs import replace

from moorage.api.discovery_v1 import Endpoint as ApiEndpoint
from moorage.api.moorage_v1alpha1 import Drain, ExternalService, MooringConfig, SessionAffinityConfig
from moorage.api.moorings_v1alpha1 import Mooring
from moorage.core.assignment import decide_group
from moorage.core.decide import decide
from moorage.core.groups import member_of
from moorage.core.model import Decision, Health, Verdict, Write
from moorage.core.mooring_model import GroupDecision
from moorage.core.moorings import as_written
from moorage.core.snapshot import Snapshot
from moorage.core.view import view_of
from testing.kube_proxy import allowed, ready, used
from testing.moorings import GroupStory, at, clients
from testing.xsvc import NAMESPACE, Cluster, RefusedError, Story, answers, endpoints, xsvc

ENDS = {each.name: each for each in endpoints(4)}
NODES = [f"n{number}" for number in range(10)]


class Operator:
    """What the loops for an ExternalService and for its group do, without their I/O."""

    def __init__(self, client: str, on_recovery: str = "Stay") -> None:
        config = SessionAffinityConfig(mooring=MooringConfig(client=client, on_recovery=on_recovery))
        self.story = Story(xsvc(session_affinity="Mooring", session_affinity_config=config))
        self.group = GroupStory()
        self.group.cluster = self.story.cluster
        self.names = set(ENDS) - {"b0004"}
        self.healths: dict[str, Health] = {}
        self.ports: dict[str, int] = {}
        """Of endpoints with one of their own: these are in a slice of their own."""
        self.waits = False
        """Clients wait for first checks."""
        self.begins = False
        """New clients wait, too."""
        if client == "Namespace":
            self.group.present = clients(NAMESPACE, kind="Namespace")

    def snapshot(self) -> Snapshot:
        there = [ENDS[name]._replace(port=self.ports.get(name)) for name in sorted(self.names)]
        verdicts = {
            name: Verdict(self.healths.get(name, "Healthy"), at(0), "refused" if name in self.healths else None)
            for name in self.names
        }
        return self.story.snapshot(answers(there), verdicts, at(self.group.now))

    def decide_group(self, moorings: Sequence[Mooring] | None = None) -> GroupDecision:
        snapshot = self.snapshot()
        member = member_of(view_of(snapshot), snapshot)
        assert member is not None
        seconds = member.awaited_seconds if self.waits else 0.0
        member = member._replace(awaited_seconds=seconds, beginning=self.begins)
        self.group.members = [member]
        return decide_group(self.group.snapshot(moorings))

    def write_moorings(self, decision: GroupDecision, writes: int = 10**6) -> None:
        """Write as many as that of a decision about the group. What is told follows from those that are done."""
        done = [not self.group.do([write]) for write in decision.writes[:writes]]
        undone = [move for number, move in enumerate(decision.moves) if number >= len(done) or not done[number]]
        self.story.moored = as_written(decision.moored, undone)

    def write_slices(self, decision: Decision, writes: int = 10**6) -> None:
        """Write as many as that of a decision about the ExternalService."""
        after = self.after(decision.writes)
        before = self.slices
        for write in decision.writes[:writes]:
            self.story.cluster.do(write)
            for node in (*NODES, "stranger"):
                assert used(self.slices, node) <= allowed(before, after, node), node
        if writes >= len(decision.writes):
            self.story.do(decision._replace(writes=()))

    def after(self, writes: Iterable[Write]) -> Sequence[Sequence[ApiEndpoint]]:
        """What the slices hold once all of these are done."""
        there = self.story.cluster
        self.story.cluster = cluster = copy(there)
        cluster.objects = dict(there.objects)
        for write in writes:
            cluster.do(write)
        found = self.slices
        self.story.cluster = there
        return found

    def round(self, writes: int = 10**6) -> bool:
        """Decide about both, and write as many as that before the end. Whether there was anything to do."""
        of_group = self.decide_group()
        self.write_moorings(of_group, writes)
        writes -= len(of_group.writes)
        if writes < 0:
            return True
        decision = decide(self.snapshot())
        changed = bool(of_group.writes or decision.writes or decision.status != self.story.xsvc.status)
        self.write_slices(decision, writes)
        return changed or writes < len(decision.writes)

    def settle(self) -> None:
        for _ in range(8):
            if not self.round():
                return
        raise AssertionError("does not come to rest")

    def restart(self) -> None:
        """Another leader knows what objects say."""
        self.story.moored = None
        self.group.lead_anew()

    @property
    def slices(self) -> Sequence[Sequence[ApiEndpoint]]:
        return [each.endpoints or [] for each in self.story.cluster.slices]


def check_rest(operator: Operator) -> None:
    """Each client reaches its endpoint, if that serves."""
    where = operator.group.where()
    serving = {name for name in operator.names if name not in operator.healths}
    for key in operator.group.present:
        there = where.get(key.name)
        if key.kind == "Namespace":
            assert len(ready(operator.slices)) <= 1
            assert ready(operator.slices) == {there} or there not in serving
        elif there in serving:
            assert used(operator.slices, key.name) == {there}
        elif there is None:
            taking = ready(operator.slices)
            assert used(operator.slices, key.name) == taking


@pytest.mark.parametrize("client", ["Node", "Namespace"])
def test_a_new_service_comes_to_rest_with_everybody_moored(client: str) -> None:
    operator = Operator(client)
    if client == "Node":
        operator.group.present = clients(*NODES[:6], kind="Node")
    operator.settle()
    assert set(operator.group.where()) == {key.name for key in operator.group.present}
    check_rest(operator)


def test_an_endpoint_that_fails_costs_one_write_for_each_of_its_clients_and_those_of_the_slices() -> None:
    operator = Operator("Node")
    operator.group.present = clients(*NODES[:6], kind="Node")
    operator.settle()
    lost = operator.group.where()
    before = operator.story.cluster.writes
    operator.healths["b0001"] = "Unhealthy"
    operator.settle()
    mine = [name for name, where in lost.items() if where == "b0001"]
    assert len(mine) == 2
    assert operator.story.cluster.writes - before == len(mine) + 1
    check_rest(operator)


class Histories(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.operator = Operator("Node")
        self.read: tuple[list[Mooring], Cluster, ExternalService] | None = None

    @initialize(
        client=st.sampled_from(["Node", "Node", "Namespace"]),
        on_recovery=st.sampled_from(["Stay", "Return"]),
        ports=st.dictionaries(st.sampled_from(sorted(ENDS)), st.sampled_from([8080, 8081])),
    )
    def begin(self, client: str, on_recovery: str, ports: dict[str, int]) -> None:
        self.operator = Operator(client, on_recovery)
        self.operator.ports = ports

    @rule(names=st.sets(st.sampled_from(NODES), max_size=10))
    def other_nodes(self, names: set[str]) -> None:
        if self.operator.story.xsvc.spec.session_affinity_config.mooring.client == "Node":  # type: ignore[union-attr]
            self.operator.group.present = clients(*sorted(names), kind="Node")

    @rule(name=st.sampled_from(sorted(ENDS)), health=st.sampled_from(["Healthy", "Healthy", "Unhealthy", "Unknown"]))
    def a_verdict(self, name: str, health: Health) -> None:
        self.operator.healths.pop(name, None)
        if health != "Healthy":
            self.operator.healths[name] = health

    @rule(name=st.sampled_from(sorted(ENDS)))
    def an_endpoint_comes_or_goes(self, name: str) -> None:
        self.operator.names ^= {name}

    @rule(names=st.sets(st.sampled_from(sorted(ENDS)), max_size=2), seconds=st.sampled_from([None, 1, 100]))
    def other_drains(self, names: set[str], seconds: int | None) -> None:
        before = None if seconds is None else at(self.operator.group.now + seconds)
        self.operator.story.change(drain=[Drain(endpoint=name, before=before) for name in sorted(names)] or None)

    @precondition(lambda self: self.operator.group.moorings)
    @rule(wish=st.sampled_from(sorted(ENDS)), number=st.integers(0, 9))
    def an_edit(self, wish: str, number: int) -> None:
        names = [each.metadata.name for each in self.operator.group.moorings]
        self.operator.story.cluster.edit("Mooring", names[number % len(names)], {"spec": {"endpoint": wish}})

    @rule(seconds=st.sampled_from([1, 60, 301]))
    def time_passes(self, seconds: int) -> None:
        self.operator.group.now += seconds

    @rule(writes=st.integers(0, 12))
    def it_works_until_it_is_killed(self, writes: int) -> None:
        self.operator.round(writes)
        self.operator.restart()

    @rule()
    def it_works(self) -> None:
        self.operator.round()

    @rule(waits=st.booleans(), begins=st.booleans())
    def first_checks_go_on_or_end(self, waits: bool, begins: bool) -> None:
        self.operator.waits, self.operator.begins = waits, begins

    @rule(writes=st.integers(0, 5), writes_of_slices=st.integers(0, 5))
    def it_has_no_time_for_all_moorings(self, writes: int, writes_of_slices: int) -> None:
        self.operator.write_moorings(self.operator.decide_group(), writes)
        self.operator.write_slices(decide(self.operator.snapshot()), writes_of_slices)

    @rule(writes=st.integers(0, 5))
    def its_group_is_not_decided_about_in_time(self, writes: int) -> None:
        self.operator.write_slices(decide(self.operator.snapshot()), writes)

    @rule()
    def another_one_leads(self) -> None:
        self.operator.restart()

    @rule()
    def it_reads(self) -> None:
        there = copy(self.operator.story.cluster)
        there.objects = dict(there.objects)
        self.read = self.operator.group.moorings, there, self.operator.story.xsvc

    @precondition(lambda self: self.read)
    @rule()
    def it_decides_about_moorings_as_it_read_them(self) -> None:
        assert self.read
        self.operator.write_moorings(self.operator.decide_group(self.read[0]))

    @precondition(lambda self: self.read)
    @rule()
    def it_decides_about_slices_as_it_read_them(self) -> None:
        """The first write that is refused ends that."""
        assert self.read
        story = self.operator.story
        there, story.cluster = story.cluster, self.read[1]
        now, story.xsvc = story.xsvc, replace(story.xsvc, status=self.read[2].status)
        decision = decide(self.operator.snapshot())
        story.cluster, story.xsvc = there, now
        with suppress(RefusedError):
            for write in decision.writes:
                there.do(write)

    @rule(restarted=st.booleans())
    def it_comes_to_rest_where_moorings_say(self, restarted: bool) -> None:
        if restarted:
            self.operator.restart()
        self.operator.waits = False
        self.operator.settle()
        check_rest(self.operator)

    def teardown(self) -> None:
        self.it_comes_to_rest_where_moorings_say(restarted=False)


Histories.TestCase.settings = settings(
    max_examples=25, stateful_step_count=15, report_multiple_bugs=False, suppress_health_check=[HealthCheck.too_slow]
)
TestHistories = Histories.TestCase
