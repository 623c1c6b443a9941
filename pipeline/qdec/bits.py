"""Bit packing, in one place: LSB-first within each byte, as Stim's ``b8`` and CUDA-Q Realtime."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Bits = NDArray[np.bool_]


def num_bytes(bits: int) -> int:
    """Bytes that `bits` packed bits occupy."""
    return (bits + 7) >> 3


def pack(bits: NDArray[np.bool_] | Bytes) -> Bytes:
    """Pack the last axis: ``(..., n)`` of 0/1 → ``(..., ceil(n/8))`` uint8, LSB first."""
    return np.packbits(bits, axis=-1, bitorder="little")


def unpack(packed: Bytes, count: int) -> Bytes:
    """Unpack the last axis: ``(..., >= ceil(count/8))`` uint8 → ``(..., count)`` uint8 of 0/1."""
    return np.unpackbits(packed, axis=-1, count=count, bitorder="little")


def padding_mask(bits: int, stride: int) -> Bytes:
    """``(stride,)`` uint8 with ones where a record of `bits` bits must hold zeros."""
    used = np.zeros(stride * 8, dtype=np.bool_)
    used[:bits] = True
    return pack(~used)
