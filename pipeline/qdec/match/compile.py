"""From a window's place in its code to the decoder that answers it."""

from __future__ import annotations

from qdec.codes import Code
from qdec.match.correlated import correlated_window
from qdec.match.matching import MatchingWindow
from qdec.match.tier import CompiledWindow, Tier
from qdec.match.whole import WholeWindow
from qdec.windows.cut import Erasure, cut
from qdec.windows.geometry import Geometry, Window


def compile_window(
    code: Code,
    tier: Tier,
    geometry: Geometry,
    window: Window,
    erasures: tuple[Erasure, ...] = (),
) -> CompiledWindow:
    """Compile the decoder of one window.

    Raises:
        GeometryError: the window does not suit the tier (see `cut`, `correlated`).
    """
    correlated = tier is Tier.CORRELATED
    if geometry.is_whole and window.length == code.spacetime.rounds:
        return WholeWindow(code, correlated=correlated, erasures=erasures)
    problem = cut(code.spacetime, window, erasures)
    return correlated_window(problem) if correlated else MatchingWindow(problem)
