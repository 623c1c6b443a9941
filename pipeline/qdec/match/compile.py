"""From a window's place in its code to the decoder that answers it."""

from __future__ import annotations

from qdec.codes import Code, Part
from qdec.errors import GeometryError
from qdec.match.correlated import correlated_window
from qdec.match.matching import MatchingWindow
from qdec.match.tier import CompiledWindow, Tier
from qdec.match.whole import WholeWindow
from qdec.windows.cut import Erasure, cut, restrict
from qdec.windows.geometry import Geometry, Window


def compile_window(
    code: Code,
    tier: Tier,
    geometry: Geometry,
    window: Window,
    erasures: tuple[Erasure, ...] = (),
    part: Part | None = None,
) -> CompiledWindow:
    """Compile the decoder of one window, or of a part of it.

    A part's decoder takes whole syndromes and passes over the events of the other parts; the XOR
    of all parts' answers is the window's.

    Raises:
        GeometryError: the window does not suit the tier (see `cut`, `correlated`), or the tier
            cannot answer a part.
    """
    if part is not None:
        if tier is not Tier.MATCHING:
            raise GeometryError(
                f"{tier.label} needs all of a code's detectors in one lane: its parts are for the "
                "matching tier"
            )
        nodes = part.nodes(window.start, window.end, window.length)
        return MatchingWindow(restrict(cut(code.spacetime, window, erasures), nodes))
    if tier is Tier.GUARDED:
        # Loads numba, which lanes without this tier need not wait for.
        from qdec.match.guarded import guarded_window

        return guarded_window(cut(code.spacetime, window, erasures), code.distance)
    correlated = tier is Tier.CORRELATED
    if geometry.is_whole and window.length == code.spacetime.rounds:
        return WholeWindow(code, correlated=correlated, erasures=erasures)
    problem = cut(code.spacetime, window, erasures)
    return correlated_window(problem) if correlated else MatchingWindow(problem)
