"""What a process takes is taken by its children, too."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from bench import tree

_CHILD = "x = bytearray(40 * 2**20); print(sum(range(3_000_000)), flush=True); input()"
_PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {_CHILD!r}])"


@pytest.fixture
def parent() -> Iterator[int]:
    """A process whose child has taken memory and time, and waits."""
    argv = [sys.executable, "-c", _PARENT]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid


def test_a_process_and_what_descends_from_it_are_found(parent: int) -> None:
    found = list(tree.processes(parent))
    assert found[0] == parent
    assert len(found) == 2
    assert os.getpid() not in found
    assert set(found) < set(tree.processes(os.getpid()))


def test_memory_and_time_of_children_are_counted(parent: int) -> None:
    assert tree.peak_kib(parent) > 40 * 1024
    assert tree.cpu(parent) > 0


def test_a_process_that_has_ended_takes_nothing() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    assert list(tree.processes(process.pid)) == []
    assert tree.peak_kib(process.pid) == tree.cpu(process.pid) == 0
