"""What a unit has in the kernel, and how it is found again there."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from moorage.dataplane.model import Balanced, ByClientIP, ClientTarget, Moored, NodeState, Target, Unit
from moorage.dataplane.schema import OF_FAMILY, ReadBack
from moorage.dataplane.units import UNKNOWN, chain_names, chains, digest, mark, moorings, own, remembered, shared
from tests.support.states import BOTH, KEYS, MOORED_CLIENTS, mooring, port, ports_of, prefix, states


@given(states(), st.sampled_from([frozenset({4}), BOTH]))
def test_key_and_mark_tell_which_elements_there_are_where_no_listing_does(
    state: NodeState, learns: frozenset[int]
) -> None:
    for key, unit in ports_of(state).items():
        known = remembered(key, mark(unit), learns)
        wanted = {name: each for name, each in own(unit, learns).items() if name.read_back is ReadBack.MARK}
        assert {name: each.keys() for name, each in known.items()} == {
            name: each.keys() for name, each in wanted.items()
        }
        assert all(
            value in (UNKNOWN, wanted[name][key]) for name, each in known.items() for key, value in each.items()
        )


def test_an_unknown_mark_tells_of_no_elements() -> None:
    assert remembered(KEYS[0], "", BOTH) == remembered(KEYS[0], "0123 someone-elses-chain", BOTH) == {}


def test_whatever_decides_where_packets_go_is_in_the_digest() -> None:
    one = port(KEYS[0], [1, 2], 60)
    others = [
        port(KEYS[1], [1, 2], 60),
        port(KEYS[0], [1], 60),
        port(KEYS[0], [1, 2], 61),
        replace(one, affinity=Balanced()),
        replace(one, keeps=frozenset({Target("203.0.113.9", 80)})),
        replace(one, endpoints=(replace(one.endpoints[0], local=True), one.endpoints[1])),
    ]
    assert len({digest(each) for each in [one, *others]}) == len(others) + 1
    assert digest(one) == digest(port(KEYS[0], [2, 1], 60))


def test_whatever_decides_where_a_moored_client_goes_is_in_the_digest() -> None:
    client, other = MOORED_CLIENTS[4]
    units: list[Unit] = [
        mooring(client, KEYS[0], 1),
        mooring(client, KEYS[0], 2),
        mooring(client, KEYS[1], 1),
        mooring(other, KEYS[0], 1),
        prefix("10.244.1.0/24"),
        prefix("10.244.2.0/24"),
        port(KEYS[0], [1], Moored(60)),
        port(KEYS[0], [1], Moored(60, holds=True)),
        port(KEYS[0], [1], 60),
    ]
    assert len({digest(each) for each in units}) == len(units)


@given(states())
def test_the_moorings_that_the_kernel_holds_are_known_from_its_elements(state: NodeState) -> None:
    held = {key: own(unit, BOTH) for key, unit in state.items()}
    assert moorings(held) == {key: unit for key, unit in state.items() if isinstance(unit, ClientTarget)}


@given(states())
def test_the_names_of_chains_are_those_of_the_chains(state: NodeState) -> None:
    for unit in state.values():
        assert chain_names(unit, BOTH) == [each.name for each in chains(unit, BOTH)]


def test_only_where_sessions_can_be_learned_is_there_anything_that_learns() -> None:
    six = port(KEYS[3], [1, 2], 60)
    learners = OF_FAMILY[6].learners
    assert learners in own(six, BOTH)
    assert learners not in own(six, frozenset({4}))
    assert len(chains(six, frozenset({4}))) == 1
    assert OF_FAMILY[6].live not in own(replace(six, affinity=Balanced()), BOTH)


def test_a_port_without_endpoints_has_no_verdict_so_that_its_connections_are_refused() -> None:
    none = replace(port(KEYS[0], []), affinity=ByClientIP(60))
    assert list(own(none, BOTH)) == [OF_FAMILY[4].carried]
    assert [each.container for each in shared(none)] == [OF_FAMILY[4].addresses]
