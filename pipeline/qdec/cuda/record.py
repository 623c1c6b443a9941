"""What kernels write of a window: a head, then bits or log-odds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qdec.bits import Bytes

HEAD = np.dtype(
    [
        ("doubt", "<f4"),  # sum of softplus(-|l|) over the logits that count: nats in doubt
        ("margin", "<f4"),  # min |l| over them
        ("count", "<u4"),  # residual events, or edges that are likely
        ("sick", "<u4"),  # 1: the network's output made no sense; doubt is inf then, margin 0
    ]
)
ALIGNMENT = 16  # of every record
Heads = NDArray[np.void]


def words_for(num_bytes: int) -> int:
    """32-bit words that so many bytes take."""
    return (num_bytes + 3) // 4


@dataclass(frozen=True, slots=True)
class BitRecord:
    """The record of `residual`: head, residual, answer; either padded with zeros to 4 bytes.

    Attributes:
        window_bytes: of the residual, packed as the syndrome is.
        answer_bytes: of what is committed: to be XORed into the answer to the residual.
    """

    window_bytes: int
    answer_bytes: int

    @property
    def residual_words(self) -> int:
        """Words of the residual."""
        return words_for(self.window_bytes)

    @property
    def words(self) -> int:
        """Words of both."""
        return self.residual_words + words_for(self.answer_bytes)

    @property
    def size(self) -> int:
        """Bytes of the record, a multiple of `ALIGNMENT`."""
        return _aligned(HEAD.itemsize + 4 * self.words)

    def read(self, records: Bytes) -> tuple[Heads, Bytes, Bytes]:
        """``(B, size)`` uint8 → views: ``(B,)`` heads, the residuals and the answers, packed."""
        at = HEAD.itemsize
        answer = at + 4 * self.residual_words
        return (
            heads(records),
            records[:, at : at + self.window_bytes],
            records[:, answer : answer + self.answer_bytes],
        )


@dataclass(frozen=True, slots=True)
class OddsRecord:
    """The record of `edges`: head, then the log-odds of every edge.

    Attributes:
        edges: how many.
        half: whether in float16; else float32.
    """

    edges: int
    half: bool = False

    @property
    def size(self) -> int:
        """Bytes of the record, a multiple of `ALIGNMENT`."""
        return _aligned(HEAD.itemsize + self.edges * (2 if self.half else 4))

    def read(self, records: Bytes) -> tuple[Heads, NDArray[np.floating]]:
        """``(B, size)`` uint8 → views: ``(B,)`` heads, ``(B, E)`` log-odds."""
        floats: type[np.floating] = np.float16 if self.half else np.float32
        odds = records[:, HEAD.itemsize :].view(floats)
        return heads(records), odds[:, : self.edges]


def heads(records: Bytes) -> Heads:
    """``(B, size)`` uint8 → ``(B,)`` `HEAD`, a view."""
    view: Heads = records[:, : HEAD.itemsize].view(HEAD)[:, 0]
    return view


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
