# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
"""Bytes that both ends can make: a seeded block whose length is a prime, repeated.

A prime, so that a piece that is lost, doubled or moved by any usual buffer size changes the digest.
"""
import random

BLOCK = 1048573


def pieces(size, seed):
    """Yields the first `size` bytes of the pattern of `seed`."""
    block = random.Random(seed).randbytes(BLOCK)
    while size > 0:
        piece = block if size >= BLOCK else block[:size]
        yield piece
        size -= len(piece)
