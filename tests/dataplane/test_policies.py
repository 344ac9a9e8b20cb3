"""Policies, and the names of their chains."""

from hypothesis import given
from hypothesis import strategies as st

from moorage.dataplane.model import Affinity, Balanced, ByClientIP, Moored
from moorage.dataplane.policies import Policy, is_made_on_use
from moorage.dataplane.ruleset import REFUSE, base_chains
from tests.support.states import affinity_of

affinities: st.SearchStrategy[Affinity] = st.one_of(
    st.integers(0, 86_400).map(affinity_of), st.builds(Moored, st.integers(1, 86_400), st.booleans())
)
policies = st.builds(
    Policy, st.sampled_from([4, 6]), st.sampled_from(["tcp", "udp"]), affinities, st.integers(1, 4096)
)


@given(policies)
def test_a_policy_can_be_read_in_the_name_of_its_chain(policy: Policy) -> None:
    assert Policy.of_chain(policy.chain) == policy
    assert is_made_on_use(policy.chain)


@given(policies.filter(lambda each: each.affinity != Balanced()))
def test_chains_that_learn_are_made_on_use_and_are_no_policy(policy: Policy) -> None:
    assert is_made_on_use(policy.learn_chain)
    assert Policy.of_chain(policy.learn_chain) is None


def test_chains_of_the_base_are_told_from_those_that_are_made_on_use() -> None:
    names = [each.name for each in [*base_chains(learn6=True), REFUSE]]
    assert not any(is_made_on_use(each) or Policy.of_chain(each) for each in [*names, "-", "", "balanced-1-sctp4"])


def test_the_names_of_chains_are_what_people_know() -> None:
    assert Policy(4, "tcp", ByClientIP(60), 24).chain == "clientip-60-24-tcp4"
    assert Policy(4, "tcp", ByClientIP(60), 24).learn_chain == "learn-60-tcp4"
    assert Policy(6, "udp", Balanced(), 1).chain == "balanced-1-udp6"
    assert Policy(4, "tcp", Moored(60), 24).chain == "moored-60-24-tcp4"
    assert Policy(4, "tcp", Moored(60, holds=True), 24).chain == "moored-hold-60-24-tcp4"
    assert Policy(4, "tcp", Moored(60, holds=True), 24).learn_chain == "learn-60-tcp4"
