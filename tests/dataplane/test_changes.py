"""Transactions between two states: complete, whole at every step, and small."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.dataplane import changes
from moorage.dataplane.changes import Ledger
from moorage.dataplane.model import (
    Moored,
    MooringKey,
    NodeState,
    PodPrefix,
    ServiceAddress,
    Unit,
    UnitKey,
    moored_to,
    port_of,
)
from moorage.dataplane.reading import read_all
from moorage.dataplane.schema import OF_FAMILY, Elements, text
from moorage.dataplane.units import own
from tests.support.states import (
    BOTH,
    KEYS,
    MOORED_CLIENTS,
    content,
    mooring,
    port,
    ports_of,
    prefix,
    programmed,
    states,
)
from tests.support.tracer import Packet, Tracer


def changed(old: NodeState, new: NodeState) -> dict[UnitKey, Unit | None]:
    return {key: new.get(key) for key in old.keys() | new.keys()}


@given(states(), states(), st.sampled_from([1, 7, 1000]))
async def test_any_state_leads_to_any_other_and_leaves_nothing_behind(
    old: NodeState, new: NodeState, limit: int
) -> None:
    nft, ledger = await programmed(old, limit)
    for transaction in ledger.change_to(changed(old, new)):
        await nft.run(transaction.script)
    fresh, _ = await programmed(new)
    assert await content(nft) == await content(fresh)
    assert await nft.chains() == await fresh.chains()
    assert ledger.state == new


@given(states(), states(), st.sampled_from([1, 7, 1000]))
async def test_no_half_of_a_service_is_ever_visible(old: NodeState, new: NodeState, limit: int) -> None:
    nft, ledger = await programmed(old, limit)
    versions = {key: [own(state[key], BOTH) if key in state else {} for state in (old, new)] for key in KEYS}
    for transaction in ledger.change_to(changed(old, new)):
        await nft.run(transaction.script)
        units = (await read_all(nft)).units
        for key, (before, after) in versions.items():
            now = units.get(key, {})
            visible = [each for each in (before, after) if _verdict(each, key) == _verdict(now, key)]
            assert any(_covers(now, each, key) for each in visible), (key, now, before, after)


def _verdict(elements: Elements, key: ServiceAddress) -> str | None:
    return elements.get(OF_FAMILY[key.family].services, {}).get(text(key))


def _covers(now: Elements, version: Elements, key: ServiceAddress) -> bool:
    """Whether the version's verdict finds all its slots, and those that it may learn are learned."""
    containers = OF_FAMILY[key.family]
    slots = containers.slots[key.protocol]
    have = now.get(slots, {})
    return all(have.get(each) == value for each, value in version.get(slots, {}).items()) and all(
        version.get(name, {}).items() <= now.get(name, {}).items() for name in (containers.learners, containers.live)
    )


@given(states(), states(), st.sampled_from([1, 7, 1000]))
async def test_each_client_is_always_led_where_the_old_or_the_new_state_says(
    old: NodeState, new: NodeState, limit: int
) -> None:
    nft, ledger = await programmed(old, limit)
    ranges = any(isinstance(each, PodPrefix) for state in (old, new) for each in state.values())
    for transaction in ledger.change_to(changed(old, new)):
        await nft.run(transaction.script)
        for key in KEYS:
            for client in MOORED_CLIENTS[key.family]:
                packet = Packet(client, 40_000, key.address, key.port, key.protocol)
                found = Tracer(nft, lambda slots: slots - 1).trace(packet)
                seen = found.destination[0] if found.verdict == "accepted" else found.verdict
                may = _may_see(old, client, key, ranges) | _may_see(new, client, key, ranges)
                assert seen in may, (key, client, transaction.script)
                await nft.run("flush set inet moorage waits4\nflush set inet moorage waits6\n")
                await nft.run("flush set inet moorage waited4\nflush set inet moorage waited6\n")


def _may_see(state: NodeState, client: str, key: ServiceAddress, ranges: bool) -> set[str]:
    """What may become of the first connection of a client.

    `ranges`: there are ranges of pods, or will be: the ports that hold pods of them come and go on their own.
    """
    port_ = port_of(state, key)
    if port_ is None or not port_.endpoints:
        return {"dropped" if port_ and port_.ignores else "rejected", key.address}
    if isinstance(port_.affinity, Moored):
        if mooring := moored_to(state, MooringKey(client, key)):
            return {mooring.address}
        if port_.affinity.holds and key.protocol == "tcp" and ranges:
            return {"dropped"} | {each.target.address for each in port_.endpoints}
    return {each.target.address for each in port_.endpoints}


@given(states(), states(), states(), st.integers(0, 30))
async def test_a_change_that_was_cut_off_anywhere_is_finished_from_what_the_kernel_holds(
    old: NodeState, new: NodeState, then: NodeState, steps: int
) -> None:
    nft, ledger = await programmed(old, 3)
    for _, transaction in zip(range(steps), ledger.change_to(changed(old, new)), strict=False):
        await nft.run(transaction.script)
    for transaction in Ledger(then, BOTH, 3).repair(await read_all(nft)):
        await nft.run(transaction.script)
    fresh, _ = await programmed(then)
    assert await content(nft) == await content(fresh)
    assert await nft.chains() == await fresh.chains()


