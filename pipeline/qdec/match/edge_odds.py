"""From a network's planes to the log-odds of a window's edges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qdec.neural.grid import WindowGrid

Floats = NDArray[np.float32]
# Log-odds that no network has a reason for.
_WILD = 1e4


@dataclass(frozen=True, slots=True)
class EdgeOdds:
    """What a network says of a window's edges.

    Attributes:
        grid: where the edges are.
    """

    grid: WindowGrid

    def __call__(self, change: Floats) -> Floats:
        """Log-odds of edges.

        Args:
            change: ``(B, channels, T, H, W)`` float32: what the network adds to the priors.

        Returns:
            ``(B, E)`` float32; NaN for windows in which the network's output is not finite, or
            beyond anything that it could have learned.
        """
        grid = self.grid
        odds = change.reshape(len(change), -1)[:, grid.places] + grid.prior.astype(np.float32)
        counts = np.diff(grid.edge_ptr)
        out: Floats = odds[:, grid.edge_places[grid.edge_ptr[:-1]]]
        for edge in np.flatnonzero(counts > 1).tolist():
            several = odds[:, grid.edge_places[grid.edge_ptr[edge] : grid.edge_ptr[edge + 1]]]
            out[:, edge] = odd_number(several.astype(np.float64))
        flat = change.reshape(len(change), -1)
        sound = (flat.max(axis=1) < _WILD) & (flat.min(axis=1) > -_WILD)  # False for NaN
        out[~sound] = np.nan
        return out


def odd_number(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-odds that an odd number of independent causes happened.

    Args:
        log_odds: ``(B, n)`` of each cause.

    Returns:
        ``(B,)``: with P = 1 / (1 + exp(-l)), 1 - 2 P = prod (1 - 2 P_i), and 1 - 2 P = -tanh(l/2).
    """
    product = np.prod(-np.tanh(log_odds / 2), axis=1)
    return np.asarray(np.log1p(-product) - np.log1p(product))
