"""Transactions between two states: complete, whole at every step, and small."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.dataplane import changes
from moorage.dataplane.changes import Element, Ledger
from moorage.dataplane.fake import FakeNft
from moorage.dataplane.model import Key, NodeState, ServicePort
from moorage.dataplane.ruleset import Elements, elements, is_policy_chain, text
from tests.support.states import BOTH, KEYS, content, port, programmed, states


def changed(old: NodeState, new: NodeState) -> dict[Key, ServicePort | None]:
    return {key: new.get(key) for key in old.keys() | new.keys()}


async def owned(nft: FakeNft, key: Key) -> Elements:
    """The fake's elements of one port."""
    everything = await content(nft)
    number, result = key.family, {}
    prefixes = {
        f"services{number}": text(key),
        f"learners{number}": text(key),
        f"live{number}": f"{text(key)} . ",
        f"carried{number}": text(key),
        f"slots-{key.protocol}{number}": f"{key.address} . {key.port} . ",
    }
    for name, prefix in prefixes.items():
        found = {
            each: f"goto {value}" if name.startswith(("services", "learners")) else value
            for each, value in everything[name].items()
            if each.startswith(prefix)
        }
        if found:
            result[name] = found
    return result


@given(states(), states(), st.sampled_from([1, 7, 1000]))
async def test_any_state_leads_to_any_other_and_leaves_nothing_behind(
    old: NodeState, new: NodeState, limit: int
) -> None:
    nft, ledger = await programmed(old, limit)
    for script in ledger.scripts(changed(old, new)):
        await nft.run(script)
    fresh, _ = await programmed(new)
    assert await content(nft) == await content(fresh)
    assert await nft.chains() == await fresh.chains()
    assert ledger.state == new


@given(states(), states(), st.sampled_from([1, 7, 1000]))
async def test_no_half_of_a_service_is_ever_visible(old: NodeState, new: NodeState, limit: int) -> None:
    nft, ledger = await programmed(old, limit)
    versions = {key: [elements(state[key], True) if key in state else {} for state in (old, new)] for key in KEYS}
    for script in ledger.scripts(changed(old, new)):
        await nft.run(script)
        for key, (before, after) in versions.items():
            now = await owned(nft, key)
            visible = [each for each in (before, after) if _verdict(each, key) == _verdict(now, key)]
            assert any(_covers(now, each, key) for each in visible), (key, now, before, after)


def _verdict(elements: Elements, key: Key) -> str | None:
    return elements.get(f"services{key.family}", {}).get(text(key))


def _covers(now: Elements, version: Elements, key: Key) -> bool:
    """Whether the version's verdict finds all its slots, and those that it may learn are learned."""
    slots = f"slots-{key.protocol}{key.family}"
    have = now.get(slots, {})
    return all(have.get(each) == value for each, value in version.get(slots, {}).items()) and all(
        version.get(name, {}).items() <= now.get(name, {}).items()
        for name in (f"learners{key.family}", f"live{key.family}")
    )


@given(states(), states(), states(), st.integers(0, 30))
async def test_a_change_that_was_cut_off_anywhere_is_finished_from_what_the_kernel_holds(
    old: NodeState, new: NodeState, then: NodeState, steps: int
) -> None:
    nft, ledger = await programmed(old, 3)
    for _, script in zip(range(steps), ledger.scripts(changed(old, new)), strict=False):
        await nft.run(script)
    actual = {text(key): found for key in KEYS if (found := await owned(nft, key))}
    everything = await content(nft)
    shared = {
        Element(name, key)
        for name, found in everything.items()
        if name.startswith(("addresses", "hairpin"))
        for key in found
    }
    chains = set(filter(is_policy_chain, await nft.chains()))
    for script in Ledger(then, BOTH, 3).rebuild(actual, shared, chains):
        await nft.run(script)
    fresh, _ = await programmed(then)
    assert await content(nft) == await content(fresh)
    assert await nft.chains() == await fresh.chains()


async def test_one_endpoint_more_changes_few_slots_but_those_that_it_takes() -> None:
    key = KEYS[0]
    nft, ledger = await programmed({key: port(key, range(1, 9), affinity=60)})
    (script,) = ledger.scripts({key: port(key, range(1, 10), affinity=60)})
    added = script.count(" : 203.0.113.9 . 80")
    live = 1
    assert added <= script.count("203.0.113.") - live <= added + 2
    assert "services" not in script
    assert "learners" not in script, "a verdict costs the kernel a walk through all of them"
    await nft.run(script)


async def test_a_script_that_changes_nothing_is_only_the_digest() -> None:
    state = {KEYS[0]: port(KEYS[0], [1, 2])}
    _, ledger = await programmed(state)
    (script,) = ledger.scripts(dict(state))
    assert [line.split()[1] for line in script.splitlines()] == ["set", "element"]


@given(states(), states())
async def test_the_digest_is_the_states_and_not_the_ways(first: NodeState, second: NodeState) -> None:
    _, ledger = await programmed(first)
    for _ in ledger.scripts(changed(first, second)):
        pass
    assert ledger.digest == Ledger(second, BOTH).digest
    assert (ledger.digest == Ledger(first, BOTH).digest) == (first == second)


@given(states(), st.sampled_from([7, 1000]))
def test_the_ports_that_scripts_complete_can_be_read_in_them(state: NodeState, limit: int) -> None:
    scripts = list(Ledger({}, BOTH, limit).scripts(dict(state)))
    found = [key for script in scripts for key in changes.keys_of(script)]
    assert sorted(found) == sorted(state)


async def test_transactions_keep_to_the_limit() -> None:
    keys = [Key(f"10.96.1.{number}", "tcp", 80) for number in range(60)]
    ledger = Ledger({}, BOTH, 100)
    scripts = list(ledger.scripts({key: port(key, range(1, 5), affinity=60) for key in keys}))
    assert len(scripts) > 10
    assert all(script.count(" . ") < 100 * 6 and script.count(",") < 100 for script in scripts)


async def test_a_flip_that_no_transaction_would_take_goes_slot_by_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "WHOLE", 20)
    key, slots = KEYS[0], "slots-tcp4"
    old, new = port(key, range(1, 10), affinity=60), port(key, range(6, 15), affinity=10800)
    before, after = elements(old, True)[slots], elements(new, True)[slots]
    nft, _ = await programmed({key: old})
    scripts = list(Ledger({key: old}, BOTH, 10).scripts({key: new}))
    assert len(scripts) > 5
    for script in scripts:
        assert script.count(",") + script.count("element") <= 20 + 2
        await nft.run(script)
        now = await owned(nft, key)
        assert all(target in (before[slot], after[slot]) for slot, target in now[slots].items())
        assert now[slots].keys() == before.keys()
        assert {f"{text(key)} . {target}" for target in now[slots].values()} <= now["live4"].keys()
    assert await content(nft) == await content((await programmed({key: new}))[0])
