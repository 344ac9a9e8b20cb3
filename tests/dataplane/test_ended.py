"""What is learned of clients that are no more is forgotten, and of nobody else."""

import pytest

from moorage.dataplane import sessions
from moorage.dataplane.capabilities import Capabilities
from moorage.dataplane.conntrack import FakeConntrack
from moorage.dataplane.elements import RawElement
from moorage.dataplane.ended import forget
from moorage.dataplane.fake import FakeNft
from moorage.dataplane.model import Moored, ServiceAddress
from moorage.dataplane.nft import Nft
from moorage.dataplane.sync import Synchronizer
from tests.support.states import node_state, port

KEY, KEY6 = ServiceAddress("10.96.0.1", "tcp", 80), ServiceAddress("fd00:10:96::1", "tcp", 80)
OTHER = ServiceAddress("10.96.0.2", "tcp", 80)
GONE, STAYS, NEAR = "10.244.1.2", "10.244.1.3", "10.244.1.22"
GONE6, STAYS6 = "fd00:10:244:1::2", "fd00:10:244:1::3"
STATE = node_state([port(KEY, [1], Moored(60, holds=True)), port(KEY6, [1], Moored(60)), port(OTHER, [1], 60)])


@pytest.fixture
def nft(either: Nft) -> Nft:
    return either


async def learn(nft: Nft) -> None:
    """As if each client had waited, and had then connected to each port."""
    for client, key, target in [
        *((client, key, "203.0.113.1") for client in (GONE, STAYS, NEAR) for key in (KEY, OTHER)),
        *((client, KEY6, "2001:db8::1") for client in (GONE6, STAYS6)),
    ]:
        session = f"{client} . {key.address} . tcp . 80 timeout 60s : {target} . 80"
        wait = f"{client} . {key.address} . 80 timeout 60s"
        await nft.run(
            f"add element inet moorage sessions{key.family} {{ {session} }}\n"
            f"add element inet moorage waited{key.family} {{ {wait} }}\n"
        )


async def pinned(nft: Nft) -> set[tuple[str, ServiceAddress]]:
    return {(each.client, each.key) for each in await sessions.read(nft)}


async def waited(nft: Nft) -> set[str]:
    return {str(each.key[0]) for name in ("waited4", "waited6") for each in await nft.elements(name)}


async def test_sessions_of_moored_ports_and_waits_of_these_clients_go(nft: Nft) -> None:
    sync = Synchronizer(nft, FakeConntrack(), Capabilities(learn6=False))
    await sync.sync(STATE, STATE)
    await learn(nft)
    done = await sync.sync(STATE, (), ended=[GONE, GONE6])
    assert done == (0, 2, 0)
    assert await pinned(nft) == {
        *((client, key) for client in (STAYS, NEAR) for key in (KEY, OTHER)),
        (GONE, OTHER),
        (STAYS6, KEY6),
    }
    assert await waited(nft) == {STAYS, NEAR, STAYS6}
    assert await sync.sync(STATE, (), ended=[GONE, GONE6]) == (0, 0, 0)


async def test_where_nothing_is_moored_nothing_is_read() -> None:
    class Unread(FakeNft):
        async def learned(self, name: str) -> list[RawElement]:
            raise AssertionError(f"{name} was read")

    assert await forget(Unread(lambda: 0.0), [GONE], node_state([port(OTHER, [1], 60)])) == 0
    assert await forget(Unread(lambda: 0.0), [], STATE) == 0
