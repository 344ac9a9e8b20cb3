"""The kernel's hash, bit for bit: include/linux/jhash.h (Bob Jenkins' lookup3), which nft_hash.c uses."""

_MASK = 0xFFFFFFFF
_GOLDEN = 0xDEADBEEF


def _rotate(word: int, bits: int) -> int:
    return (word << bits | word >> (32 - bits)) & _MASK


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    for bits in (4, 6, 8, 16, 19, 4):
        a = (a - c & _MASK) ^ _rotate(c, bits)
        c = c + b & _MASK
        a, b, c = b, c, a
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    for bits in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - _rotate(b, bits)) & _MASK
        a, b, c = b, c, a
    return b


def jhash(data: bytes, seed: int) -> int:
    """The 32-bit hash of bytes, on a little-endian machine (the kernel reads whole words in its own order)."""
    a = b = c = (_GOLDEN + len(data) + seed) & _MASK
    while len(data) > 12:
        a, b, c = _mix(*(_add(word, data, at) for word, at in ((a, 0), (b, 4), (c, 8))))
        data = data[12:]
    if not data:
        return c
    data = data.ljust(12, b"\0")
    return _final(*(_add(word, data, at) for word, at in ((a, 0), (b, 4), (c, 8))))


def _add(word: int, data: bytes, at: int) -> int:
    return word + int.from_bytes(data[at : at + 4], "little") & _MASK


def reciprocal_scale(value: int, ceiling: int) -> int:
    """A 32-bit number scaled to 0..ceiling-1 (include/linux/kernel.h)."""
    return value * ceiling >> 32
