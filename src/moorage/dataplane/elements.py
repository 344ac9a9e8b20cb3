"""Elements of a set or map of ours as the kernel has them, over netlink: linux/netfilter/nf_tables.h.

For those that rules fill and that may have a hundred thousand elements: nft lists 20,000 a second and changes
100,000, this reads and changes 250,000. What the bytes mean is in `layout`.
"""

import errno
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from moorage.dataplane import netlink
from moorage.dataplane.netlink import Connect, attribute, attributes, message, nested

_SUBSYSTEM = 10
"""NFNL_SUBSYS_NFTABLES."""
_NEW, _GET, _DELETE = (_SUBSYSTEM << 8 | number for number in (12, 13, 14))
"""NFT_MSG_NEWSETELEM, ..."""
_BEGIN, _END = 16, 17
"""NFNL_MSG_BATCH_BEGIN, _END."""
_INET = 1
"""NFPROTO_INET."""
_TABLE, _SET, _ELEMENTS = 1, 2, 3
"""NFTA_SET_ELEM_LIST_*."""
_KEY, _DATA, _TIMEOUT, _EXPIRATION = 1, 2, 4, 5
"""NFTA_SET_ELEM_*."""
_VALUE = 1
"""NFTA_DATA_VALUE."""

MAX_ELEMENTS = 500
"""How many elements one message may have: the length of an attribute has 16 bits, an element of IPv6 takes 104 bytes.
Three such messages fit into the socket buffer that an unprivileged user namespace allows."""


class RawElement(NamedTuple):
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
    request = message(_GET, netlink.DUMP, _INET, _names(table, name))
    try:
        answers = netlink.dump(connect, request)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return []
        raise
    return [each for data in answers for each in _elements(data)]


def replace(connect: Connect, table: str, name: str, old: Sequence[RawElement], new: Sequence[RawElement]) -> None:
    """Delete `old` and add `new`, at most MAX_ELEMENTS each, as one transaction. Raises OSError.

    To delete an element that has just expired would make the whole transaction fail. So each is added first, which
    changes nothing if it is still there, and fails (EEXIST) if it has another value by now.
    """
    names = _names(table, name)
    changes = (
        (_NEW, netlink.CREATE, [_element(each.key, each.value) for each in old]),
        (_DELETE, 0, [_element(each.key) for each in old]),
        (_NEW, netlink.CREATE, [_element(*each) for each in new]),
    )
    requests = [(type, flags, names + nested(_ELEMENTS, those)) for type, flags, those in changes if those]
    if not requests:
        return
    last = len(requests)
    batch = [
        message(_BEGIN, 0, socket.AF_UNSPEC, b"", 0, _SUBSYSTEM),
        *(
            message(type, flags | (netlink.ACK if number == last else 0), _INET, body, number)
            for number, (type, flags, body) in enumerate(requests, 1)
        ),
        message(_END, 0, socket.AF_UNSPEC, b"", last + 1, _SUBSYSTEM),
    ]
    netlink.transact(connect, b"".join(batch))


def _names(table: str, name: str) -> bytes:
    return attribute(_TABLE, f"{table}\0".encode()) + attribute(_SET, f"{name}\0".encode())


def _element(key: bytes, value: bytes = b"", timeout: int | None = None, expires: int | None = None) -> bytes:
    parts = [nested(_KEY, [attribute(_VALUE, key)])]
    if value:
        parts.append(nested(_DATA, [attribute(_VALUE, value)]))
    parts += [
        attribute(type, struct.pack("!Q", milliseconds))
        for type, milliseconds in ((_TIMEOUT, timeout), (_EXPIRATION, expires))
        if milliseconds is not None
    ]
    return nested(1, parts)  # NFTA_LIST_ELEM


_milliseconds = struct.Struct("!Q").unpack_from


def _elements(data: bytes) -> Iterator[RawElement]:
    for each in netlink.messages(data):
        if each.type != _NEW:
            continue
        for type, start, end in attributes(data, each.body, each.end):
            if type == _ELEMENTS:
                for _, first, last in attributes(data, start, end):
                    yield _read_element(data, first, last)


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
