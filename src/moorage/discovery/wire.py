"""The wire format of DNS (RFC 1035, section 4): questions, and the parts of answers that Moorage uses.

Whoever owns a name chooses what the answer holds, up to 64 KiB. A library that makes an object of every record takes
seconds for some answers, and all look-ups share that time. Here the records that are no answer are skipped, and names
are only read to compare or use them.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

A, CNAME, NS, SOA, AAAA, SRV, OPT = 1, 5, 2, 6, 28, 33, 41
CLASS_IN = 1
NOERROR, NXDOMAIN = 0, 3
MAX_UDP_BYTES = 1232
"""Of a UDP answer; EDNS (RFC 6891) announces it. Datagrams of this size pass every path in one piece."""
MAX_POINTERS = 16
"""Compression pointers in one name; name servers need one or two."""
MAX_NAME_BYTES = 255

_HEADER = struct.Struct("!HHHHHH")
_RECORD = struct.Struct("!HHIH")
_TRUNCATED, _RESPONSE, _RECURSE = 0x0200, 0x8000, 0x0100

Name = bytes
"""A name in lower case: each label after its length, without the empty one at the end."""


class MalformedError(Exception):
    """This is not a valid DNS message."""


class Record(NamedTuple):
    type: int
    ttl: int
    at: int
    """Where in the message the data begins, and how long it is."""
    length: int


def question(id: int, name: Name, type: int, *, edns: bool) -> bytes:
    """A query for a recursive name server."""
    wire = _HEADER.pack(id, _RECURSE, 1, 0, 0, int(edns)) + name + b"\0" + struct.pack("!HH", type, CLASS_IN)
    return wire + b"\0" + _RECORD.pack(OPT, MAX_UDP_BYTES, 0, 0) if edns else wire


class Message:
    """An answer. It and its methods raise MalformedError for anything malformed."""

    def __init__(self, wire: bytes) -> None:
        self._wire = wire
        self._names: dict[int, Name] = {}
        try:
            self.id, flags, questions, self._answers, self._authorities, additional = _HEADER.unpack_from(wire)
            if not flags & _RESPONSE or questions > 1:
                raise MalformedError
            self.rcode = flags & 0xF
            self.truncated = bool(flags & _TRUNCATED)
            self.asked: tuple[Name, int, int] | None = None
            """The question: name, type and class. A server that did not understand it may leave it out."""
            self._records = _HEADER.size
            if questions:
                name, at = self._name(_HEADER.size)
                self.asked = name, *struct.unpack_from("!HH", wire, at)
                self._records = at + 4
        except struct.error:
            raise MalformedError from None
        self.records = self._answers + self._authorities + additional
        """The number of records in all sections, according to the header."""

    def answers(self, type: int) -> dict[Name, list[Record]]:
        """The records of this type and the CNAMEs, by owner."""
        found: dict[Name, list[Record]] = {}
        for at, record in self._section(self._records, self._answers):
            if record.type in (type, CNAME):
                found.setdefault(self._name(at)[0], []).append(record)
        return found

    def authority(self) -> tuple[bool, int | None]:
        """Whether it names other servers to ask, and how many seconds its negative answer is valid (RFC 2308, 5).

        None: it is not a negative answer.
        """
        at = self._records
        for _, record in self._section(at, self._answers):
            at = record.at + record.length
        referral = False
        for _, record in self._section(at, self._authorities):
            referral = referral or record.type == NS
            if record.type == SOA and record.length >= 20:
                (minimum,) = struct.unpack_from("!I", self._wire, record.at + record.length - 4)
                return referral, min(record.ttl, minimum)
        return referral, None

    def data(self, record: Record) -> bytes:
        return self._wire[record.at : record.at + record.length]

    def name_in(self, record: Record, offset: int = 0) -> Name:
        """The name that begins at this offset in the record's data."""
        return self._name(record.at + offset)[0]

    def _section(self, at: int, number: int) -> Iterator[tuple[int, Record]]:
        for _ in range(number):
            start = at
            try:
                at = self._skip(at)
                type, class_, ttl, length = _RECORD.unpack_from(self._wire, at)
            except (IndexError, struct.error):
                raise MalformedError from None
            at += _RECORD.size
            if at + length > len(self._wire):
                raise MalformedError
            if class_ == CLASS_IN:
                yield start, Record(type, ttl if ttl < 2**31 else 0, at, length)
            at += length

    def _skip(self, at: int) -> int:
        """The offset after the name that begins here. Raises IndexError where that does not end."""
        while length := self._wire[at]:
            if length >= 0xC0:
                return at + 2
            at += 1 + length
        return at + 1

    def _name(self, at: int) -> tuple[Name, int]:
        """The name that begins here, and the offset after it."""
        start, end, pointers, parts = at, 0, 0, bytearray()
        try:
            while length := self._wire[at]:
                if length >= 0xC0:
                    end = end or at + 2
                    target = (length & 0x3F) << 8 | self._wire[at + 1]
                    pointers += 1
                    if target >= at or pointers > MAX_POINTERS:
                        raise MalformedError
                    at = target
                    if at in self._names:
                        parts += self._names[at]
                        break
                elif length > 63:
                    raise MalformedError
                else:
                    parts += self._wire[at : at + 1 + length]
                    at += 1 + length
                if len(parts) > MAX_NAME_BYTES:
                    raise MalformedError
        except IndexError:
            raise MalformedError from None
        if len(parts) >= MAX_NAME_BYTES:
            raise MalformedError
        name = self._names[start] = bytes(parts).lower()
        return name, end or at + 1


def labels(name: Name) -> tuple[bytes, ...]:
    found, at = [], 0
    while at < len(name):
        found.append(name[at + 1 : at + 1 + name[at]])
        at += 1 + name[at]
    return tuple(found)
