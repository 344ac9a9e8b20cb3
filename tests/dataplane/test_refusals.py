"""A port that nft does not take costs nobody else anything."""

from math import log2

import msgspec
import pytest

from moorage.dataplane import refusals as refusals_module
from moorage.dataplane import sync as sync_module
from moorage.dataplane.capabilities import Capabilities
from moorage.dataplane.conntrack import FakeConntrack
from moorage.dataplane.fake import FakeNft
from moorage.dataplane.model import NodeState, ServiceAddress, ServicePort, Target
from moorage.dataplane.nft import Nft, NftError
from moorage.dataplane.sync import Synchronizer
from tests.support.states import content, mooring, node_state, port, programmed

KEYS = [ServiceAddress(f"10.96.{number >> 8}.{number & 255}", "tcp", 80) for number in range(64)]
GOOD: NodeState = {key: port(key, [1, 2], 60) for key in KEYS}
KEY = KEYS[37]


def refused(key: ServiceAddress = KEY) -> ServicePort:
    """A port that looks well formed to all but nft."""
    one = port(key, [1])
    return msgspec.structs.replace(
        one, endpoints=(msgspec.structs.replace(one.endpoints[0], target=Target("203.0.113.1", 70_000)),)
    )


class Asked(FakeNft):
    """Counts what is asked of it, and can be made to refuse everything."""

    questions = 0
    broken = False

    async def refusal(self, script: str) -> str | None:
        self.questions += 1
        return "nft: Operation not permitted" if self.broken else await super().refusal(script)

    async def run(self, script: str) -> None:
        if self.broken:
            raise NftError("nft: Operation not permitted")
        await super().run(script)


@pytest.fixture
def nft() -> Asked:
    return Asked(lambda: 0.0)


def synchronizer(nft: Nft) -> Synchronizer:
    return Synchronizer(nft, FakeConntrack(), Capabilities(learn6=False, large_transactions=False))


async def same(nft: FakeNft, state: NodeState) -> bool:
    return await content(nft) == await content((await programmed(state))[0])


async def slots(nft: Nft) -> dict[str, set[object]]:
    """Where each address leads."""
    result: dict[str, set[object]] = {}
    for each in await nft.elements("slots-tcp4"):
        result.setdefault(str(each.key[0]), set()).add(each.value)
    return result


async def test_all_others_are_carried_and_it_is_named_in_nfts_words(either: Nft) -> None:
    sync = synchronizer(either)
    state = dict(GOOD)
    await sync.sync(state, state.keys())
    changed: NodeState = {KEY: refused(), KEYS[1]: port(KEYS[1], [7])}
    await sync.sync(state | changed, changed)
    found = await slots(either)
    assert found[KEYS[1].address] == {("203.0.113.7", 80)}
    assert found[KEY.address] == {("203.0.113.1", 80), ("203.0.113.2", 80)}, "its last good state"
    ((key, each),) = sync.refused.items()
    assert key == KEY
    assert "70000" in each.words
    assert "trial" not in each.words
    assert await either.chains() >= {"refuse", "dnat-output"}


async def test_a_mooring_costs_others_nothing_either(either: Nft) -> None:
    sync = synchronizer(either)
    await sync.sync(GOOD, set())
    good, bad = mooring("10.244.1.2", KEY, 1), mooring("nobody", KEY, 1)
    changed = node_state([good, bad, port(KEYS[1], [7])])
    await sync.sync(GOOD | changed, changed)
    assert list(sync.refused) == [bad.key]
    assert [each.key for each in await either.elements("moorings4")] == [("10.244.1.2", *KEY)]
    assert (await slots(either))[KEYS[1].address] == {("203.0.113.7", 80)}


async def test_at_the_start_too(either: Nft) -> None:
    sync = synchronizer(either)
    state: NodeState = GOOD | {KEY: refused()}
    await sync.sync(state, set())
    assert (await slots(either)).keys() == {key.address for key in KEYS if key != KEY}
    assert list(sync.refused) == [KEY]


async def test_in_several_transactions_too_and_each_is_searched_by_itself(
    nft: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_module, "MAX_ELEMENTS_SMALL", 150)
    bad = {KEYS[3], KEYS[40], KEYS[41], KEYS[60]}
    sync = synchronizer(nft)
    await sync.sync(GOOD | {key: refused(key) for key in bad}, set())
    assert sync.refused.keys() == bad
    assert await same(nft, {key: each for key, each in GOOD.items() if key not in bad})
    assert nft.questions < len(GOOD)


async def test_it_is_found_by_halving(nft: Asked) -> None:
    await synchronizer(nft).sync(GOOD | {KEY: refused()}, set())
    assert nft.questions <= 2 * (1 + log2(len(KEYS))) * 2 + 2, "each question is two scripts at most here"


