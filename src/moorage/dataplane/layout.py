"""How the words of a key or value lie in the kernel. Pure.

The fields of a concatenation follow each other, each filled up to four bytes (a register of nf_tables), numbers in
network order.
"""

import socket
import struct
from collections.abc import Sequence

from moorage.dataplane.nft import PROTOCOLS, Word, canonical

_FORMATS = {"ipv4_addr": "4s", "ipv6_addr": "16s", "inet_proto": "B3x", "inet_service": "H2x"}
_ADDRESSES = ("ipv4_addr", "ipv6_addr")
_NUMBERS = {name: number for number, name in PROTOCOLS.items()}


class Layout:
    """A concatenation of nft's types `ipv4_addr`, `ipv6_addr`, `inet_proto` and `inet_service`."""

    def __init__(self, types: Sequence[str]) -> None:
        self._types = tuple(types)
        self._struct = struct.Struct("!" + "".join(_FORMATS[each] for each in types))
        self.size = self._struct.size
        """In bytes."""

    def pack(self, words: Sequence[Word]) -> bytes:
        """What the kernel has for these words."""
        return self._struct.pack(*map(_pack, self._types, words))

    def unpack(self, data: bytes) -> tuple[Word, ...]:
        """The words, as `nft.ListedElement` has them."""
        return tuple(map(_unpack, self._types, self._struct.unpack(data)))


def pack_address(address: str) -> bytes:
    """What the kernel has for an address."""
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def unpack_address(data: bytes) -> str:
    """The address in canonical form."""
    if len(data) == 4:
        return socket.inet_ntop(socket.AF_INET, data)
    return canonical(socket.inet_ntop(socket.AF_INET6, data))


def _pack(type: str, word: Word) -> bytes | int:
    if type in _ADDRESSES:
        return pack_address(str(word))
    return _NUMBERS[word] if isinstance(word, str) and word in _NUMBERS else int(word)


def _unpack(type: str, value: bytes | int) -> Word:
    if isinstance(value, bytes):
        return unpack_address(value)
    return PROTOCOLS.get(value, value) if type == "inet_proto" else value
