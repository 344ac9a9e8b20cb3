"""`moorage outside`: how the operator starts a child process."""

import socket

import pytest

from moorage import log
from moorage.cli import outside
from moorage.cli.main import run


def test_a_child_is_told_its_part_its_socket_and_how_to_log(monkeypatch: pytest.MonkeyPatch) -> None:
    came: list[tuple[str, bytes]] = []

    async def work(part: str, sock: socket.socket) -> None:
        with sock:
            came.append((part, sock.recv(9)))

    monkeypatch.setattr(outside, "run", work)
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(b"a message")
        words = ["outside", "checks", str(theirs.detach()), "--log-level", "error", "--log-json"]
        assert run(words) == 0
    assert came == [("checks", b"a message")]
    assert log.chosen() == log.Chosen("error", json=True)
