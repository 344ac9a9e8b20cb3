"""The agent as a process on the real kernel: restarted under load, and killed in the middle."""

import asyncio
import os
import shutil
import signal
import socket
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from moorage.cluster.client import Client
from moorage_lab.apiserver import credentials
from testing.eventually import eventually
from tests.support.apiserver import RunningApiServer, api_server, kind
from tests.support.network import CLIENTS, Network, network
from tests.support.objects import SERVICE_ADDRESS, apply, service, slice_

PORT = 9000
BOUND = 50.0
"""Seconds until a sync of 300 Services is done. It takes 1.3 of processor; 22 passed where 25 programs wanted one."""
OTHERS = """
table ip others {
  chain postrouting {
    type nat hook postrouting priority 100;
    ip daddr 192.0.2.1 masquerade
  }
}
"""
"""As on nodes with kube-proxy: the kernel tracks and translates connections as long as somebody's rules want that."""
SMALL_TRANSACTIONS = """
from moorage.cli.main import main
from moorage.dataplane import sync
from moorage.node.agent import Agent
sync.MAX_ELEMENTS_LARGE = sync.MAX_ELEMENTS_SMALL
Agent.CHECK_SECONDS = 3600.0
main()
"""
"""The agent as it is without NET_ADMIN outside of user namespaces: with it, a sync would be one transaction.
It does not look at the kernel now and then: what is noticed is noticed otherwise."""

METRICS = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:10271/metrics').read().decode())"


