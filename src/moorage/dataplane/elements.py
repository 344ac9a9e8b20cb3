"""Elements of a set or map of ours as the kernel has them, over netlink: linux/netfilter/nf_tables.h.

For those that rules fill and that may have a hundred thousand elements: nft lists 20,000 a second and changes
100,000, this reads 500,000 and changes 250,000. What the bytes mean is in `layout`.
"""

import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import msgspec

from moorage.dataplane import netlink
from moorage.dataplane.netlink import INET, NFTABLES, Connect, attribute, attributes, message, nested

_NEW, _GET, _DELETE = (NFTABLES << 8 | number for number in (12, 13, 14))
"""NFT_MSG_NEWSETELEM, ..."""
_GET_SET = NFTABLES << 8 | 10
"""NFT_MSG_GETSET"""
_BEGIN, _END = 16, 17
"""NFNL_MSG_BATCH_BEGIN, _END."""
_TABLE, _SET, _ELEMENTS = 1, 2, 3
"""NFTA_SET_ELEM_LIST_*."""
_ELEMENT = 1
"""NFTA_LIST_ELEM."""
_COUNT = 20
"""NFTA_SET_COUNT, since Linux 6.16."""
_KEY, _DATA, _TIMEOUT, _EXPIRATION = 1, 2, 4, 5
"""NFTA_SET_ELEM_*."""
_VALUE = 1
"""NFTA_DATA_VALUE."""

MAX_OF_MESSAGE = 500
"""How many elements one message may have: the length of an attribute has 16 bits, an element at most 104 bytes."""
MAX_SMALL, MAX_LARGE = 800, 10_000
"""How many elements one transaction may replace: so many of IPv6 fit into a socket's buffer, or into one that was
enlarged. At each transaction the kernel waits until nobody looks at the rules of before (RCU): some milliseconds."""


class RawElement(msgspec.Struct, frozen=True, gc=False, order=True):
    """An element of a set, or of a map whose values are no verdicts."""

    key: bytes
    value: bytes
    """Empty in a set."""
    timeout: int | None = None
    """Milliseconds; None: it stays."""
    expires: int | None = None
    """Milliseconds left."""


def read(connect: Connect, table: str, name: str) -> list[RawElement]:
    """All elements of a set or map; none if it does not exist. Raises OSError."""
    return list(_elements(_dump(connect, table, name)))


def count(connect: Connect, table: str, name: str) -> int:
    """How many elements a set or map has, and some that have just timed out; 0 if it does not exist. Raises OSError.

    Older kernels do not tell: there they are listed.
    """
    try:
        data = netlink.ask(connect, message(_GET_SET, 0, INET, _names(table, name)))
    except FileNotFoundError:
        return 0
    [answer] = netlink.messages(data)
    for type, start, _ in attributes(data, answer.body, answer.end):
        if type == _COUNT:
            return int(struct.unpack_from("!I", data, start)[0])
    lists = _lists(_dump(connect, table, name))
    return sum(1 for where in lists for _ in attributes(*where))


def replace(connect: Connect, table: str, name: str, old: Sequence[RawElement], new: Sequence[RawElement]) -> None:
    """Delete `old` and add `new`, at most MAX_LARGE each, as one transaction. Raises OSError.

    More than MAX_SMALL need a socket whose buffer can be enlarged.

    To delete an element that has just expired would make the whole transaction fail. So each is added first, which
    changes nothing if it is still there, and fails (EEXIST) if it has another value by now.
    """
    names = _names(table, name)
    added, deleted = _without_ages(old)
    changes = (
        (_NEW, netlink.CREATE, added),
        (_DELETE, 0, deleted),
        (_NEW, netlink.CREATE, [_element(each.key, each.value, each.timeout, each.expires) for each in new]),
    )
    requests = [
        (type, flags, names + nested(_ELEMENTS, those[start : start + MAX_OF_MESSAGE]))
        for type, flags, those in changes
        for start in range(0, len(those), MAX_OF_MESSAGE)
    ]
    if not requests:
        return
    last = len(requests)
    batch = [
        message(_BEGIN, 0, socket.AF_UNSPEC, b"", 0, NFTABLES),
        *(
            message(type, flags | (netlink.ACK if number == last else 0), INET, body, number)
            for number, (type, flags, body) in enumerate(requests, 1)
        ),
        message(_END, 0, socket.AF_UNSPEC, b"", last + 1, NFTABLES),
    ]
    netlink.transact(connect, b"".join(batch))


