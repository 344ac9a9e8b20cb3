"""Processes that are kept running, without namespaces: plain shells."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from moorage.errors import MoorageError
from moorage_lab import processes
from moorage_lab.processes import Program, entering, keep_running, run_once
from testing.eventually import eventually


def shell(text: str, *descriptors: int) -> Program:
    return Program("shell", ["sh", "-c", text], "", descriptors)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "MIN_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(processes, "MAX_WAIT_SECONDS", 0.04)


@pytest.mark.usefixtures("quick")
async def test_what_ends_is_started_again_and_its_output_kept(tmp_path: Path) -> None:
    task = asyncio.create_task(keep_running(shell("echo started; exit 1"), tmp_path))

    async def thrice() -> bool:
        log = tmp_path / "shell.log"
        return log.exists() and log.read_text().count("started") >= 3

    await eventually(thrice)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_cancelling_asks_it_to_end_and_awaits_that(tmp_path: Path) -> None:
    program = shell("trap 'echo ended; exit' TERM; echo $$; while :; do sleep 0.01; done")
    task = asyncio.create_task(keep_running(program, tmp_path))

    async def running() -> bool:
        log = tmp_path / "shell.log"
        return log.exists() and "\n" in log.read_text()

    await eventually(running)
    task.cancel()
    await asyncio.wait([task])
    pid, ended = (tmp_path / "shell.log").read_text().split()
    assert ended == "ended"
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


async def test_what_must_not_end_says_why_it_did(tmp_path: Path) -> None:
    with pytest.raises(MoorageError, match=r"^lab: .*: shell ended with status 3: last words$"):
        await run_once(shell("echo more; echo last words; exit 3"), tmp_path)
    with pytest.raises(MoorageError, match=rf"status -{signal.SIGKILL:d}"):
        await run_once(shell("kill -KILL $$"), tmp_path)


async def test_open_files_are_inherited_only_if_named(tmp_path: Path) -> None:
    read, write = os.pipe()
    with pytest.raises(MoorageError):
        await run_once(shell(f"echo given > /dev/fd/{write}", write), tmp_path)
    with pytest.raises(MoorageError):
        await run_once(shell(f"echo not given > /dev/fd/{write}"), tmp_path)
    os.close(write)
    with os.fdopen(read) as pipe:
        assert pipe.read() == "given\n"


def test_the_callers_own_namespace_needs_no_entering() -> None:
    assert entering("") == []
    assert entering("a-node-1") == ["nsenter", "--net=/run/netns/a-node-1", "--"]
