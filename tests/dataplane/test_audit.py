"""An audit finds each difference between the kernel and the state, names it, and repairs nothing."""

from typing import NamedTuple

import pytest
from hypothesis import given

from moorage.dataplane import audit as audit_module
from moorage.dataplane import changes
from moorage.dataplane.audit import Finding, audit, compare, wanted
from moorage.dataplane.capabilities import Capabilities
from moorage.dataplane.conntrack import FakeConntrack
from moorage.dataplane.model import NodeState, PodPrefixKey, ServiceAddress
from moorage.dataplane.nft import Nft, Outline
from moorage.dataplane.sync import Synchronizer
from tests.support.states import BOTH, mooring, node_state, port, prefix, programmed, states

KEY, OTHER = ServiceAddress("10.96.0.1", "tcp", 80), ServiceAddress("10.96.0.2", "udp", 53)
CLIENT = mooring("10.244.0.5", OTHER, 2)
STATE: NodeState = node_state([port(KEY, [1], 60), port(OTHER, [1, 2]), CLIENT, prefix("10.244.0.0/24")])
LEARNS = frozenset({4})


@pytest.fixture
def nft(either: Nft) -> Nft:
    return either


async def carry(nft: Nft, state: NodeState) -> None:
    await Synchronizer(nft, FakeConntrack(), Capabilities(learn6=False)).sync(state, state)


async def test_what_the_synchronizer_made_has_no_finding(nft: Nft) -> None:
    assert await audit(nft, {}, LEARNS) == [Finding("table inet moorage", None, "")]
    await carry(nft, STATE)
    assert await audit(nft, STATE, LEARNS) == []
    await carry(nft, {})
    assert await audit(nft, {}, LEARNS) == []


SLOT = "10.96.0.1 . 80 . 0"
MOORING = "10.244.0.5 . 10.96.0.2 . udp . 53"
HOOK = "nat hook output priority -110"


class Manipulation(NamedTuple):
    """What somebody does to the table, and what is to be found then."""

    script: str
    findings: list[Finding]


MANIPULATIONS = {
    "a slot that leads elsewhere": Manipulation(
        f"delete element inet moorage slots-tcp4 {{ {SLOT} }}\n"
        f"add element inet moorage slots-tcp4 {{ {SLOT} : 198.51.100.9 . 80 }}",
        [Finding("map slots-tcp4", "198.51.100.9 . 80", "203.0.113.1 . 80", SLOT, KEY)],
    ),
    "a verdict that is gone": Manipulation(
        "delete element inet moorage services4 { 10.96.0.2 . udp . 53 }",
        [Finding("map services4", None, "goto balanced-2-udp4", "10.96.0.2 . udp . 53", OTHER)],
    ),
    "a Service that nobody wants": Manipulation(
        "add element inet moorage services4 { 10.96.0.9 . tcp . 80 : goto refuse }",
        [
            Finding(
                "map services4", "goto refuse", None, "10.96.0.9 . tcp . 80", ServiceAddress("10.96.0.9", "tcp", 80)
            )
        ],
    ),
    "an address that is ours no longer": Manipulation(
        "delete element inet moorage addresses4 { 10.96.0.1 }", [Finding("set addresses4", None, "", "10.96.0.1")]
    ),
    "what may be learned": Manipulation(
        "flush set inet moorage live4",
        [Finding("set live4", None, "", "10.96.0.1 . tcp . 80 . 203.0.113.1 . 80", KEY)],
    ),
    "rules that are gone": Manipulation(
        "flush chain inet moorage dnat-output",
        [Finding("chain dnat-output", f"{HOOK} with 0 rules", f"{HOOK} with 6 rules")],
    ),
    "a rule too many in a policy": Manipulation(
        "add rule inet moorage balanced-2-udp4 drop",
        [Finding("chain balanced-2-udp4", "no hook with 5 rules", "no hook with 4 rules")],
    ),
    "a chain of somebody else": Manipulation(
        "add chain inet moorage mine", [Finding("chain mine", "no hook with 0 rules", None)]
    ),
    "a set of somebody else": Manipulation(
        "add set inet moorage mine { typeof ip daddr; }", [Finding("set or map mine", "", None)]
    ),
    "a client that is led elsewhere": Manipulation(
        f"delete element inet moorage moorings4 {{ {MOORING} }}\n"
        f"add element inet moorage moorings4 {{ {MOORING} : 198.51.100.9 . 80 }}",
        [Finding("map moorings4", "198.51.100.9 . 80", "203.0.113.2 . 80", MOORING, CLIENT.key)],
    ),
    "addresses of somebody else's pods": Manipulation(
        "add element inet moorage pods4 { 192.0.2.7 }",
        [Finding("set pods4", "", None, "192.0.2.7", PodPrefixKey("192.0.2.7/32"))],
    ),
    "a session to where nothing is": Manipulation(
        "add element inet moorage sessions4 { 10.244.0.5 . 10.96.0.1 . tcp . 80 timeout 60s : 203.0.113.7 . 80 }",
        [Finding("map sessions4", "203.0.113.7 . 80 timeout 60s", None, "10.244.0.5 . 10.96.0.1 . tcp . 80", KEY)],
    ),
    "a change that was cut off": Manipulation(
        "flush set inet moorage digest\nadd element inet moorage digest { 2 }",
        [
            Finding("set digest", None, "DIGEST", "1"),
            Finding("set digest", "", None, "2"),
        ],
    ),
    "rules of another version": Manipulation(
        'flush set inet moorage rules-digest\nadd element inet moorage rules-digest { 1 comment "0" }',
        [Finding("set rules-digest", "0", "DIGEST", "1")],
    ),
}


