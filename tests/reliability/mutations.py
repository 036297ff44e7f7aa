"""Mutation of bytes, for the fuzz tests."""

from __future__ import annotations

import random
import struct


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Flip, cut, repeat or replace a few bytes."""
    image = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(image) or 1)
        kind = rng.randrange(5)
        if kind == 0 and image:
            image[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and image:
            image[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF])
        elif kind == 2:
            del image[at : at + rng.randrange(1, 64)]
        elif kind == 3:
            image[at:at] = image[at : at + rng.randrange(1, 64)]
        else:
            image[at : at + 8] = struct.pack("<Q", rng.choice([0, 2**31, 2**63, 2**64 - 1]))
    return bytes(image)
