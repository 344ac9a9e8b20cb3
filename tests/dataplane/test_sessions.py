"""Sessions that the state no longer bears out are forgotten, or keep their age under another timeout."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from moorage.dataplane.elements import MAX_SMALL
from moorage.dataplane.fake import FakeNft
from moorage.dataplane.model import Moored, ServiceAddress, Target
from moorage.dataplane.nft import Nft, NftError
from moorage.dataplane.ruleset import base
from moorage.dataplane.sessions import MAX_REFUSED, Correction, Session, correct, corrections, read
from tests.support.netns import Namespace
from tests.support.states import mooring, node_state, port

KEY = ServiceAddress("10.96.0.1", "tcp", 80)
KEY6 = ServiceAddress("fd00:10:96::1", "udp", 80)
ONE = Target("203.0.113.1", 80)


def session(
    timeout: int, left: int, target: Target = ONE, key: ServiceAddress = KEY, client: str = "10.244.1.2"
) -> Session:
    return Session.of(client, key, target, timeout, left)


def ageless(each: Session) -> tuple[str, ServiceAddress, Target, int]:
    return each.client, each.key, each.target, each.timeout


def test_a_session_to_an_endpoint_in_use_stays() -> None:
    assert corrections([session(60, 5)], {KEY: port(KEY, [1], 60)}) == []


def test_sessions_of_removed_endpoints_services_and_affinity_go() -> None:
    one = session(60, 5)
    for ports in ([], [port(KEY, [2], 60)], [port(KEY, [1])], [port(KEY, [], 60)]):
        assert corrections([one], node_state(ports)) == [Correction(one)]


def test_only_the_sessions_of_the_given_keys_are_looked_at() -> None:
    one, other = session(60, 5), session(60, 5, key=ServiceAddress("10.96.0.2", "tcp", 80))
    assert corrections([one, other], {}, {KEY}) == [Correction(one)]


def test_the_session_of_a_client_that_has_moved_goes_unless_it_is_one_with_the_new_endpoint() -> None:
    key = KEY
    old, new = session(60, 5), session(60, 5, Target("203.0.113.2", 80))
    neighbour = session(60, 5, client="10.244.1.9")
    moved = mooring(old.client, key, 2)
    state = node_state([port(key, [1, 2], Moored(60)), moved])
    assert corrections([old, new, neighbour], state, (), {moved.key}) == [Correction(old)]
    assert corrections([old, new, neighbour], state) == []


@given(st.integers(1, 86400), st.integers(1, 86400), st.data())
def test_another_timeout_counts_from_the_last_connection(old: int, new: int, data: st.DataObject) -> None:
    # Older ones cannot be told from those that were renewed since the timeout is shorter.
    age = data.draw(st.integers(0, min(old, old - new - 1 if new < old else old)))
    made = session(old, old - age)
    found = corrections([made], {KEY: port(KEY, [1], new)})
    if old == new:
        assert found == []
    elif age >= new:
        assert found == [Correction(made)]
    else:
        assert found == [Correction(made, new, new - age)]
        changed = session(found[0].timeout, found[0].left)
        assert corrections([changed], {KEY: port(KEY, [1], new)}) == []


@given(st.integers(1, 86400), st.integers(1, 86400), st.data())
def test_a_session_that_was_renewed_for_another_timeout_counts_from_then(
    old: int, new: int, data: st.DataObject
) -> None:
    """The kernel shows such a session with the old timeout, and what the new one left of it."""
    ago = data.draw(st.integers(0, new))
    for change in corrections([session(old, new - ago)], {KEY: port(KEY, [1], new)}):
        assert change.timeout == new
        # Up to `old` seconds left it may as well be as old as that; then it is given more.
        assert max(new - ago, 1) <= change.left <= new


@pytest.fixture
async def nft() -> FakeNft:
    made = FakeNft(lambda: 0.0)
    await made.run("\n".join(base(learn6=True)) + "\n")
    return made


async def learn(nft: Nft, each: Session) -> None:
    target = f"{each.target.address} . {each.target.port}"
    script = f"{each.text} timeout {each.timeout}s expires {each.left}s : {target}"
    await nft.run(f"add element inet moorage {each.container.name} {{ {script} }}\n")


async def test_corrections_are_safe_for_sessions_that_expired_meanwhile() -> None:
    now = 0.0
    nft = FakeNft(lambda: now)
    await nft.run("\n".join(base(learn6=True)) + "\n")
    kept, gone = session(60, 50), session(60, 50, client="10.244.1.3")
    six = session(60, 50, Target("2001:db8::1", 80), KEY6, "fd00::2")
    for each in (kept, gone, six):
        await learn(nft, each)
    assert sorted(await read(nft)) == sorted([kept, gone, six])
    now = 55.0
    assert await read(nft) == []
    assert await correct(nft, [Correction(kept, 100, 90), Correction(gone), Correction(six)]) is None
    assert await read(nft) == [session(100, 90)]


async def test_sessions_are_read_as_nft_lists_them(netns: Namespace) -> None:
    await netns.nft.run("\n".join(base(learn6=False)) + "\n")
    made = [
        session(60, 50),
        session(86_400, 86_400, Target("203.0.113.254", 65535), ServiceAddress("10.96.0.2", "udp", 53)),
        session(60, 50, Target("2001:db8::1", 80), KEY6, "fd00::2"),
        session(60, 50, Target("::c000:207", 80), KEY6, "::c000:208"),
    ]
    for each in made:
        await learn(netns.nft, each)
    found = sorted(await read(netns.nft))
    assert [ageless(each) for each in found] == [ageless(each) for each in sorted(made)]
    assert all(0 <= each.left <= each.timeout for each in found)
    assert await correct(netns.nft, [Correction(each) for each in found]) is None
    assert await read(netns.nft) == []


async def test_it_gives_up_when_the_kernel_refuses_all_the_time(
    nft: FakeNft, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    async def refuse(*_: object) -> None:
        nonlocal asked
        asked += 1
        raise NftError("nf_tables: File exists")

    monkeypatch.setattr(nft, "relearn", refuse)
    several = [Correction(session(60, 5, client=f"10.244.{n // 250}.{n % 250}")) for n in range(1000)]
    assert "File exists" in str(await correct(nft, several, most=1))
    assert asked == MAX_REFUSED


async def test_many_corrections_are_cut_into_transactions_and_one_that_is_refused_keeps_no_other(
    nft: FakeNft,
) -> None:
    several = [session(60, 5, client=f"10.244.{n // 250}.{n % 250}") for n in range(2 * MAX_SMALL + 1)]
    for each in several:
        await learn(nft, each)
    nft.scripts.clear()
    await nft.run(f"delete element inet moorage sessions4 {{ {several[0].text} }}\n")
    await learn(nft, replace(several[0], target=Target("203.0.113.2", 80)))
    refused = await correct(nft, [Correction(each) for each in several])
    assert "File exists" in str(refused)
    assert len(await read(nft)) == MAX_SMALL
    assert len(nft.scripts) == 2 + 2
