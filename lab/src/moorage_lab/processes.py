"""Keeps the lab's long-running processes up: starts them again when they die."""

import asyncio
import sys
from pathlib import Path

from moorage.errors import MoorageError
from moorage.log import get_logger
from moorage_lab.forking import Forker, Program

log = get_logger("moorage_lab")

MOORAGE = (sys.executable, "-P", "-m", "moorage")
"""This program, whatever the PATH is, and whatever modules are in the current directory."""
MIN_WAIT_SECONDS, MAX_WAIT_SECONDS = 0.2, 5.0
"""Seconds before a dead process is started again; doubled each time."""
STEADY_SECONDS = 10.0
"""How long a process must be up until the wait starts from the beginning."""


def entering(netns: str) -> list[str]:
    """The command line prefix that runs a program in this network namespace; `""` is the caller's own.

    Not `ip netns exec`, which also makes a mount namespace: network namespaces made in there are not visible
    elsewhere.
    """
    return ["nsenter", f"--net=/run/netns/{netns}", "--"] if netns else []


async def keep_running(forker: Forker, program: Program, logs: Path) -> None:
    """Run it, and again whenever it ends, until cancelled; then ask it to end, and wait for that."""
    wait, loop = MIN_WAIT_SECONDS, asyncio.get_running_loop()
    while True:
        started = loop.time()
        status = await forker.run(program, logs)
        wait = MIN_WAIT_SECONDS if loop.time() - started > STEADY_SECONDS else wait
        log.warning("a process ended; starting it again", process=program.name, status=status, seconds=wait)
        await asyncio.sleep(wait)
        wait = min(2 * wait, MAX_WAIT_SECONDS)


async def run_once(forker: Forker, program: Program, logs: Path) -> None:
    """Run it until cancelled, then ask it to end, and wait for that. Raises MoorageError if it ends by itself."""
    status = await forker.run(program, logs)
    raise MoorageError(
        f"lab: {logs.name}: {program.name} ended with status {status}: {last_line(logs, program.name)}"
    )


def last_line(logs: Path, name: str) -> str:
    """The last line of a process's output."""
    lines = (logs / f"{name}.log").read_text(errors="replace").strip().split("\n")
    return lines[-1] or "it said nothing"
