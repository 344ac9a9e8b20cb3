"""What the two programs share: settings, the listening socket."""

import errno
import socket
from typing import Any

import pytest

from moorage.apps.server import SettingError, listen, port_setting
from tests.support.programs import free_port, moorage


def test_the_port_is_8080_where_none_is_set() -> None:
    assert port_setting({}, "PORT") == 8080
    assert port_setting({"PORT": ""}, "PORT") == 8080


def test_the_port_is_the_one_that_is_set() -> None:
    assert port_setting({"PORT": "9000"}, "PORT") == 9000


@pytest.mark.parametrize("text", ["abc", "0", "65536", "-1", "80.5", "1e3", "٨٠"])
def test_a_port_that_is_none_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(SettingError, match=r"^environment variable PORT: .* is not a port; set it to a number"):
        port_setting({"PORT": text}, "PORT")


def test_listens_on_ipv4_and_ipv6() -> None:
    with listen(free_port()) as listener:
        port = listener.getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port), timeout=5).close()


@pytest.mark.parametrize("number", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_listens_on_ipv4_where_the_machine_has_no_ipv6(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    create_server, port = socket.create_server, free_port()

    def without_ipv6(address: tuple[str, int], *, family: int = socket.AF_INET, **rest: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(number, "no IPv6")
        return create_server(address, family=family, **rest)

    monkeypatch.setattr(socket, "create_server", without_ipv6)
    with listen(port) as listener:
        assert listener.family == socket.AF_INET


async def test_a_port_in_use_is_one_line() -> None:
    with socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) as taken:
        port = taken.getsockname()[1]
        outcome = await moorage("app", "backend", environment={"PORT": str(port)})
    reason = f"cannot listen on port {port}: Address already in use; set PORT to a free one"
    assert outcome == (1, "", f"moorage: backend: {reason}\n")


async def test_a_port_that_is_none_is_one_line() -> None:
    outcome = await moorage("app", "backend", environment={"PORT": "abc"})
    reason = "environment variable PORT: 'abc' is not a port; set it to a number from 1 to 65535"
    assert outcome == (1, "", f"moorage: backend: {reason}\n")
