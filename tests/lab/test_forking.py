"""Programs started by a process that is copied for them, without namespaces."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from moorage.cli import main as cli
from moorage_lab.forking import FIRST_DESCRIPTOR, Forker, Program
from testing.eventually import eventually
from tests.support.forkers import forking_process


@pytest.fixture
def patched_main(monkeypatch: pytest.MonkeyPatch) -> None:
    """A `moorage` that says what it finds. A new Python would not have it: only a copy of this process does."""

    def main() -> None:
        print(sys.argv[1:])
        print(Path("/proc/self/comm").read_text(), end="")
        print(sys.stdin.read() == "", sorted(os.listdir("/proc/self/fd"), key=int)[:-1], flush=True)
        print("that is an error", file=sys.stderr)
        sys.exit(7)

    monkeypatch.setattr(cli, "main", main)


@pytest.fixture
async def forker(patched_main: None) -> AsyncIterator[Forker]:
    with forking_process() as (_, end):
        async with Forker(end) as forker:
            yield forker


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    (tmp_path / "a").mkdir()
    return tmp_path / "a"


def shell(text: str, descriptor: int | None = None) -> Program:
    return Program("shell", ["sh", "-c", text], "", descriptor)


async def test_moorage_runs_in_a_copy_with_its_own_name_log_and_files(forker: Forker, logs: Path) -> None:
    (logs / "agent-node-1.log").write_text("before\n")
    program = Program("agent-node-1", ["moorage", "node", "--node", "node-1"], "")
    assert await forker.run(program, logs) == 7
    assert (logs / "agent-node-1.log").read_text().splitlines() == [
        "before",
        "['node', '--node', 'node-1']",
        "a/agent-node-1",
        "True ['0', '1', '2']",
        "that is an error",
    ]


async def test_any_other_program_is_executed_and_its_status_returned(forker: Forker, logs: Path) -> None:
    assert await forker.run(shell("echo out; echo error >&2; exit 3"), logs) == 3
    assert (logs / "shell.log").read_text() == "out\nerror\n"
    assert await forker.run(shell("kill -KILL $$"), logs) == -signal.SIGKILL
    assert await forker.run(shell("kill -PIPE $$"), logs) == -signal.SIGPIPE


async def test_an_open_file_is_given_at_a_known_number(forker: Forker, logs: Path) -> None:
    read, write = os.pipe()
    assert await forker.run(shell(f"echo given >&{FIRST_DESCRIPTOR}", write), logs) == 0
    assert await forker.run(shell(f"echo not given >&{FIRST_DESCRIPTOR}"), logs) != 0
    os.close(write)
    with os.fdopen(read) as pipe:
        assert pipe.read() == "given\n"


async def test_what_cannot_be_started_says_why_in_its_log(forker: Forker, logs: Path) -> None:
    assert await forker.run(Program("nothing", ["no-such-program"], ""), logs) == 1
    assert (logs / "nothing.log").read_text() == "no-such-program: No such file or directory: no-such-program\n"
    assert await forker.run(Program("lost", ["moorage", "node"], "no-such-netns"), logs) == 1
    assert (logs / "lost.log").read_text() == "moorage: No such file or directory: /run/netns/no-such-netns\n"


async def test_a_bug_leaves_its_trace_in_the_log(monkeypatch: pytest.MonkeyPatch, logs: Path) -> None:
    def main() -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(cli, "main", main)
    with forking_process() as (_, end):
        async with Forker(end) as forker:
            assert await forker.run(Program("node", ["moorage", "node"], ""), logs) == 1
    assert (logs / "node.log").read_text().endswith("KeyError: 'a bug'\n")


async def test_cancelling_asks_it_to_end_and_awaits_that(forker: Forker, logs: Path) -> None:
    program = shell("trap 'echo ended; exit' TERM; echo $$; while :; do sleep 0.01; done")
    other = asyncio.create_task(forker.run(Program("other", ["sleep", "60"], ""), logs))
    task = asyncio.create_task(forker.run(program, logs))

    async def running() -> bool:
        log = logs / "shell.log"
        return log.exists() and "\n" in log.read_text()

    await eventually(running)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    pid, ended = (logs / "shell.log").read_text().split()
    assert ended == "ended"
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
    assert not other.done()
    other.cancel()
    await asyncio.wait([other])


def test_it_ends_when_the_other_end_closes() -> None:
    with forking_process() as (pid, end):
        end.close()
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        assert ended.si_status == 0
