"""Windows of Ising's family, as its tier is shown them: every basis and orientation of a patch.

A window that opens in mid-stream is shown quiet rounds before it, as many as the network looks
back (`qdec.neural.ising.window`), so it is trained with them; nothing of their output counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from qdec.neural.ising.network import Architecture
from qdec.neural.ising.patch import KINDS, Basis, Orientation
from qdec_tools.training.ising_data import IsingSampler
from qdec_tools.training.recipe import Mix

Bytes = NDArray[np.uint8]
_ORIENTATIONS = tuple(Orientation)


@dataclass(frozen=True, slots=True)
class IsingKind:
    """One kind of window, ready to be drawn from.

    Attributes:
        sampler: draws its T rounds.
        past: quiet rounds that the network is shown before them.
        presence: ``(2, past + T, D, D)`` float32.
        exists: ``(4, T, D, D)`` bool: where a correction can be.
        cells: (past + T) * D * D.
    """

    sampler: IsingSampler
    past: int
    presence: NDArray[np.float32]
    exists: NDArray[np.bool_]
    cells: int

    def sample(self, shots: int, rng: np.random.Generator) -> tuple[Bytes, Bytes]:
        """Differences ``(shots, 2, T, D, D)`` and labels ``(shots, 4, T, D, D)``, uint8."""
        return self.sampler.sample_events(shots, rng)


class IsingSource:
    """Draws kinds of windows in both bases and all four orientations."""

    bytes_per_cell = 2 + 4

    def __init__(self, arch: Architecture) -> None:
        """Prepare nothing yet: kinds are made when they are first drawn."""
        self._halo = arch.halo
        self._kind = lru_cache(maxsize=1024)(self._make)

    def draw(self, mix: Mix, rng: np.random.Generator) -> IsingKind:
        """One of a mix's kinds."""
        basis = KINDS[int(rng.integers(2))]
        orientation = _ORIENTATIONS[int(rng.integers(4))]
        rounds = int(rng.choice(mix.rounds))
        return self._kind(mix, basis, orientation, rounds, float(rng.choice(mix.noise)))

    def _make(
        self, mix: Mix, basis: Basis, orientation: Orientation, rounds: int, noise: float
    ) -> IsingKind:
        return make_kind(
            IsingSampler(mix.ising_kind(rounds, noise, basis, orientation)), self._halo
        )


def make_kind(sampler: IsingSampler, halo: int) -> IsingKind:
    """One kind of window, for a network that looks `halo` rounds back."""
    patch, kind = sampler.patch, sampler.kind
    past = 0 if kind.starts else halo
    quiet = np.repeat(patch.presence[:, None], past, axis=1)
    presence = np.concatenate([quiet, sampler.presence], axis=1)
    exists = np.ones(sampler.shape, dtype=np.bool_)
    exists[2:] = (patch.presence > 0)[:, None]
    if kind.end != "middle":
        exists[2:, -1] = False  # the data are measured instead, or nothing goes wrong there
    return IsingKind(sampler, past, presence, exists, presence[0].size)
