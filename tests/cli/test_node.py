"""`moorage node`: what the agent is told, and how it ends."""

import asyncio
import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from moorage.cli.main import run
from moorage.cluster.client import Client
from moorage.cluster.kubeconfig import Config
from moorage.dataplane.fake import FakeNft
from moorage.dataplane.ruleset import base
from moorage.dataplane.services import Scope
from moorage.errors import MoorageError
from moorage.node import alone, main
from tests.support.tenants import kubeconfig_of


class Agents:
    """Stands for the node agent: notes what it is told, and then does `act`."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Scope]] = []
        self.nft = FakeNft(lambda: 0.0)

    def __call__(self, client: Client, synchronizer: Any, scope: Scope, *observer: object, **how: object) -> "Agents":
        self.told.append((client.config.server, scope))
        return self

    def act(self) -> None: ...

    async def run(self) -> None:
        self.act()
        await asyncio.Event().wait()


@pytest.fixture
def agents(monkeypatch: pytest.MonkeyPatch) -> Agents:
    agents = Agents()
    monkeypatch.setattr(main, "Agent", agents)
    monkeypatch.setattr(main, "KernelNft", lambda: agents.nft)
    monkeypatch.setattr(main, "KernelConntrack", lambda: None)
    # Of this test alone: others run beside it.
    monkeypatch.setattr(alone, "NAME", f"moorage-test-{uuid.uuid4()}")
    return agents


@pytest.fixture
def reachable(tmp_path: Path) -> str:
    """A kubeconfig."""
    path = tmp_path / "kubeconfig"
    path.write_text(kubeconfig_of(Config(server="http://192.0.2.1:6443", token="t")))
    return str(path)


@pytest.fixture
def refused() -> Iterator[None]:
    """Both signals fail the test where the program does not handle them."""

    def unhandled(number: int, _: FrameType | None) -> None:
        raise AssertionError(f"{signal.Signals(number).name} is not handled")

    before = {number: signal.signal(number, unhandled) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("words", "scope"),
    [
        ([], Scope("node-1", labelled_only=True, addresses="cluster")),
        (["--services", "all"], Scope("node-1", labelled_only=False, addresses="cluster")),
        (["--addresses", "load-balancer"], Scope("node-1", labelled_only=True, addresses="load-balancer")),
    ],
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.usefixtures("refused")
def test_the_agent_is_told_what_to_carry_and_ends_in_order_on_a_signal(
    words: list[str],
    scope: Scope,
    number: signal.Signals,
    agents: Agents,
    reachable: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(agents, "act", lambda: os.kill(os.getpid(), number))
    assert run(["node", "--kubeconfig", reachable, "--node", "node-1", *words]) == 0
    assert agents.told == [("http://192.0.2.1:6443", scope)]


def test_what_ends_the_agent_is_said(
    agents: Agents, reachable: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise MoorageError("the kernel refuses")

    monkeypatch.setattr(agents, "act", fail)
    assert run(["node", "--kubeconfig", reachable, "--node", "node-1"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "moorage: the kernel refuses"


def test_without_a_kubeconfig_it_must_be_in_a_pod(
    agents: Agents, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert run(["node", "--node", "node-1"]) == 1
    assert capsys.readouterr().err.startswith("moorage: in-cluster configuration: KUBERNETES_SERVICE_HOST ")


def test_without_a_name_of_the_node_it_says_which_option_is_missing(
    agents: Agents, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("NODE_NAME", raising=False)
    assert run(["node"]) == 2
    assert "Missing option '--node'" in capsys.readouterr().err


@pytest.mark.usefixtures("refused")
def test_a_second_agent_on_a_node_refuses_to_start(
    agents: Agents, reachable: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["node", "--kubeconfig", reachable, "--node", "node-1"]
    with alone.alone():
        assert run(words) == 1
        assert "a node agent runs here already" in capsys.readouterr().err
        assert run(["node", "--remove"]) == 1
        assert "a node agent runs here already" in capsys.readouterr().err
    assert agents.told == []
    monkeypatch.setattr(agents, "act", lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert run(words) == 0


def test_removal_takes_the_table_and_needs_neither_a_name_nor_an_api_server(
    agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NODE_NAME", raising=False)
    asyncio.run(agents.nft.run("\n".join(base(learn6=True)) + "\n"))
    assert asyncio.run(agents.nft.chains())
    for _ in range(2):
        assert run(["node", "--remove"]) == 0
        assert not asyncio.run(agents.nft.chains())
