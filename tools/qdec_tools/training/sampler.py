"""Labelled windows: mechanisms drawn from a window's problem, what they flip, which edges they are.

Every mechanism fires by itself with its probability. Those of equal probability are drawn together
over a whole batch by the distances between successes, which are geometric: time goes with the
faults that happen, not with those that could.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from qdec.codes.rows import gather_rows
from qdec.neural.grid import WindowGrid
from qdec.windows.cut import Problem

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Faults:
    """A window's mechanisms, by ascending probability.

    Attributes:
        p: ``(G,)`` distinct probabilities.
        group_ptr: mechanisms ``group_ptr[g]:group_ptr[g+1]`` have probability ``p[g]``.
        node_ptr, nodes: mechanism m flips ``nodes[node_ptr[m]:node_ptr[m+1]]``, indices into a
            flattened ``(4, T, H, W)``.
        place_ptr, places: and is made of these edges, indices into ``(channels, T, H, W)``.
    """

    p: NDArray[np.float64]
    group_ptr: Ints
    node_ptr: Ints
    nodes: Ints
    place_ptr: Ints
    places: Ints

    @classmethod
    def of(cls, problem: Problem, grid: WindowGrid) -> Faults:
        """Sort a window's mechanisms by probability."""
        count = int(problem.group[-1]) + 1
        p = np.zeros(count)
        p[problem.group] = problem.p
        order = np.argsort(p, kind="stable")
        distinct, start = np.unique(p[order], return_index=True)
        components = np.bincount(problem.group, minlength=count)
        component_ptr = np.concatenate([[0], np.cumsum(components)]).astype(np.int64)
        pairs = problem.v >= 0
        ends = np.concatenate([grid.node_at[problem.u], grid.node_at[problem.v[pairs]]])
        owner = np.concatenate([problem.group, problem.group[pairs]])
        by_owner = np.argsort(owner, kind="stable")
        node_ptr = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=count))])
        return cls(
            distinct,
            np.append(start, count).astype(np.int64),
            *gather_rows(node_ptr.astype(np.int64), ends[by_owner], order),
            *gather_rows(component_ptr, grid.place, order),
        )


class Sampler:
    """Draws windows of one kind."""

    def __init__(self, problem: Problem, grid: WindowGrid, channels: int) -> None:
        """Prepare to draw windows of `problem`, with labels for `channels` classes."""
        self._faults = Faults.of(problem, grid)
        self._shape = grid.shape
        self._channels = channels

    def sample(self, shots: int, rng: np.random.Generator) -> tuple[Bytes, Bytes]:
        """Draw windows.

        Returns:
            ``(shots, 4, T, H, W)`` uint8 detection events, and ``(shots, channels, T, H, W)`` uint8
            labels: whether an odd number of the mechanisms of that edge fired.
        """
        events = np.zeros((shots, 4, *self._shape), dtype=np.uint8)
        labels = np.zeros((shots, self._channels, *self._shape), dtype=np.uint8)
        f = self._faults
        seed = int(rng.integers(1 << 63))
        flat_events, flat_labels = events.reshape(shots, -1), labels.reshape(shots, -1)
        _draw(
            f.p,
            f.group_ptr,
            f.node_ptr,
            f.nodes,
            f.place_ptr,
            f.places,
            np.uint64(seed),
            flat_events,
            flat_labels,
        )
        return events, labels


@njit(cache=True)
def _draw(
    p: NDArray[np.float64],
    group_ptr: Ints,
    node_ptr: Ints,
    nodes: Ints,
    place_ptr: Ints,
    places: Ints,
    state: np.uint64,
    events: Bytes,
    labels: Bytes,
) -> None:
    shots = events.shape[0]
    for g in range(len(p)):
        first = group_ptr[g]
        size = group_ptr[g + 1] - first
        total = size * shots
        scale = 1.0 / np.log1p(-p[g]) if p[g] < 1.0 else 0.0
        at = -1
        while True:
            # splitmix64 (Steele, Lea, Flood 2014); its upper 53 bits as a number in (0, 1]
            state += np.uint64(0x9E3779B97F4A7C15)
            z = state
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            z ^= z >> np.uint64(31)
            uniform = (np.float64(z >> np.uint64(11)) + 1.0) * 2.0**-53
            skip = np.log(uniform) * scale
            if skip >= total - at:
                break
            at += 1 + int(skip)
            if at >= total:
                break
            shot = at // size
            m = first + at % size
            for k in range(node_ptr[m], node_ptr[m + 1]):
                events[shot, nodes[k]] ^= 1
            for k in range(place_ptr[m], place_ptr[m + 1]):
                labels[shot, places[k]] ^= 1