class Node:
    """A node on the real kernel, its API on the node's own loopback, and the agent as a process."""

    def __init__(self, net: Network, server: RunningApiServer, client: Client, kubeconfig: Path) -> None:
        self.net = net
        self.client = client
        self._server = server
        self.nft = net.node.nft
        self._kubeconfig = kubeconfig

    def store(self, *objects: dict[str, Any]) -> None:
        """As they are: hundreds of requests would take longer than what is tested."""
        for each in objects:
            metadata = {**each["metadata"], "uid": str(uuid.uuid4())}
            self._server.store.put(kind(each["kind"]), {**each, "metadata": metadata})

    @asynccontextmanager
    async def agent(
        self, *words: str, before: Sequence[str] = (), stderr: int | None = None, **environment: str
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        """The agent's process, with these words added to its command line, and this of its environment changed.

        `before`: words that run it. What still runs of it at the end is killed.
        """
        argv = [
            "-c",
            SMALL_TRANSACTIONS,
            "node",
            "--kubeconfig",
            str(self._kubeconfig),
            "--node",
            "node-1",
            "--services",
            "all",
            *words,
        ]
        process = await asyncio.create_subprocess_exec(
            *self.net.node.prefix,
            *before,
            sys.executable,
            *argv,
            stderr=stderr,
            env={**os.environ, **environment},
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def connect(self, client: str = CLIENTS[0], address: str = SERVICE_ADDRESS) -> str:
        return await asyncio.to_thread(self.net.ask, "tcp", client, address, PORT)

    async def reaches(self, answer: str) -> None:
        """Wait until the first client's new connections get this answer."""

        async def condition() -> bool:
            return await self.connect() == answer

        await eventually(condition)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    with network() as net, net.node.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        async with api_server() as server, Client(server.config) as client:
            await server.server.listen_on(listener)
            kubeconfig = tmp_path / "kubeconfig"
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"
            kubeconfig.write_text(credentials.kubeconfig(address, server.config.token, None))
            yield Node(net, server, client, kubeconfig)


async def test_a_restart_under_load_fails_no_connection_and_moves_nobody(node: Node) -> None:
    await apply(node.client, service(), slice_("203.0.113.1", "203.0.113.2"))
    seen: list[str] = []

    async def load() -> None:
        while True:
            seen.append(await node.connect())

    async with node.agent() as first:
        await eventually(lambda: answers(node))
        loading = asyncio.create_task(load())
        first.terminate()
        assert await first.wait() == 0
    before = len(seen)
    async with node.agent():
        await apply(node.client, service("other", "10.96.0.101"), slice_("203.0.113.9", name="other"))

        async def programmed() -> bool:
            elements = await node.nft.elements("services4")
            return any(each.key[0] == "10.96.0.101" for each in elements)

        await eventually(programmed)
        during = len(seen)
        await eventually(lambda: more(seen, during + 20))
    loading.cancel()
    assert during > before, "connections were made while the agent started"
    assert len(set(seen)) == 1, set(seen)


async def answers(node: Node) -> bool:
    return (await node.connect()).startswith("203.0.113.")


async def more(seen: list[str], count: int) -> bool:
    return len(seen) >= count


def deadly_nft(directory: Path, transactions: int) -> str:
    """A PATH whose nft kills its caller, an agent, when that has run so many transactions and begins the next.

    Nobody who looks from outside kills it in time: a listing of a table that changes is begun anew until it rests.
    """
    count, nft = directory / "transactions", directory / "nft"
    nft.write_text(
        f"""#!/bin/sh
if [ "$1" = -f ]; then
    echo >> {count}
    [ "$(wc -l < {count})" -le {transactions} ] || kill -KILL $PPID
fi
exec {shutil.which("nft")} "$@"
"""
    )
    nft.chmod(0o755)
    return f"{directory}{os.pathsep}{os.environ['PATH']}"


@pytest.mark.parametrize("transactions", [1, 4, 11])
async def test_an_agent_that_is_killed_in_the_middle_of_a_sync_is_made_good_by_the_next(
    node: Node, tmp_path: Path, transactions: int
) -> None:
    await apply(node.client, service(), slice_("203.0.113.1", "203.0.113.2"))
    for number in range(300):
        name, addresses = f"s{number:03}", [f"198.18.{number % 256}.{each}" for each in range(1, 11)]
        node.store(service(name, f"10.97.{number // 250}.{number % 250}"), slice_(*addresses, name=name))
    async with node.agent(PATH=deadly_nft(tmp_path, transactions)) as first:
        assert await asyncio.wait_for(first.wait(), BOUND) == -signal.SIGKILL
    assert len(await node.nft.elements("services4")) < 301
    async with node.agent():

        async def done() -> bool:
            return len(await node.nft.elements("services4")) == 301 and bool(await node.nft.elements("digest"))

        await eventually(done, seconds=BOUND)
        assert (await node.connect()).startswith("203.0.113.")
        slots = await node.nft.elements("slots-tcp4")
        assert len(slots) == 300 * 60 + 24


@pytest.mark.parametrize("command", ["flush ruleset", "delete table inet moorage"])
async def test_a_table_that_somebody_deletes_is_there_again(node: Node, command: str) -> None:
    await apply(node.client, service(), slice_("203.0.113.1"))
    async with node.agent():
        await node.reaches("203.0.113.1")
        node.net.node.run("nft", command)
        await node.reaches("203.0.113.1")


async def test_what_the_kernel_can_do_and_what_is_carried_is_told_as_metrics(node: Node) -> None:
    await apply(node.client, service(), slice_("203.0.113.1"))
    async with node.agent("--listen", "127.0.0.1:10271"):
        await node.reaches("203.0.113.1")
        told: list[str] = []

        async def synced() -> bool:
            told[:] = node.net.node.run(sys.executable, "-c", METRICS).splitlines()
            return "moorage_node_synced 1.0" in told

        await eventually(synced)
        assert "moorage_node_ports 1.0" in told
        assert any(each.startswith('moorage_node_info{nft="') for each in told)


@pytest.mark.parametrize("before", [(), ("setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw")])
async def test_an_agent_that_cannot_wake_idle_clients_says_so(node: Node, before: Sequence[str]) -> None:
    await apply(node.client, service(), slice_("203.0.113.1"))
    said = ""
    async with node.agent(before=before, stderr=asyncio.subprocess.PIPE) as agent:
        assert agent.stderr is not None
        while "synced" not in said:
            line = await asyncio.wait_for(agent.stderr.readline(), BOUND)
            assert line, said
            said += line.decode()
    assert ("without the capability NET_RAW" in said) == bool(before)


async def test_a_second_agent_ends_at_once_and_the_first_goes_on(node: Node) -> None:
    await apply(node.client, service(), slice_("203.0.113.1"))
    async with node.agent():
        await node.reaches("203.0.113.1")
        async with node.agent() as second:
            assert await asyncio.wait_for(second.wait(), BOUND) == 1
        await apply(node.client, slice_("203.0.113.2"))
        await node.reaches("203.0.113.2")


async def test_removal_takes_the_table_and_breaks_no_open_connection(node: Node) -> None:
    def ask(*request: str | int) -> Awaitable[str]:
        return asyncio.to_thread(node.net.ask, *request)

    node.net.node.run("nft", "-f", "-", input=OTHERS)
    await apply(node.client, service(), slice_("203.0.113.1"))
    async with node.agent() as agent:
        await node.reaches("203.0.113.1")
        assert await ask("open", "kept", CLIENTS[0], SERVICE_ADDRESS, PORT) == "203.0.113.1"
        agent.terminate()
        assert await agent.wait() == 0
    for _ in range(2):
        async with node.agent("--remove") as removing:
            assert await asyncio.wait_for(removing.wait(), BOUND) == 0
        assert not await node.nft.chains()
    assert "others" in node.net.node.run("nft", "list", "tables")
    assert await ask("say", "kept") == "203.0.113.1"
    async with node.agent():
        await node.reaches("203.0.113.1")
