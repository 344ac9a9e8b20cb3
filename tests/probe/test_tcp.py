"""Against real sockets on loopback."""

import errno
import os
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from moorage.probe import tcp
from moorage.probe.tcp import Connector, is_local_failure, words
from testing.eventually import eventually

TIME_WAIT = "06"
"""As /proc/net/tcp writes the state."""


class Ended(list[tuple[str, str | None]]):
    def __call__(self, tag: str, failure: str | None) -> None:
        self.append((tag, failure))

    async def come(self, count: int = 1) -> list[tuple[str, str | None]]:
        async def there() -> bool:
            return len(self) >= count

        await eventually(there)
        return list(self)


@pytest.fixture
def told() -> Ended:
    return Ended()


@pytest.fixture
async def connects(told: Ended) -> AsyncIterator[Connector[str]]:
    connects = Connector(told)
    yield connects
    connects.close()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        yield listening


def port(listening: socket.socket) -> int:
    number: int = listening.getsockname()[1]
    return number


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return port(listening)


@pytest.fixture
def silent(listener: socket.socket) -> Iterator[socket.socket]:
    """A listener whose queue is full: the kernel answers no further SYN."""
    listener.listen(0)
    waiting = []
    for _ in range(3):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(listener.getsockname())
        waiting.append(client)
    yield listener
    for client in waiting:
        client.close()


async def test_an_open_port_is_told_as_open(connects: Connector[str], told: Ended, listener: socket.socket) -> None:
    connects.begin("a", "127.0.0.1", port(listener))
    assert told == [], "not from within begin"
    assert await told.come() == [("a", None)]


async def test_a_closed_port_is_told_as_refused(connects: Connector[str], told: Ended, closed_port: int) -> None:
    connects.begin("a", "127.0.0.1", closed_port)
    assert await told.come() == [("a", "connection refused")]


async def test_it_works_over_ipv6(connects: Connector[str], told: Ended) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening:
        connects.begin("a", "::1", port(listening))
        assert await told.come() == [("a", None)]


async def test_what_cannot_be_sent_at_all_is_told_too(connects: Connector[str], told: Ended) -> None:
    connects.begin("a", "255.255.255.255", 80)
    assert told == [], "not from within begin"
    ((tag, failure),) = await told.come()
    assert tag == "a"
    assert failure


async def test_an_open_port_that_resets_is_open(
    connects: Connector[str], told: Ended, listener: socket.socket
) -> None:
    connects.begin("a", "127.0.0.1", port(listener))
    accepted, _ = listener.accept()
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    accepted.close()
    assert await told.come() == [("a", None)]


async def test_no_connection_is_left_in_time_wait(
    connects: Connector[str], told: Ended, listener: socket.socket
) -> None:
    before = waiting(port(listener))
    for number in range(20):
        connects.begin(str(number), "127.0.0.1", port(listener))
    await told.come(20)
    assert {failure for _, failure in told} == {None}
    accepted, _ = listener.accept()
    with accepted, pytest.raises(ConnectionResetError):
        accepted.recv(1)
    assert waiting(port(listener)) <= before


def waiting(number: int) -> set[tuple[str, str]]:
    """Both ends of the connections in TIME_WAIT that have this port at one of them.

    It may have been another connection's a minute ago.
    """
    wanted = f":{number:04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ends = {(here, there) for _, here, there, state, *_ in lines if state == TIME_WAIT}
    return {each for each in ends if each[0].endswith(wanted) or each[1].endswith(wanted)}


async def test_an_ordinary_close_would_have_been_seen_in_time_wait(listener: socket.socket) -> None:
    before = waiting(port(listener))
    with socket.create_connection(listener.getsockname()), listener.accept()[0]:
        pass
    assert waiting(port(listener)) - before


async def test_what_is_aborted_is_not_told(
    connects: Connector[str], told: Ended, silent: socket.socket, listener: socket.socket, closed_port: int
) -> None:
    connects.begin("silent", "127.0.0.1", port(silent))
    connects.begin("refused", "127.0.0.1", closed_port)
    connects.begin("unsent", "255.255.255.255", 80)
    for tag in ("silent", "refused", "unsent", "never begun"):
        connects.abort(tag)
    connects.begin("after", "127.0.0.1", closed_port)
    assert await told.come() == [("after", "connection refused")]


async def test_who_is_told_may_abort_and_begin_others(closed_port: int, listener: socket.socket) -> None:
    told = Ended()

    def ended(tag: str, failure: str | None) -> None:
        told(tag, failure)
        if tag == "a":
            ours.abort("b")
            ours.begin("b", "127.0.0.1", port(listener))

    ours: Connector[str] = Connector(ended)
    ours.begin("a", "127.0.0.1", closed_port)
    ours.begin("b", "127.0.0.1", closed_port)
    assert await told.come(2) == [("a", "connection refused"), ("b", None)]
    ours.close()


async def test_no_file_is_left_open(told: Ended, silent: socket.socket, closed_port: int) -> None:
    before = open_files()
    connects = Connector(told)
    for number in range(10):
        connects.begin(f"silent{number}", "127.0.0.1", port(silent))
        connects.begin(f"refused{number}", "127.0.0.1", closed_port)
    await told.come(10)
    held = open_files()
    connects.abort("silent0")
    assert open_files() == held - 1
    connects.close()
    connects.close()
    assert open_files() == before


async def test_to_abort_what_has_ended_ends_no_other(
    connects: Connector[str], told: Ended, silent: socket.socket, closed_port: int
) -> None:
    connects.begin("ended", "127.0.0.1", closed_port)
    await told.come()
    connects.begin("goes on", "127.0.0.1", port(silent))  # in a file of the same number
    held = open_files()
    connects.abort("ended")
    assert open_files() == held


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_no_more_files_is_raised_and_leaves_none_behind(
    connects: Connector[str], told: Ended, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_files()

    def none_left(address: str) -> socket.socket:
        raise OSError(errno.EMFILE, "too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(tcp, "new_socket", none_left)
        with pytest.raises(OSError, match="too many open files") as raised:
            connects.begin("a", "127.0.0.1", port(listener))
    assert is_local_failure(raised.value, "127.0.0.1")
    assert open_files() == before
    connects.begin("a", "127.0.0.1", port(listener))
    assert await told.come() == [("a", None)]


async def test_names_are_not_looked_up(connects: Connector[str], listener: socket.socket) -> None:
    with pytest.raises(OSError, match="illegal IP address"):
        connects.begin("a", "localhost", port(listener))


def test_errors_are_told_in_words() -> None:
    assert words(errno.EHOSTUNREACH) == "host unreachable"
    assert words(errno.EPERM).startswith("not permitted by a network policy")
    assert words(errno.EPROTO) == "protocol error"
    assert not is_local_failure(OSError(errno.ECONNREFUSED, ""), "192.0.2.1")


class NoSource(socket.socket):
    """As where there is no address or port left to connect from."""

    def connect_ex(self, address: object) -> int:
        return errno.EADDRNOTAVAIL


async def test_without_an_ipv6_address_ipv6_endpoints_are_unhealthy_but_a_lack_of_ports_is_ours(
    connects: Connector[str], told: Ended, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp, "new_socket", lambda address: NoSource())
    connects.begin("a", "2001:db8::1", 80)
    assert await told.come() == [("a", "the operator's pod has no IPv6 address")]
    with pytest.raises(OSError, match="requested address") as raised:
        connects.begin("b", "192.0.2.1", 80)
    assert is_local_failure(raised.value, "192.0.2.1")
