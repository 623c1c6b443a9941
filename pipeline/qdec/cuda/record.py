"""What kernels write of a window: a head, then bits, log-odds, or an answer."""

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
FOUND = np.dtype(
    [
        ("settled", "<u4"),  # 1: the answer stands, and the log-odds were not written
        ("events", "<u4"),  # that the likely edges left
        ("residual", "<f4"),  # how much heavier the answer is than the likelier side of every edge
        ("rounds", "<u4"),  # of growing balls
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

    def copy(self, records: Bytes, to: Bytes) -> None:
        """Copy ``(B, size)`` records."""
        to[:] = records

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

    def copy(self, records: Bytes, to: Bytes) -> None:
        """Copy ``(B, size)`` records."""
        to[:] = records

    def read(self, records: Bytes) -> tuple[Heads, NDArray[np.floating]]:
        """``(B, size)`` uint8 → views: ``(B,)`` heads, ``(B, E)`` log-odds."""
        floats: type[np.floating] = np.float16 if self.half else np.float32
        odds = records[:, HEAD.itemsize :].view(floats)
        return heads(records), odds[:, : self.edges]


@dataclass(frozen=True, slots=True)
class ComponentRecord:
    """The record of `components`: head, found, the answer; the log-odds where it does not stand.

    Attributes:
        edges: how many log-odds.
        answer_bytes: of the answer, which is padded with zeros to `ALIGNMENT`.
    """

    edges: int
    answer_bytes: int

    @property
    def short(self) -> int:
        """Bytes that are written of every window."""
        return HEAD.itemsize + FOUND.itemsize + _aligned(self.answer_bytes)

    @property
    def size(self) -> int:
        """Bytes of the record, a multiple of `ALIGNMENT`; not less than of an `OddsRecord`."""
        return self.short + _aligned(4 * self.edges)

    def read(self, records: Bytes) -> tuple[Heads, Heads, Bytes, NDArray[np.float32]]:
        """``(B, size)`` uint8 → views: ``(B,)`` heads and `FOUND`, ``(B, answer_bytes)`` answers,
        ``(B, E)`` log-odds.

        Log-odds are anything where the window is settled or sick; answers are zeros where it is not
        settled.
        """
        at = HEAD.itemsize + FOUND.itemsize
        return (
            heads(records),
            records[:, HEAD.itemsize : at].view(FOUND)[:, 0],
            records[:, at : at + self.answer_bytes],
            records[:, self.short :].view(np.float32)[:, : self.edges],
        )

    def copy(self, records: Bytes, to: Bytes) -> None:
        """Copy what was written of ``(B, size)`` records; of most windows that is little."""
        to[:, : self.short] = records[:, : self.short]
        head, found, _, _ = self.read(records)
        for row in np.flatnonzero((found["settled"] == 0) & (head["sick"] == 0)).tolist():
            to[row, self.short :] = records[row, self.short :]


def heads(records: Bytes) -> Heads:
    """``(B, size)`` uint8 → ``(B,)`` `HEAD`, a view."""
    view: Heads = records[:, : HEAD.itemsize].view(HEAD)[:, 0]
    return view


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
