"""What a process and its descendants take."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def processes(root: int) -> Iterator[int]:
    """`root` and what descends from it, as far as it lives."""
    pending = [root]
    while pending:
        pid = pending.pop()
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                pending += map(int, (task / "children").read_text().split())
            yield pid


def cpu(root: int) -> float:
    """Seconds of a processor until now, with those of descendants that have ended and were waited for."""
    ticks = 0
    for pid in processes(root):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
            ticks += int(fields[13]) + int(fields[14])
    return ticks / os.sysconf("SC_CLK_TCK")


def peak_kib(root: int) -> int:
    """The sum of the most memory that each had at one time: what they had together is not more."""
    total = 0
    for pid in processes(root):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return total
