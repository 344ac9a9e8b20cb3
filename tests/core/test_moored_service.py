"""An ExternalService and its group over random histories: where packets go in the end is what Moorings say.

Both decisions are made as the operator makes them: the group is decided about from what the ExternalService tells,
and the slices from what the group comes to. The operator is killed between any two writes of either.
"""

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from moorage.api.discovery_v1 import Endpoint as ApiEndpoint
from moorage.api.moorage_v1alpha1 import Drain, MooringConfig, SessionAffinityConfig
from moorage.core.decide import decide
from moorage.core.groups import member_of
from moorage.core.model import Health, Verdict
from moorage.core.mooring_model import GroupDecision
from moorage.core.snapshot import Snapshot
from moorage.core.view import view_of
from testing.kube_proxy import ready, used
from testing.moorings import GroupStory, at, clients
from testing.xsvc import NAMESPACE, Story, answers, endpoints, xsvc

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
        if client == "Namespace":
            self.group.present = clients(NAMESPACE, kind="Namespace")

    def snapshot(self) -> Snapshot:
        there = [ENDS[name] for name in sorted(self.names)]
        verdicts = {
            name: Verdict(self.healths.get(name, "Healthy"), at(0), "refused" if name in self.healths else None)
            for name in self.names
        }
        return self.story.snapshot(answers(there), verdicts, at(self.group.now))

    def decide_group(self) -> GroupDecision:
        snapshot = self.snapshot()
        member = member_of(view_of(snapshot), snapshot)
        assert member is not None
        self.group.members = [member]
        return self.group.decide()

    def round(self, writes: int = 10**6) -> bool:
        """Decide about both, and write as many as that before the end. Whether there was anything to do."""
        of_group = self.decide_group()
        for write in of_group.writes[:writes]:
            self.story.cluster.do(write)
        writes -= len(of_group.writes)
        if writes < 0:
            return True
        self.story.moored = of_group.moored
        decision = decide(self.snapshot())
        for write in decision.writes[:writes]:
            self.story.cluster.do(write)
        if writes < len(decision.writes):
            return True
        changed = bool(of_group.writes or decision.writes or decision.status != self.story.xsvc.status)
        self.story.do(decision._replace(writes=()))
        return changed

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

    @initialize(
        client=st.sampled_from(["Node", "Node", "Namespace"]), on_recovery=st.sampled_from(["Stay", "Return"])
    )
    def begin(self, client: str, on_recovery: str) -> None:
        self.operator = Operator(client, on_recovery)

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

    @rule(restarted=st.booleans())
    def it_comes_to_rest_where_moorings_say(self, restarted: bool) -> None:
        if restarted:
            self.operator.restart()
        self.operator.settle()
        check_rest(self.operator)

    def teardown(self) -> None:
        self.it_comes_to_rest_where_moorings_say(restarted=False)


Histories.TestCase.settings = settings(
    max_examples=25, stateful_step_count=15, report_multiple_bugs=False, suppress_health_check=[HealthCheck.too_slow]
)
TestHistories = Histories.TestCase