async def test_what_is_wanted_otherwise_is_carried(nft: Asked) -> None:
    sync = synchronizer(nft)
    await sync.sync(GOOD, set())
    await sync.sync(GOOD | {KEY: refused()}, {KEY})
    assert await same(nft, GOOD)
    good = GOOD | {KEY: port(KEY, [5])}
    await sync.sync(good, {KEY})
    assert await same(nft, good)
    assert sync.refused == {}


async def test_what_is_gone_is_gone(nft: Asked) -> None:
    sync = synchronizer(nft)
    await sync.sync(GOOD, set())
    await sync.sync(GOOD | {KEY: refused()}, {KEY})
    rest = {key: each for key, each in GOOD.items() if key != KEY}
    await sync.sync(rest, {KEY})
    assert await same(nft, rest)
    assert sync.refused == {}


async def test_another_change_meanwhile_does_not_try_it_again(nft: Asked) -> None:
    sync = synchronizer(nft)
    await sync.sync(GOOD, set())
    await sync.sync(GOOD | {KEY: refused()}, {KEY})
    nft.questions = 0
    await sync.sync(GOOD | {KEY: refused(), KEYS[2]: port(KEYS[2], [9])}, {KEYS[2]})
    assert await same(nft, GOOD | {KEYS[2]: port(KEYS[2], [9])})
    assert nft.questions == 0


async def test_once_forgiven_it_is_tried_again(nft: Asked) -> None:
    sync = synchronizer(nft)
    await sync.sync(GOOD, set())
    wanted: NodeState = GOOD | {KEY: refused()}
    await sync.sync(wanted, {KEY})
    assert sync.retry_refused() == {KEY}
    await sync.sync(wanted, {KEY})
    assert list(sync.refused) == [KEY]
    assert await same(nft, GOOD)


async def test_of_very_many_some_are_left_out_unasked_until_they_are_tried_again(
    nft: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals_module, "MAX_QUESTIONS", 20)
    bad = set(KEYS[::3])
    wanted: NodeState = {key: refused(key) if key in bad else GOOD[key] for key in KEYS}
    sync = synchronizer(nft)
    await sync.sync(wanted, set())
    assert len(sync.refused) > len(bad)
    alone = {key for key, each in sync.refused.items() if each.words != refusals_module.NOT_NARROWED_DOWN}
    assert alone
    assert alone < bad
    for _ in range(len(bad)):
        if sync.refused.keys() == bad:
            break
        before, nft.questions = len(sync.refused), 0
        again = sync.retry_refused()
        assert again.isdisjoint(alone), "those that were found are not tried again before all others were"
        await sync.sync(wanted, again)
        assert nft.questions <= 50
        assert len(sync.refused) <= before
    assert sync.refused.keys() == bad
    assert await same(nft, {key: each for key, each in GOOD.items() if key not in bad})


async def test_a_cause_that_is_nobodys_element_is_not_taken_for_one(nft: Asked) -> None:
    sync = synchronizer(nft)
    await sync.sync(GOOD, set())
    nft.broken = True
    with pytest.raises(NftError, match="not permitted"):
        await sync.sync(GOOD | {KEY: port(KEY, [5])}, {KEY})
    assert sync.refused == {}
    nft.broken = False
    await sync.sync(GOOD | {KEY: port(KEY, [5])}, {KEY})
    assert await same(nft, GOOD | {KEY: port(KEY, [5])})


async def test_a_table_that_is_gone_is_nobodys_element(nft: Asked) -> None:
    sync = synchronizer(nft)
    await sync.sync(GOOD, set())
    await nft.run("delete table inet moorage\n")
    with pytest.raises(NftError, match="No such file"):
        await sync.sync(GOOD | {KEY: port(KEY, [5])}, {KEY})
    assert sync.refused == {}
    await sync.sync(GOOD | {KEY: port(KEY, [5])}, set())
    assert await same(nft, GOOD | {KEY: port(KEY, [5])})


async def test_a_mistake_of_ours_over_one_port_costs_that_port(nft: Asked) -> None:
    """No Service makes endpoints of one name; were it to happen, a slot table cannot be filled."""
    one = port(KEY, [1, 2])
    twins = msgspec.structs.replace(
        one, endpoints=tuple(msgspec.structs.replace(each, name="twin") for each in one.endpoints)
    )
    sync = synchronizer(nft)
    await sync.sync(GOOD, set())
    changed: NodeState = {KEY: twins, KEYS[1]: port(KEYS[1], [7])}
    await sync.sync(GOOD | changed, changed)
    assert await same(nft, GOOD | {KEYS[1]: port(KEYS[1], [7])})
    assert sync.refused[KEY].words == "ValueError, a bug in Moorage; the log says more"