def _dump(connect: Connect, table: str, name: str) -> list[bytes]:
    try:
        return netlink.dump(connect, message(_GET, netlink.DUMP, INET, _names(table, name)))
    except FileNotFoundError:
        return []


def _names(table: str, name: str) -> bytes:
    return attribute(_TABLE, f"{table}\0".encode()) + attribute(_SET, f"{name}\0".encode())


def _without_ages(those: Sequence[RawElement]) -> tuple[list[bytes], list[bytes]]:
    """These elements of one map, with their values and without. All of a map have keys and values of one length."""
    if not those:
        return [], []
    length = len(those[0].key)
    head, middle = _headers(length, len(those[0].value), 0)
    bare, _ = _headers(length, 0, 0)
    return [head + each.key + middle + each.value for each in those], [bare + each.key for each in those]


def _element(key: bytes, value: bytes = b"", timeout: int | None = None, expires: int | None = None) -> bytes:
    ages = b""
    if timeout is not None and expires is not None:
        ages = attribute(_TIMEOUT, struct.pack("!Q", timeout)) + attribute(_EXPIRATION, struct.pack("!Q", expires))
    head, middle = _headers(len(key), len(value), len(ages))
    return head + key + middle + value + ages


@lru_cache(64)
def _headers(key: int, value: int, ages: int) -> tuple[bytes, bytes]:
    """What comes before the key and the value of an element where they are so long, in bytes that four divides."""
    data = nested(_DATA, [attribute(_VALUE, bytes(value))]) if value else b""
    whole = nested(_ELEMENT, [nested(_KEY, [attribute(_VALUE, bytes(key))]), data, bytes(ages)])
    start = len(whole) - ages - len(data)
    return whole[: start - key], whole[start : len(whole) - ages - value]


_milliseconds = struct.Struct("!Q").unpack_from


def _elements(answers: Iterable[bytes]) -> Iterator[RawElement]:
    usual: _Form | None = None
    for data, start, end in _lists(answers):
        found = usual.read(data[start:end]) if usual else None
        if found is None:
            found = [_read_element(data, *where) for _, *where in attributes(data, start, end)]
            usual = _Form(data[start:end], found[0])
        yield from found


def _lists(answers: Iterable[bytes]) -> Iterator[tuple[bytes, int, int]]:
    """Where each list of elements lies: datagram, beginning and end."""
    for data in answers:
        for each in netlink.messages(data):
            for type, start, end in attributes(data, each.body, each.end) if each.type == _NEW else ():
                if type == _ELEMENTS and start < end:
                    yield data, start, end


def _read_element(data: bytes, start: int, end: int) -> RawElement:
    key = value = b""
    timeout = expires = None
    for type, first, last in attributes(data, start, end):
        # Key and data are attributes that have one, the value; its own header takes four bytes.
        if type == _KEY:
            key = data[first + 4 : last]
        elif type == _DATA:
            value = data[first + 4 : last]
        elif type == _TIMEOUT:
            timeout = _milliseconds(data, first)[0]
        elif type == _EXPIRATION:
            expires = _milliseconds(data, first)[0]
    return RawElement(key, value, timeout, expires)


class _Form:
    """Reads lists of elements with a timeout and the same headers in the same places, as nearly all of a map are."""

    def __init__(self, data: bytes, element: RawElement) -> None:
        """`element`: the first in `data`."""
        key, value = len(element.key), len(element.value)
        self._struct = struct.Struct(f"!12s{key}s{8 if value else 0}s{value}s4sQ4sQ")
        self._headers = self._struct.unpack_from(data)[0::2] if len(data) >= self._struct.size else ()

    def read(self, data: bytes) -> list[RawElement] | None:
        """The elements in `data`; None if one of them has another form."""
        if not self._headers or len(data) % self._struct.size:
            return None
        first, second, third, fourth = self._headers
        found = [
            RawElement(key, value, timeout, expires)
            for one, key, two, value, three, timeout, four, expires in self._struct.iter_unpack(data)
            if one == first and two == second and three == third and four == fourth
        ]
        return found if len(found) * self._struct.size == len(data) else None
