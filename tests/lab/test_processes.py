"""Processes that are kept running, without namespaces: plain shells."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from moorage.errors import MoorageError
from moorage_lab import processes
from moorage_lab.forking import Forker, Program
from moorage_lab.processes import entering, keep_running, run_once
from testing.eventually import eventually
from tests.support.forkers import forking_process


def shell(text: str) -> Program:
    return Program("shell", ["sh", "-c", text], "")


@pytest.fixture
async def forker() -> AsyncIterator[Forker]:
    with forking_process() as (_, end):
        async with Forker(end) as forker:
            yield forker


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "MIN_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(processes, "MAX_WAIT_SECONDS", 0.04)


@pytest.mark.usefixtures("quick")
async def test_what_ends_is_started_again_and_its_output_kept(forker: Forker, tmp_path: Path) -> None:
    task = asyncio.create_task(keep_running(forker, shell("echo started; exit 1"), tmp_path))

    async def thrice() -> bool:
        log = tmp_path / "shell.log"
        return log.exists() and log.read_text().count("started") >= 3

    await eventually(thrice)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_what_must_not_end_says_why_it_did(forker: Forker, tmp_path: Path) -> None:
    with pytest.raises(MoorageError, match=r"^lab: .*: shell ended with status 3: last words$"):
        await run_once(forker, shell("echo more; echo last words; exit 3"), tmp_path)
    with pytest.raises(MoorageError, match=rf"status -{signal.SIGKILL:d}"):
        await run_once(forker, shell("kill -KILL $$"), tmp_path)


def test_the_callers_own_namespace_needs_no_entering() -> None:
    assert entering("") == []
    assert entering("a-node-1") == ["nsenter", "--net=/run/netns/a-node-1", "--"]
