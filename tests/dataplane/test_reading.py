"""The kernel's content is read whole, or only as far as the units' marks do not vouch for it."""

from hypothesis import given

from moorage.dataplane.changes import Ledger
from moorage.dataplane.model import NodeState, ServiceAddress
from moorage.dataplane.reading import Recalled, comment, is_under_way, read_all, recall
from moorage.dataplane.schema import DIGEST, OF_FAMILY, ReadBack
from moorage.dataplane.units import UNKNOWN
from tests.support.states import BOTH, KEYS, ReadingNft, port, ports_of, programmed, states


@given(states())
async def test_all_that_is_programmed_is_read_back_as_it_was_written(state: NodeState) -> None:
    nft, ledger = await programmed(state)
    assert await read_all(nft) == ledger.content


@given(states(), states())
async def test_what_marks_vouch_for_is_not_read_and_the_rest_is_known_but_for_its_slots(
    there: NodeState, wanted: NodeState
) -> None:
    nft, _ = await programmed(there)
    found = await recall(nft, Ledger(wanted, BOTH))
    everything = await read_all(nft)
    # A mooring has no mark: it is one element, which is read.
    assert found.same == {key for key in ports_of(there) if there[key] == wanted.get(key)}
    assert found.content.units.keys() == there.keys() - found.same
    assert found.content.shared == everything.shared
    assert found.content.chains == everything.chains
    for key, own in found.content.units.items():
        for container, elements in everything.units[key].items():
            assert own[container].keys() == elements.keys()
            known = elements.values() if UNKNOWN not in own[container].values() else [UNKNOWN]
            assert set(own[container].values()) <= set(known)


async def test_a_family_in_which_nothing_differs_is_not_asked_for_what_may_be_learned() -> None:
    state: NodeState = {KEYS[0]: port(KEYS[0], [1], 60), KEYS[3]: port(KEYS[3], [1], 60)}
    _, ledger = await programmed(state)
    nft = ReadingNft()
    for script in (await programmed(state))[0].scripts:
        await nft.run(script)
    assert await recall(nft, ledger) == Recalled((await read_all(nft))._replace(units={}), frozenset(state))
    nft.listed.clear()
    six: NodeState = {KEYS[3]: port(KEYS[3], [2], 60)}
    await recall(nft, Ledger(state | six, BOTH))
    assert OF_FAMILY[6].live.name in nft.listed
    assert OF_FAMILY[4].live.name not in nft.listed
    by_mark = {each.name for each in OF_FAMILY[6].each() if each.read_back is ReadBack.MARK}
    assert by_mark.isdisjoint(nft.listed)


async def test_elements_of_a_port_that_has_no_mark_are_found_among_all() -> None:
    nft, _ = await programmed({})
    await nft.run("add element inet moorage slots-tcp4 { 10.96.0.7 . 80 . 0 : 203.0.113.1 . 80 }\n")
    content = await read_all(nft)
    key = ServiceAddress("10.96.0.7", "tcp", 80)
    assert content.units == {key: {OF_FAMILY[4].slots["tcp"]: {"10.96.0.7 . 80 . 0": "203.0.113.1 . 80"}}}


async def test_a_change_under_way_is_seen_by_its_mark() -> None:
    nft, ledger = await programmed({KEYS[0]: port(KEYS[0], [1])})
    assert not await is_under_way(nft)
    assert await comment(nft, DIGEST) == ledger.digest
    await nft.run("flush set inet moorage digest\nadd element inet moorage digest { 2 }\n")
    assert await is_under_way(nft)
    assert await comment(nft, DIGEST) is None
