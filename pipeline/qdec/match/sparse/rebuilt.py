"""PyMatching with a window's own weights: a graph made anew for every window."""

from __future__ import annotations

import numpy as np
import pymatching
from numpy.typing import NDArray
from scipy.sparse import csc_array

from qdec.bits import Bits, Bytes, unpack
from qdec.match.sparse.state import Int64s


class RebuiltMatching:
    """Minimum-weight matching over edges without parallels, at hundreds of µs a window."""

    def __init__(self, num_nodes: int, u: Int64s, v: Int64s) -> None:
        """Lay the edges out as PyMatching reads them: see `SparseMatcher`."""
        ends = np.stack([u, v], axis=1)
        real = ends >= 0
        ptr = np.concatenate([[0], np.cumsum(real.sum(axis=1))])
        nodes = ends[real]
        self._checks = csc_array(
            (np.ones(len(nodes), dtype=np.uint8), nodes, ptr), shape=(num_nodes, len(u))
        )

    def solve(self, weights: NDArray[np.float64], syndrome: Bytes) -> Bits | None:
        """The edges of the least weight that explain a syndrome.

        Args:
            weights: ``(E,)`` finite, of either sign.
            syndrome: ``(nodes/8,)`` packed.

        Returns:
            ``(E,)``: which edges; None where none explain it.
        """
        events = unpack(syndrome, self._checks.shape[0])
        if not len(weights):
            return None if events.any() else np.zeros(0, dtype=np.bool_)
        matching = pymatching.Matching.from_check_matrix(self._checks, weights=weights)
        try:
            found = matching.decode(events)
        except ValueError:  # no perfect matching
            return None
        return np.asarray(found, dtype=np.bool_)