async def test_one_endpoint_more_changes_few_slots_but_those_that_it_takes() -> None:
    key = KEYS[0]
    nft, ledger = await programmed({key: port(key, range(1, 9), affinity=60)})
    ((script, _),) = ledger.change_to({key: port(key, range(1, 10), affinity=60)})
    added = script.count(" : 203.0.113.9 . 80")
    live = 1
    assert added <= script.count("203.0.113.") - live <= added + 2
    assert "services" not in script
    assert "learners" not in script, "a verdict costs the kernel a walk through all of them"
    await nft.run(script)


async def test_to_move_one_client_changes_one_element_whatever_its_port_has() -> None:
    key = KEYS[0]
    client, other = MOORED_CLIENTS[4]
    state: NodeState = {key: port(key, range(1, 100), Moored(60))}
    state |= {each.key: each for each in (mooring(client, key, 1), mooring(other, key, 1))}
    _, ledger = await programmed(state)
    moved = mooring(client, key, 2)
    ((script, units),) = ledger.change_to({moved.key: moved})
    assert units == {moved.key}
    element = f"{client} . 10.96.0.1 . tcp . 80"
    assert [line for line in script.splitlines() if "moorage digest" not in line] == [
        f"delete element inet moorage moorings4 {{ {element} }}",
        f"add element inet moorage moorings4 {{ {element} : 203.0.113.2 . 80 }}",
    ]


async def test_a_range_of_addresses_can_be_replaced_by_one_that_holds_it() -> None:
    old, new = prefix("10.244.1.0/24"), prefix("10.244.0.0/16")
    for limit in (1, 1000):
        nft, ledger = await programmed({old.key: old}, limit)
        for transaction in ledger.change_to({new.key: new, old.key: None}):
            await nft.run(transaction.script)
        assert [each.key for each in await nft.elements("pods4")] == [("10.244.0.0/16",)]


async def test_a_script_that_changes_nothing_is_only_the_digest() -> None:
    state: NodeState = {KEYS[0]: port(KEYS[0], [1, 2])}
    _, ledger = await programmed(state)
    ((script, units),) = ledger.change_to(dict(state))
    assert units == set()
    assert [line.split()[1] for line in script.splitlines()] == ["set", "element"]


@given(states(), states())
async def test_the_digest_is_the_states_and_not_the_ways(first: NodeState, second: NodeState) -> None:
    _, ledger = await programmed(first)
    for _ in ledger.change_to(changed(first, second)):
        pass
    assert ledger.digest == Ledger(second, BOTH).digest
    assert (ledger.digest == Ledger(first, BOTH).digest) == (first == second)


@given(states(), st.sampled_from([7, 1000]))
def test_a_transaction_tells_whose_elements_it_changes(state: NodeState, limit: int) -> None:
    for script, units in Ledger({}, BOTH, limit).change_to(dict(state)):
        for key in ports_of(state):
            # A mooring has the key of its port at the end of its own.
            assert key in units or f"{text(key)} " not in script.replace(f" . {text(key)} ", "")
            assert key not in units or key.address in script
        for each in state:
            if isinstance(each, MooringKey):
                assert (each in units) == (f"{text((each.client, *each.service))} " in script)


async def test_transactions_keep_to_the_limit() -> None:
    keys = [ServiceAddress(f"10.96.1.{number}", "tcp", 80) for number in range(60)]
    ledger = Ledger({}, BOTH, 100)
    state: NodeState = {key: port(key, range(1, 5), affinity=60) for key in keys}
    scripts = [each.script for each in ledger.change_to(state)]
    assert len(scripts) > 10
    assert all(script.count(" . ") < 100 * 6 and script.count(",") < 100 for script in scripts)


async def test_several_units_go_in_small_transactions_and_one_unit_is_not_cut_for_that() -> None:
    keys = [ServiceAddress(f"10.96.{number}.1", "tcp", 80) for number in range(100)]
    state: NodeState = {key: port(key, range(1, 40), affinity=60) for key in keys}
    assert all(len(each.units) < 30 for each in Ledger({}, BOTH, 40_000).change_to(state))
    large: NodeState = {KEYS[0]: port(KEYS[0], range(1, 1500), affinity=60)}
    scripts = [each.script for each in Ledger({}, BOTH, 40_000).change_to(large)]
    assert max(script.count(",") for script in scripts) > changes.MAX_GATHERED


async def test_a_flip_that_no_transaction_would_take_goes_slot_by_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "MAX_UNDIVIDED", 20)
    key, containers = KEYS[0], OF_FAMILY[4]
    slots = containers.slots["tcp"]
    old, new = port(key, range(1, 10), affinity=60), port(key, range(6, 15), affinity=10800)
    before, after = own(old, BOTH)[slots], own(new, BOTH)[slots]
    nft, _ = await programmed({key: old})
    transactions = list(Ledger({key: old}, BOTH, 10).change_to({key: new}))
    assert len(transactions) > 5
    for script, _ in transactions:
        assert script.count(",") + script.count("element") <= 20 + 2
        await nft.run(script)
        now = (await read_all(nft)).units.get(key, {})
        assert all(target in (before[slot], after[slot]) for slot, target in now[slots].items())
        assert now[slots].keys() == before.keys()
        assert {f"{text(key)} . {target}" for target in now[slots].values()} <= now[containers.live].keys()
    assert await content(nft) == await content((await programmed({key: new}))[0])
