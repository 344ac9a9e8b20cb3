"""`moorage sessions`: who is pinned to what on this node."""

import asyncio
from pathlib import Path

import pytest

from moorage.cli import sessions
from moorage.cli.main import run
from moorage.dataplane.fake import FakeNft
from moorage.dataplane.ruleset import base
from tests.support.apiserver import api_server

LEARNED = """\
add element inet moorage sessions4 { 10.244.1.2 . 10.96.0.10 . tcp . 9000 timeout 60s expires 50s : 203.0.113.1 . 80 }
add element inet moorage sessions6 { fd00::2 . fd00:10:96::1 . udp . 53 timeout 60s expires 7s : 2001:db8::1 . 5353 }
"""
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "backend", "namespace": "frontend"},
    "spec": {"clusterIP": "10.96.0.10", "ports": [{"port": 9000}]},
}


@pytest.fixture
async def kernel(monkeypatch: pytest.MonkeyPatch) -> FakeNft:
    """In it two clients are pinned."""
    nft = FakeNft(lambda: 0.0)
    await nft.run("\n".join(base(learn6=True)) + "\n")
    await nft.run(LEARNED)
    monkeypatch.setattr(sessions, "KernelNft", lambda: nft)
    return nft


def rows(out: str) -> list[list[str]]:
    return [line.split() for line in out.splitlines()]


@pytest.mark.usefixtures("kernel")
async def test_each_learned_session_is_a_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert await asyncio.to_thread(run, ["sessions"]) == 0
    assert rows(capsys.readouterr().out) == [
        ["CLIENT", "SERVICE", "ADDRESS", "ENDPOINT", "SECONDS", "LEFT"],
        ["10.244.1.2", "-", "10.96.0.10:9000/tcp", "203.0.113.1:80", "50"],
        ["fd00::2", "-", "[fd00:10:96::1]:53/udp", "[2001:db8::1]:5353", "7"],
    ]


@pytest.mark.usefixtures("kernel")
async def test_services_are_named_where_the_api_can_be_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with api_server() as server:
        await server.create("/api/v1/namespaces", {"metadata": {"name": "frontend"}})
        await server.create("/api/v1/namespaces/frontend/services", SERVICE)
        kubeconfig = server.kubeconfig(tmp_path / "kubeconfig")
        assert await asyncio.to_thread(run, ["sessions", "--kubeconfig", str(kubeconfig)]) == 0
    assert [row[1] for row in rows(capsys.readouterr().out)[1:]] == ["frontend/backend", "-"]
