"""Talks to the kernel's netfilter over netlink: linux/netlink.h, linux/netfilter/nfnetlink.h.

Little more than the layout of messages: header, `nfgenmsg`, attributes of a type and a length, each filled up to four
bytes. Types and flags of messages are with those who use them.
"""

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

Connect = Callable[[], socket.socket]
"""Makes a netlink socket; that of another network namespace where a test says so."""

REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
CREATE = 0x400
NESTED = 0x8000
_DUMP_INTERRUPTED = 0x10
_ERROR, _DONE = 2, 3
_NETFILTER = 12
NFTABLES, INET = 10, 1
"""NFNL_SUBSYS_NFTABLES, and NFPROTO_INET, the family of a table for both families."""
SO_SNDBUFFORCE = 32
ANSWER_SECONDS = 10
BUFFER_BYTES = 1 << 16
"""The kernel sends at most half of that at once."""
SMALL_BATCH_BYTES = 200_000
"""What the send buffer takes where it cannot be enlarged; it has 212,992 bytes."""
MAX_DUMPS = 5
"""How often an interrupted dump is read again."""


class Message(NamedTuple):
    """Where a message lies in a datagram."""

    type: int
    flags: int
    sequence: int
    start: int
    """Where it begins, after its header."""
    end: int

    @property
    def body(self) -> int:
        """Where the attributes of a message of netfilter begin."""
        return self.start + 4


def connect() -> socket.socket:
    """A socket of the network namespace that this process is in."""
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER)


def attribute(type: int, value: bytes) -> bytes:
    """An attribute with that value."""
    return struct.pack("=HH", 4 + len(value), type) + value + bytes(-len(value) % 4)


def nested(type: int, attributes: Iterable[bytes]) -> bytes:
    """An attribute that has attributes."""
    return attribute(type | NESTED, b"".join(attributes))


def message(type: int, flags: int, family: int, body: bytes, sequence: int = 0, resource: int = 0) -> bytes:
    """A request; `body`: its attributes, `family` and `resource`: those of `nfgenmsg`."""
    header = struct.pack("=IHHII", 20 + len(body), type, flags | REQUEST, sequence, 0)
    return header + struct.pack("!BBH", family, 0, resource) + body


def messages(data: bytes) -> Iterator[Message]:
    """The messages of a datagram."""
    position = 0
    while position < len(data):
        length, type, flags, sequence, _ = struct.unpack_from("=IHHII", data, position)
        yield Message(type, flags, sequence, position + 16, position + length)
        position += (length + 3) & ~3


_header = struct.Struct("=HH").unpack_from


def attributes(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Type, and where the value begins and ends, of each attribute between `start` and `end`."""
    while start < end:
        length, type = _header(data, start)
        yield type & 0x3FFF, start + 4, start + length
        start += (length + 3) & ~3


def errors(data: bytes) -> Iterator[int]:
    """The error numbers, 0 or negative, of a datagram's acknowledgements, and of the end of a dump."""
    for each in messages(data):
        if each.type in (_ERROR, _DONE):
            yield struct.unpack_from("=i", data, each.start)[0]


def check(data: bytes) -> None:
    """Raises OSError if one of a datagram's acknowledgements is of an error."""
    for number in errors(data):
        if number:
            raise OSError(-number, os.strerror(-number))


def ask(connect: Connect, request: bytes) -> bytes:
    """The answer to a request for one object. Raises OSError."""
    with connect() as kernel:
        kernel.settimeout(ANSWER_SECONDS)
        kernel.send(request)
        data = kernel.recv(BUFFER_BYTES)
    check(data)
    return data


def dump(connect: Connect, request: bytes) -> list[bytes]:
    """The datagrams that answer a request with DUMP. Raises OSError.

    A dump that the kernel marks as interrupted, or has no memory for, is read again. Transactions on any table mark
    those of tables, chains and rules; none of elements is marked by Linux 6.18. One that is marked each time counts
    all the same: somebody who changes a table of theirs all the time must not keep us from reading ours.
    """
    for left in reversed(range(MAX_DUMPS)):
        try:
            found, interrupted = _dump_once(connect, request)
        except OSError as error:
            if error.errno != errno.ENOBUFS or not left:
                raise
        else:
            if not (interrupted and left):
                return found
    raise AssertionError("the last attempt returns or raises")


def _dump_once(connect: Connect, request: bytes) -> tuple[list[bytes], bool]:
    found: list[bytes] = []
    interrupted = False
    with connect() as kernel:
        kernel.settimeout(ANSWER_SECONDS)
        kernel.send(request)
        while True:
            data = kernel.recv(BUFFER_BYTES)
            found.append(data)
            interrupted = interrupted or any(each.flags & _DUMP_INTERRUPTED for each in messages(data))
            check(data)
            if list(errors(data)):
                return found, interrupted


def transact(connect: Connect, batch: bytes) -> None:
    """Have the kernel carry out a batch, whose last change asks for an acknowledgement. Raises OSError.

    When `send` returns, it has been carried out as a whole or not at all, and all answers are there.
    """
    with connect() as kernel:
        kernel.setblocking(False)
        if len(batch) > SMALL_BATCH_BYTES:
            kernel.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, len(batch))
        kernel.send(batch)
        answers = 0
        with suppress(BlockingIOError):
            while True:
                data = kernel.recv(BUFFER_BYTES)
                check(data)
                answers += len(list(errors(data)))
        if not answers:
            raise OSError(errno.ENOMSG, "no answer from the kernel")
