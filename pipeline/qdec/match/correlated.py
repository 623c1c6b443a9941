"""Correlated matching of one window: both bases together, with the `^` structure kept."""

from __future__ import annotations

import numpy as np

from qdec.bits import Bytes
from qdec.errors import GeometryError
from qdec.match.graph import FAST_IDS, Ints, error_lines, graph_from_lines, targets
from qdec.match.tier import Answers
from qdec.windows.cut import Problem


class CorrelatedWindow:
    """PyMatching's two-pass correlated matching over a window's own DEM.

    Components that the window's edges cut off are gone, and what a partner outside the window
    knew is lost. It does not keep the code's distance: see `qdec.match.gate`.

    Attributes:
        graph: what is matched; its ids are not the answer's where those are many.
    """

    def __init__(self, problem: Problem) -> None:
        """Compile the window's DEM."""
        ids = np.unique(problem.ids)
        if problem.num_ids <= FAST_IDS:
            ids = np.arange(problem.num_ids)
        self._bytes = problem.num_ids // 8
        self.graph = graph_from_lines(
            _lines(problem, ids),
            problem.num_nodes,
            len(ids),
            mask=None,
            ids=None if problem.num_ids <= FAST_IDS else ids,
            correlated=True,
        )
        self.notes = (
            (f"{len(ids)} ids are beyond PyMatching's 64-bit fast path",)
            if len(ids) > FAST_IDS
            else ()
        )

    def decode(self, syndromes: Bytes) -> Answers:
        """See `CompiledWindow.decode`."""
        return Answers(*self.graph.predict(syndromes, self._bytes))


def correlated_window(problem: Problem) -> CorrelatedWindow:
    """Compile a correlated window.

    Raises:
        GeometryError: a mechanism has p > 1/2, which correlated matching cannot reweight.
    """
    check_probabilities(float(problem.p.max(initial=0.0)))
    return CorrelatedWindow(problem)


def check_probabilities(largest: float) -> None:
    """Refuse mechanisms more likely than not.

    Raises:
        GeometryError: `largest` exceeds one half.
    """
    if largest > 0.5:
        raise GeometryError(
            f"correlated matching needs every p <= 1/2, and the code has p = {largest:.6g}: "
            "use the matching tier, or flip the mechanism's meaning"
        )


def _lines(problem: Problem, ids: Ints) -> list[str]:
    if not len(problem.p):
        return []
    local = np.searchsorted(ids, problem.ids)
    flips = targets(problem.u, problem.v, problem.id_ptr, local)
    starts = np.flatnonzero(np.diff(problem.group, prepend=-1))
    ends = [*starts[1:].tolist(), len(flips)]
    joined = [" ^ ".join(flips[i:j]) for i, j in zip(starts.tolist(), ends, strict=True)]
    return error_lines(problem.p[starts], joined)
