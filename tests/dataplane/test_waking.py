"""What wakes a client that only reads: the packet itself; what comes of it is in `test_kernel`."""

import socket
import struct
from ipaddress import ip_address

import pytest

from moorage.dataplane.conntrack import Flow
from moorage.dataplane.waking import KernelWaker, checksum, packet

FOUR = Flow(4, "tcp", "10.244.1.2", 4000, "10.96.0.1", 80, "203.0.113.1", 8080, "10.244.1.2", 4000, "ESTABLISHED")
SIX = Flow(6, "tcp", "fd00::2", 4000, "fd00:96::1", 80, "2001:db8::1", 8080, "fd00::2", 4000, "ESTABLISHED")


@pytest.mark.parametrize(("flow", "header_bytes"), [(FOUR, 20), (SIX, 40)])
def test_it_comes_from_what_the_client_connected_to_and_its_checksum_is_right(flow: Flow, header_bytes: int) -> None:
    made = packet(flow)
    source, destination = ip_address(flow.destination).packed, ip_address(flow.source).packed
    header, segment = made[:header_bytes], made[header_bytes:]
    assert header.endswith(source + destination)
    assert header[0] >> 4 == flow.family
    assert struct.unpack_from("!HH", segment) == (80, 4000)
    assert segment[13] == 0x12, "SYN and ACK"
    pseudo = source + destination + struct.pack("!II", len(segment), 6)
    assert checksum(pseudo + segment) == 0


def test_the_checksum_is_that_of_the_rfc() -> None:
    """RFC 1071, section 3."""
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xFFFF - 0xDDF2


class Raw:
    """A raw socket that keeps what it is given."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, str]] = []

    def sendto(self, data: bytes, to: tuple[str, int]) -> None:
        if to[0] == "10.244.1.9":
            raise OSError("no route")
        self.sent.append((data, to[0]))

    def __enter__(self) -> "Raw":
        return self

    def __exit__(self, *_: object) -> None:
        pass


async def test_only_clients_of_connections_that_are_open_are_woken_and_one_that_is_gone_keeps_no_other() -> None:
    raw, opened = Raw(), []

    def open_(family: int) -> socket.socket:
        opened.append(family)
        return raw  # type: ignore[return-value]

    gone = FOUR._replace(source="10.244.1.9")
    flows = [gone, FOUR._replace(state="SYN_SENT"), FOUR._replace(protocol="udp", state=None), FOUR, SIX]
    await KernelWaker(open_).wake(flows)
    assert sorted(to for _, to in raw.sent) == [FOUR.source, SIX.source]
    assert sorted(opened) == [4, 6]


async def test_without_the_permission_nobody_is_woken_and_nothing_fails() -> None:
    def open_(family: int) -> socket.socket:
        raise PermissionError(f"family {family}")

    await KernelWaker(open_).wake([FOUR, SIX])
