"""Windows drawn at random from the model that they are decoded with, and the truth behind them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qdec.bits import Bytes
from qdec.codes.rows import gather_rows
from qdec.windows.cut import Problem

Ints = NDArray[np.int64]


class WindowSampler:
    """Draws windows of a problem: every instruction fires by itself, with all its components.

    As Stim's sampler of the same model would, without the text in between.

    Attributes:
        load: bits that an average window's instructions flip: what it costs to decode, roughly.
    """

    def __init__(self, problem: Problem) -> None:
        """Sort the problem's instructions by probability."""
        instructions, of_component = np.unique(problem.group, return_inverse=True)
        of_component = of_component.reshape(-1)
        p = np.zeros(len(instructions))
        p[of_component] = problem.p
        order = np.argsort(p, kind="stable")
        self._p, starts = np.unique(p[order], return_index=True)
        self._starts = np.append(starts, len(order)).astype(np.int64)
        self._syndrome_bytes = problem.num_nodes // 8
        self._bytes = (problem.num_nodes + problem.num_ids) // 8
        # What an instruction flips: bits of the syndrome, then bits of the answer.
        pair = problem.v >= 0
        flips = np.concatenate([problem.u, problem.v[pair], problem.num_nodes + problem.ids])
        owner = np.concatenate(
            [
                of_component,
                of_component[pair],
                np.repeat(of_component, np.diff(problem.id_ptr)),
            ]
        )
        ptr = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(p)))])
        by_owner = flips[np.argsort(owner, kind="stable")]
        self._ptr, self._flips = gather_rows(ptr.astype(np.int64), by_owner, order)
        self.load = float(p @ np.diff(ptr))

    def draw(self, windows: int, rng: np.random.Generator) -> tuple[Bytes, Bytes]:
        """Draw windows.

        Returns:
            ``(windows, num_nodes/8)`` uint8 syndromes, and ``(windows, num_ids/8)`` uint8: the
            answers that a perfect decoder would give.
        """
        out = np.zeros(windows * self._bytes, dtype=np.uint8)
        for p, first, end in zip(self._p, self._starts[:-1], self._starts[1:], strict=True):
            size = int(end - first)
            if not size:
                continue
            fired = _fired(float(p), size * windows, rng)
            window, instruction = fired // size, first + fired % size
            ptr, flips = gather_rows(self._ptr, self._flips, instruction)
            bit = flips + np.repeat(window, np.diff(ptr)) * (8 * self._bytes)
            np.bitwise_xor.at(out, bit >> 3, (1 << (bit & 7)).astype(np.uint8))
        both = out.reshape(windows, self._bytes)
        cut = self._syndrome_bytes
        return np.ascontiguousarray(both[:, :cut]), np.ascontiguousarray(both[:, cut:])


def _fired(p: float, trials: int, rng: np.random.Generator) -> Ints:
    """Which of so many independent trials succeed, ascending: by the gaps between them."""
    if p >= 1:
        return np.arange(trials, dtype=np.int64)
    found: list[Ints] = []
    at = -1
    while at < trials:
        expected = (trials - at) * p
        gaps = rng.geometric(p, int(expected + 4 * expected**0.5) + 8).astype(np.int64)
        # A gap may be as large as int64 is; beyond the end it does not matter how large.
        more = at + np.cumsum(np.minimum(gaps, trials + 1))
        found.append(more)
        at = int(more[-1])
    every = np.concatenate(found)
    return every[every < trials]
