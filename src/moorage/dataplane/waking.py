"""Wakes clients that only read from a connection that has ended: they would wait for data for ever.

The rules reset a client at its next packet, but one that only reads sends none. So it gets one segment, as if from
the Service's address, that its kernel must answer whatever the sequence numbers are: SYN and ACK in an established
connection (RFC 9293, section 3.10.7.4; RFC 5961, section 4). The answer meets the reset. conntrack takes a SYN with
ACK for no beginning of a connection (nf_conntrack_proto_tcp.c), so the segment leaves no flow that the answer would
belong to. Where something on its way drops what conntrack does not know, the client is not woken.
"""

import asyncio
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from ipaddress import ip_address
from typing import Protocol

from moorage.dataplane.conntrack import Flow

_TCP = 6
_SYN_ACK = 0x12
_HOPS = 64
_IPV6_HDRINCL = 36
"""linux/in6.h."""

Open = Callable[[int], socket.socket]
"""Makes a raw socket of family 4 or 6 whose packets are whole. Raises PermissionError."""


class Waker(Protocol):
    """Wakes clients."""

    async def wake(self, flows: Iterable[Flow]) -> None:
        """Let the clients of these flows, which conntrack no longer knows, send a packet."""


class KernelWaker:
    """Wakes clients by raw sockets of this network namespace. Without the capability NET_RAW it does nothing."""

    def __init__(self, open: Open | None = None) -> None:
        """`open`: makes the sockets where they are to be another namespace's."""
        self._open = open or raw_socket

    async def wake(self, flows: Iterable[Flow]) -> None:
        await asyncio.to_thread(self._send, [each for each in flows if _listens(each)])

    def _send(self, flows: list[Flow]) -> None:
        for family in {each.family for each in flows}:
            with suppress(PermissionError), self._open(family) as raw:
                for each in flows:
                    if each.family == family:
                        # Its pod may have ended meanwhile; there is nobody to wake then.
                        with suppress(OSError):
                            raw.sendto(packet(each), (each.source, 0))


def raw_socket(family: int) -> socket.socket:
    """A socket of this network namespace that sends packets as they are. Raises PermissionError without NET_RAW."""
    return whole(
        socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    )


def whole(raw: socket.socket) -> socket.socket:
    """The socket, made to take packets with their header, as those of IPv4 do by themselves."""
    if raw.family == socket.AF_INET6:
        raw.setsockopt(socket.IPPROTO_IPV6, _IPV6_HDRINCL, 1)
    return raw


def may_wake() -> bool:
    """Whether this process may send what wakes clients."""
    try:
        raw_socket(4).close()
    except PermissionError:
        return False
    return True


def _listens(flow: Flow) -> bool:
    return flow.protocol == "tcp" and flow.state in (None, "ESTABLISHED")


def packet(flow: Flow) -> bytes:
    """A segment to the flow's client, as from what it connected to, that the client must answer. Pure."""
    source, destination = ip_address(flow.destination).packed, ip_address(flow.source).packed
    segment = struct.pack("!HHIIBBHHH", flow.destination_port, flow.source_port, 0, 0, 5 << 4, _SYN_ACK, 0, 0, 0)
    if flow.family == 6:
        pseudo = source + destination + struct.pack("!I3xB", len(segment), _TCP)
        header = struct.pack("!IHBB", 6 << 28, len(segment), _TCP, _HOPS) + source + destination
    else:
        pseudo = source + destination + struct.pack("!xBH", _TCP, len(segment))
        # The kernel fills in the header's checksum and its number.
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 0, 0, _HOPS, _TCP, 0) + source + destination
    return header + segment[:16] + struct.pack("!H", checksum(pseudo + segment)) + segment[18:]


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total = sum(_words(data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _words(data: bytes) -> Iterator[int]:
    return (word for (word,) in struct.iter_unpack("!H", data))
