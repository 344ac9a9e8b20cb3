"""Real child processes."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

from moorage.api.meta import ObjectKey
from moorage.core.health import Outcome
from moorage.outside.checks import RemoteProber
from moorage.outside.child import LIMITS, PARTS
from moorage.outside.messages import Ping, Pong
from moorage.outside.process import start, start_checks
from moorage.probe.check import Check, Target
from testing.eventually import eventually

KEY = ObjectKey("frontend", "backend")


def children(of: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{of}/task/{of}/children").read_text().split()]


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_a_child_that_is_killed_is_replaced_by_one_that_goes_on_checking() -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    outcomes: list[Outcome] = []
    prober = RemoteProber(start_checks, lambda key, name, outcome: outcomes.append(outcome))
    try:
        prober.set(KEY, {"one": Target("127.0.0.1", server.sockets[0].getsockname()[1])}, Check(interval=0.05))

        async def checked() -> bool:
            return bool(outcomes)

        await eventually(checked)
        [child] = children(os.getpid())
        os.kill(child, signal.SIGKILL)

        async def replaced() -> bool:
            return bool(children(os.getpid())) and child not in children(os.getpid())

        await eventually(replaced)
        outcomes.clear()
        await eventually(checked)
        assert {outcome.success for outcome in outcomes} == {True}
    finally:
        await prober.close()
        server.close()
    assert children(os.getpid()) == []


async def test_every_child_ends_in_order_when_its_channel_closes() -> None:
    for part in PARTS:
        child = await start(part)
        child.channel.close()
        assert await child.end(patience=20.0) == "ended with status 0"


async def test_a_child_that_does_not_end_is_killed() -> None:
    child = await start("checks")
    [pid] = children(os.getpid())
    os.kill(pid, signal.SIGSTOP)
    child.channel.close()
    assert await child.end(patience=0.1) == "was ended by signal 9"


async def test_every_child_is_held_to_its_limits_and_comes_after_the_operator() -> None:
    for part in PARTS:
        child = await start(part)
        try:
            [pid] = children(os.getpid())
            process = Path(f"/proc/{pid}")

            async def limited(process: Path = process) -> bool:
                return (process / "oom_score_adj").read_text().strip() == "1000"

            await eventually(limited)
            lines = (process / "limits").read_text().splitlines()[1:]
            limits = {line[:26].strip(): line[26:].split()[:2] for line in lines}
            assert limits["Max data size"] == [str(LIMITS[part].memory)] * 2
            most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            files = LIMITS[part].files if most == resource.RLIM_INFINITY else min(LIMITS[part].files, most)
            assert limits["Max open files"] == [str(files)] * 2
            assert limits["Max core file size"] == ["0", "0"]
            after = os.getpriority(os.PRIO_PROCESS, pid) - os.getpriority(os.PRIO_PROCESS, 0)
            assert after == LIMITS[part].niceness
        finally:
            child.channel.close()
            await child.end()


async def test_ctrl_c_is_for_the_operator_which_ends_its_children() -> None:
    for part in PARTS:
        child = await start(part)
        child.channel.send(Ping(1))
        assert await child.channel.receive() == Pong(1)
        [pid] = children(os.getpid())
        os.kill(pid, signal.SIGINT)
        child.channel.send(Ping(2))
        assert await child.channel.receive() == Pong(2)
        child.channel.close()
        assert await child.end(patience=20.0) == "ended with status 0"


HOG = """
from moorage.outside.child import Limits, limit
limit(Limits(memory=64 * 2**20, files=64, niceness=0))
try:
    bytearray(128 * 2**20)
except MemoryError:
    print("refused")
"""


def test_memory_beyond_the_limit_is_refused() -> None:
    done = subprocess.run([sys.executable, "-c", HOG], capture_output=True, text=True, timeout=60)
    assert done.stdout == "refused\n", done.stderr


OPERATOR = """
import asyncio
from moorage.outside.process import start
async def main():
    children = [await start(part) for part in ("checks", "sources")]
    print("started", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_no_child_outlives_an_operator_that_is_killed() -> None:
    argv = sys.executable, "-c", OPERATOR
    operator = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    try:
        assert operator.stdout is not None
        assert await operator.stdout.readline() == b"started\n"
        pids = children(operator.pid)
        assert len(pids) == 2
    finally:
        operator.kill()
        await operator.wait()

    async def gone() -> bool:
        return not any(map(lives, pids))

    await eventually(gone, 30)