@pytest.mark.parametrize("manipulation", MANIPULATIONS.values(), ids=MANIPULATIONS)
async def test_each_manipulation_is_found_and_nothing_else_and_stays(nft: Nft, manipulation: Manipulation) -> None:
    await carry(nft, STATE)
    await nft.run(manipulation.script + "\n")
    before = await audit_module.read(nft)
    found = await audit(nft, STATE, LEARNS)
    digests = {
        f"set {container.name}": value
        for container, each in wanted(STATE, LEARNS).digests.items()
        for value in each.values()
    }
    assert found == [
        each._replace(want=digests[each.subject]) if each.want == "DIGEST" else each for each in manipulation.findings
    ]
    assert await audit_module.read(nft) == before, "nothing is repaired"
    assert await audit(nft, STATE, LEARNS) == found


async def test_what_an_audit_finds_the_next_start_repairs(nft: Nft) -> None:
    await carry(nft, STATE)
    for name in ("a slot that leads elsewhere", "a verdict that is gone", "what may be learned"):
        await nft.run(MANIPULATIONS[name].script + "\n")
    await nft.run(MANIPULATIONS["a change that was cut off"].script + "\n")
    assert len(await audit(nft, STATE, LEARNS)) == 5
    await carry(nft, STATE)
    assert await audit(nft, STATE, LEARNS) == []


@given(states(), states())
async def test_the_state_of_one_is_no_finding_for_it_and_one_for_any_other(one: NodeState, other: NodeState) -> None:
    nft, ledger = await programmed(one)
    del ledger
    kernel = await audit_module.read(nft)
    have = kernel._replace(digests=wanted(one, BOTH).digests)
    assert compare(have, wanted(one, BOTH)) == []
    units = {each.unit for each in compare(have, wanted(other, BOTH))} - {None}
    assert units == {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}


def test_a_table_that_is_gone_is_one_finding() -> None:
    want = wanted(STATE, LEARNS)
    gone = audit_module.Kernel(Outline(frozenset(), {}, frozenset()), changes.NOTHING, {})
    (finding,) = compare(gone, want)
    assert str(finding) == "table inet moorage is missing"


def test_a_map_that_is_gone_is_one_finding_and_not_one_for_each_element() -> None:
    want = wanted(STATE, LEARNS)
    outline = want.outline._replace(containers=want.outline.containers - {"slots-udp4"})
    assert compare(want._replace(outline=outline), want) == [Finding("map slots-udp4", None, "")]


@pytest.mark.parametrize(
    ("finding", "line"),
    [
        (Finding("map x", None, "a", "k"), "map x: k is missing; it should be a"),
        (Finding("map x", "b", "a", "k"), "map x: k is b; it should be a"),
        (Finding("map x", "b", None, "k"), "map x: k should not be there; it is b"),
        (Finding("set x", "", None, "k"), "set x: k should not be there"),
        (Finding("set x", None, "", "k"), "set x: k is missing"),
        (Finding("set x", "", "a", "k"), "set x: k is without comment; it should be a"),
    ],
)
def test_a_finding_is_a_line_that_a_person_can_read(finding: Finding, line: str) -> None:
    assert str(finding) == line
