"""A deletion of the table is noticed, and nothing else is."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from moorage.dataplane import presence as presence_module
from moorage.dataplane.presence import Presence
from moorage.dataplane.ruleset import base
from testing.inside import netlink_inside
from tests.support.netns import Namespace

OWN = "\n".join(base(learn6=False)) + "\n"
OTHERS = "add table ip others; add chain ip others c; add set ip others s { typeof ip saddr; }"


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence_module, "POLL_SECONDS", 0.001)


@pytest.fixture
def presence(netns: Namespace) -> Iterator[Presence]:
    netns.run("nft", "-f", "-", input=OWN)
    made = Presence(netns.netlink)
    yield made
    made.close()


async def noticed(presence: Presence) -> None:
    async with asyncio.timeout(20):
        await presence.until_deleted()


async def nothing_is_noticed(presence: Presence) -> bool:
    """It has asked many times and noticed nothing."""
    waiting = asyncio.create_task(presence.until_deleted())
    await asyncio.sleep(0.1)
    done = waiting.done()
    waiting.cancel()
    await asyncio.wait([waiting])
    return not done


@pytest.mark.parametrize(
    "command",
    [
        "flush ruleset",
        "delete table inet moorage",
        "delete table inet moorage; add table inet moorage",
        f"{OTHERS}; flush ruleset",
    ],
)
async def test_whoever_deletes_the_table_it_is_noticed(netns: Namespace, presence: Presence, command: str) -> None:
    netns.run("nft", command)
    await noticed(presence)
    netns.run("nft", "-f", "-", input=OWN)
    assert await nothing_is_noticed(presence), "that was ourselves"
    netns.run("nft", command)
    await noticed(presence)


async def test_a_table_that_is_deleted_again_before_it_was_seen_is_noticed(
    netns: Namespace, presence: Presence
) -> None:
    netns.run("nft", "flush ruleset")
    await noticed(presence)
    netns.run("nft", "-f", "-", input=OWN)
    netns.run("nft", "flush ruleset")
    await noticed(presence)


async def test_our_own_transactions_are_not_noticed(netns: Namespace, presence: Presence) -> None:
    waiting = asyncio.create_task(presence.until_deleted())
    for script in (
        OWN,
        "add element inet moorage addresses4 { 10.96.0.1 }\nflush set inet moorage addresses4\n",
        "add chain inet moorage one\nadd rule inet moorage one drop\nflush chain inet moorage one\n",
        "delete chain inet moorage one\n",
    ):
        await asyncio.to_thread(netns.run, "nft", "-f", "-", input=script)
    assert not waiting.done()
    waiting.cancel()


async def test_what_others_do_to_their_tables_is_not_noticed(netns: Namespace, presence: Presence) -> None:
    waiting = asyncio.create_task(presence.until_deleted())
    for command in (f"{OTHERS}; add table ip moorage; add table inet others", "delete table ip moorage"):
        await asyncio.to_thread(netns.run, "nft", command)
    assert not waiting.done()
    waiting.cancel()


async def test_the_first_table_is_not_taken_for_another(netns: Namespace) -> None:
    presence = Presence(netns.netlink)
    try:
        netns.run("nft", "-f", "-", input=OWN)
        assert await nothing_is_noticed(presence)
        netns.run("nft", "flush ruleset")
        await noticed(presence)
    finally:
        presence.close()


def test_without_the_permission_the_kernel_tells_nothing(netns: Namespace) -> None:
    powerless = [*netns.prefix, "setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    made: list[socket.socket] = []

    def connect() -> socket.socket:
        made.append(netlink_inside(powerless))
        return made[0]

    with pytest.raises(PermissionError):
        Presence(connect)
    assert made[0].fileno() == -1, "it is closed"
