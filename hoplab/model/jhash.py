"""The kernel's jhash, which nft's `jhash` expression uses: Bob Jenkins' lookup3 over a rule's concatenated fields.

Fields of a concatenation lie in registers of four bytes, each field filled up with zeros; the 32-bit hash is scaled to
the modulus by a multiplication, not by a remainder.

Source: Bob Jenkins, lookup3.c (public domain); kernel include/linux/jhash.h, net/netfilter/nft_hash.c,
include/linux/math.h (reciprocal_scale).
"""

from __future__ import annotations

_MASK = 0xFFFFFFFF
_START = 0xDEADBEEF


def scaled_jhash(data: bytes, modulus: int, seed: int, offset: int = 0) -> int:
    """What `jhash ... mod MODULUS seed SEED offset OFFSET` gives for these bytes."""
    return ((jhash(data, seed) * modulus) >> 32) + offset


def jhash(data: bytes, seed: int) -> int:
    """The 32-bit hash on a little-endian machine."""
    a = b = c = (_START + len(data) + seed) & _MASK
    at = 0
    while len(data) - at > 12:
        a, b, c = _mix(*_added(a, b, c, data[at : at + 12]))
        at += 12
    if at == len(data):
        return c
    return _final(*_added(a, b, c, data[at:].ljust(12, b"\0")))


def _added(a: int, b: int, c: int, block: bytes) -> tuple[int, int, int]:
    words = (int.from_bytes(block[at : at + 4], "little") for at in (0, 4, 8))
    return tuple((old + word) & _MASK for old, word in zip((a, b, c), words, strict=True))  # type: ignore[return-value]


def _rotated(word: int, bits: int) -> int:
    return ((word << bits) | (word >> (32 - bits))) & _MASK


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    for bits in (4, 6, 8, 16, 19, 4):
        a = ((a - c) & _MASK) ^ _rotated(c, bits)
        c = (c + b) & _MASK
        a, b, c = b, c, a
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    for bits in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - _rotated(b, bits)) & _MASK
        a, b, c = b, c, a
    return b
