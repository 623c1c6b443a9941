"""Rates and correlations of detection events, counted from packed shots.

With x = 1 - 2 event, so that products of x are parities: the mean of x for each detector, and of
the product for each pair that is asked for. Older shots may count for less.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qdec.bits import Bytes, num_bytes
from qdec.errors import DataError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
_CHUNK = 1 << 14
# Parities that are nearly as often odd as even say nothing, and their logarithm is noise.
_LEAST = 1e-3


class Moments:
    """Means over the shots seen so far.

    Attributes:
        shots: how many, those that count for less as part of one.
    """

    def __init__(self, detectors: int, pairs: Ints) -> None:
        """Nothing is seen yet.

        Args:
            detectors: bits of a shot.
            pairs: ``(P, 2)`` detectors whose correlation is wanted.
        """
        self._detectors = detectors
        self._pairs = pairs
        self.shots = 0.0
        self._events = np.zeros(detectors)
        self._odd = np.zeros(len(pairs))

    def add(self, shots: Bytes) -> None:
        """Count shots, ``(n, ceil(detectors / 8))`` uint8, LSB first.

        Raises:
            DataError: the shape is another.
        """
        width = num_bytes(self._detectors)
        if shots.ndim != 2 or shots.shape[1] != width or shots.dtype != np.uint8:
            raise DataError(f"shots must be (n, {width}) uint8, not {shots.shape} {shots.dtype}")
        for start in range(0, len(shots), _CHUNK):
            part = shots[start : start + _CHUNK]
            bits = np.unpackbits(part, axis=1, count=self._detectors, bitorder="little")
            columns = np.packbits(bits.T, axis=1)
            self._events += _ones(columns)
            for first in range(0, len(self._pairs), _CHUNK):
                u, v = self._pairs[first : first + _CHUNK].T
                self._odd[first : first + _CHUNK] += _ones(columns[u] ^ columns[v])
            self.shots += len(part)

    def fade(self, factor: float) -> None:
        """Let all that was seen count for so much less, 0 to 1."""
        self.shots *= factor
        self._events *= factor
        self._odd *= factor

    @property
    def rates(self) -> Floats:
        """``(detectors,)`` how often each fires."""
        return self._events / self._seen

    @property
    def _seen(self) -> float:
        if not self.shots:
            raise DataError("no shots were counted: there is nothing to estimate from")
        return self.shots

    def strengths(self) -> tuple[Floats, Floats, Floats, Floats]:
        """What the symptoms of a detector, or of both of a pair, add up to.

        For independent faults ``-log E[x_i]`` is the sum of the strengths of all symptoms that have
        detector i, and ``(-log E[x_i] - log E[x_j] + log E[x_i x_j]) / 2`` of those that have both
        (Spitz et al., Adv. Quantum Technol. 2018; Google, Nature 595, 383 (2021), supplement).

        Returns:
            Of each detector, then of each pair: the sum, and the variance of that estimate.

        Raises:
            DataError: nothing was counted.
        """
        x = np.maximum(1 - 2 * self._events / self._seen, _LEAST)
        xx = np.maximum(1 - 2 * self._odd / self._seen, _LEAST)
        u, v = self._pairs.T
        one = -np.log(x)
        both = (one[u] + one[v] + np.log(xx)) / 2
        # The delta method: the variance of x_i/m_i + x_j/m_j - x_i x_j/m_ij, whose mean is 1.
        square = 1 / x[u] ** 2 + 1 / x[v] ** 2 + 1 / xx**2
        square += 2 * (xx / (x[u] * x[v]) - x[v] / (x[u] * xx) - x[u] / (x[v] * xx))
        least = 1 / self._seen**2
        of_one = np.maximum((1 / x**2 - 1) / self._seen, least)
        of_both = np.maximum((square - 1) / self._seen / 4, least)
        return one, of_one, both, of_both


def _ones(packed: Bytes) -> Floats:
    found: Floats = np.bitwise_count(packed).sum(axis=1, dtype=np.float64)
    return found
