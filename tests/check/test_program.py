"""What pods of a trial run, on loopback."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from moorage.check import program
from moorage.check.program import CONNECTIONS, MAX_FAILED, ask, row


@contextmanager
def answering(*names: str) -> Iterator[int]:
    """The port of somebody who answers with these names in turn."""
    with program.listening(0) as server:

        def answer() -> None:
            for name in cycle(names):
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(f"{name}\n".encode())

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield int(server.getsockname()[1])
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def closed() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_row_counts_who_answers() -> None:
    with answering("a", "b") as port:
        assert row("127.0.0.1", port) == ({"a": CONNECTIONS // 2, "b": CONNECTIONS // 2}, 0, "")


def test_a_row_that_fails_ends_soon_and_says_why() -> None:
    assert row("127.0.0.1", closed()) == ({}, MAX_FAILED, "[Errno 111] Connection refused")


@pytest.fixture
def said(tmp_path: Path) -> Any:
    file = tmp_path / "message"

    def said(seconds: float, **ways: Any) -> dict[str, Any]:
        ask(str(file), str(seconds), json.dumps(ways))
        found: dict[str, Any] = json.loads(file.read_text())
        return found

    return said


def test_it_ends_as_soon_as_a_whole_row_goes_where_it_should(said: Any) -> None:
    with answering("a") as one, answering("b") as two:
        found = said(60, nodes=("127.0.0.1", one, "a"), agents=("127.0.0.1", two, "b"))
    assert found == {"nodes": [{"a": CONNECTIONS}, 0, ""], "agents": [{"b": CONNECTIONS}, 0, ""]}


def test_it_waits_for_who_follows_late(said: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "AGAIN_SECONDS", 0.01)
    with answering("b", *["a"] * 10 * CONNECTIONS) as port:
        assert said(60, nodes=("127.0.0.1", port, "a")) == {"nodes": [{"a": CONNECTIONS}, 0, ""]}


def test_in_the_end_it_says_what_it_has_met(said: Any) -> None:
    with answering("a", "b") as port:
        found = said(0, nodes=("127.0.0.1", port, "a"), zones=("127.0.0.1", closed(), "a"))
    assert found["nodes"] == [{"a": CONNECTIONS // 2, "b": CONNECTIONS // 2}, 0, ""]
    assert found["zones"][:2] == [{}, MAX_FAILED]


def test_it_serves_as_a_text_on_the_command_line_until_it_is_ended() -> None:
    port = closed()
    argv = [sys.executable, "-ISc", Path(program.__file__).read_text(), "serve", "one", str(port)]
    with subprocess.Popen(argv) as process:
        try:
            while (found := row("127.0.0.1", port))[1]:
                assert process.poll() is None
            assert found == ({"one": CONNECTIONS}, 0, "")
        finally:
            process.terminate()
