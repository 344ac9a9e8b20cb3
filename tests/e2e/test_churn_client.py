"""What a client of a churn run notes about what it meets."""

import errno
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from e2e.churn import client, history
from e2e.churn.history import Connected, Ended, Failed, Open, Record
from e2e.harness import outside
from e2e.harness.control_plane import free_port
from e2e.harness.world import wait
from testing.inside import PYTHON

R = TypeVar("R", bound=Record)
SECONDS = 60


@contextmanager
def served(port: int, name: str = "e1") -> Iterator[None]:
    argv = [*PYTHON, outside.GREETER, "serve", name, "127.0.0.1", str(port)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"serving\n"
        try:
            yield
        finally:
            process.kill()


@contextmanager
def connecting(directory: Path, port: int) -> Iterator[None]:
    """A client of one Service."""
    argv = [sys.executable, client.__file__, str(directory), "uid", "1", "1", f"backend=127.0.0.1:{port}"]
    with subprocess.Popen(argv) as process:
        try:
            yield
        finally:
            process.kill()


def all_noted(directory: Path, kind: type[R]) -> list[R]:
    """The records of a kind."""
    path = directory / "uid.jsonl"
    return [each for each in (history.read(path) if path.exists() else ()) if isinstance(each, kind)]


def test_it_notes_who_answered_and_that_it_closed_short_connections(tmp_path: Path) -> None:
    port = free_port()
    with served(port), connecting(tmp_path, port):
        wait("some connections", lambda: len(all_noted(tmp_path, Ended)) >= 3 and all_noted(tmp_path, Open), SECONDS)
        found = all_noted(tmp_path, Connected)
        assert {(each.pod, each.service, each.endpoint) for each in found} == {("uid", "backend", "e1")}
        assert {each.worker for each in found} == {"short 0", "long 0"}
        assert all(each.start <= each.at for each in found)
        assert len({each.id for each in found}) == len(found)
        (long,) = (each for each in found if each.worker == "long 0")
        assert {each.id for each in all_noted(tmp_path, Open)} == {long.id}
        assert {each.how for each in all_noted(tmp_path, Ended)} == {"closed"}
        assert all_noted(tmp_path, Failed) == []


def test_it_notes_that_a_connection_broke_and_that_others_are_refused(tmp_path: Path) -> None:
    port = free_port()
    with connecting(tmp_path, port):
        wait("a refusal", lambda: all_noted(tmp_path, Failed), SECONDS)
        with served(port):
            wait(
                "connections",
                lambda: {each.worker for each in all_noted(tmp_path, Connected)} >= {"short 0", "long 0"},
                SECONDS,
            )
            before = len(all_noted(tmp_path, Failed))
        wait("the end", lambda: any(each.how != "closed" for each in all_noted(tmp_path, Ended)), SECONDS)
        wait("more refusals", lambda: len(all_noted(tmp_path, Failed)) > before, SECONDS)
        assert all_noted(tmp_path, Failed)[0].error.startswith(f"[Errno {errno.ECONNREFUSED}]")
