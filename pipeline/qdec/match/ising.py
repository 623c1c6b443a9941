"""A window whose corrections a network makes first, hard; what is left of it is matched.

Whatever the network says, the answer explains the syndrome: what its corrections flip is worked out
exactly, and matching explains the rest. A good network leaves little to match, a bad one costs
accuracy. Like every decoder of this kind it may also cost the code's distance: see
`qdec.match.gate`.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qdec.bits import Bytes
from qdec.codes import Code
from qdec.errors import GeometryError
from qdec.match.ahead import Ahead
from qdec.match.tier import Answers, CompiledWindow, Tier
from qdec.neural.engine import CompiledNetwork
from qdec.neural.ising.model import IsingModel
from qdec.neural.ising.placement import place
from qdec.neural.ising.shots import decide
from qdec.neural.ising.window import WindowGrid
from qdec.windows.geometry import Window

log = logging.getLogger("qdec.match")


class Corrected(NamedTuple):
    """What a network's corrections come to.

    Attributes:
        residual, committed: as `WindowGrid.apply` gives them.
        sick: ``(B,)`` bool: windows that nothing was corrected in, for the network's output was not
            finite.
    """

    residual: Bytes
    committed: Bytes
    sick: NDArray[np.bool_]


class IsingWindow:
    """Network, threshold, residual, matching. The network's part of the buffer is provisional.

    Attributes:
        network: as given.
        grid: as given.
        ahead: what the network corrects in windows.
        notes: see `CompiledWindow.notes`.
    """

    def __init__(
        self, network: CompiledNetwork, grid: WindowGrid, matching: CompiledWindow
    ) -> None:
        """Join the parts, all of the same window.

        Args:
            network: ``(B, 4, T, D, D)`` → logits of the same shape.
            grid: the window on Ising's grid.
            matching: what answers the residual.
        """
        self.network = network
        self.grid = grid
        self._matching = matching
        self.notes = matching.notes
        self._sick = False
        self.ahead: Ahead[Corrected] = Ahead(self._correct)

    def decode(self, syndromes: Bytes) -> Answers:
        """See `CompiledWindow.decode`. Windows with logits that are not finite are just matched."""
        residual, committed, sick = self.ahead(syndromes)
        tiers = None
        if sick.any():
            tiers = np.where(sick, Tier.MATCHING, Tier.ISING).astype(np.uint8)
            if not self._sick:
                log.error("the network's output is not finite: such windows are only matched")
                self._sick = True
        answers = self._matching.decode(residual)
        return Answers(answers.bits ^ committed, answers.feasible, tiers=tiers)

    def _correct(self, syndromes: Bytes) -> Corrected:
        logits = self.network(self.grid.network_input(syndromes))
        sick: NDArray[np.bool_] = np.asarray(~np.isfinite(logits).all(axis=(1, 2, 3, 4)))
        corrections = decide(logits)
        corrections[sick] = False
        return Corrected(*self.grid.apply(syndromes, corrections), sick)


def ising_window(
    code: Code,
    window: Window,
    model: IsingModel,
    matching: CompiledWindow,
) -> IsingWindow:
    """Put a network in front of a window's matching.

    Raises:
        ModelError: the code is not one for the model.
        GeometryError: the network looks further ahead than the window's buffer.
    """
    halo, buffer = model.architecture.halo, window.end - window.start - window.commit
    if not window.closes and buffer < halo:
        raise GeometryError(
            f"the network looks {halo} rounds ahead, and the windows' buffer has {buffer}: make "
            f"W - C at least {halo}"
        )
    grid = WindowGrid(place(code, model.basis), code.spacetime, window, past=halo)
    return IsingWindow(model.network, grid, matching)
