"""From a window's place in its code to the decoder that answers it."""

from __future__ import annotations

from qdec.codes import Code, Part
from qdec.errors import GeometryError
from qdec.match.correlated import correlated_window
from qdec.match.ising import ising_window
from qdec.match.matching import MatchingWindow
from qdec.match.models import Model, folded_model, ising_model
from qdec.match.tier import SOFT, CompiledWindow, Tier
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
    model: Model | None = None,
) -> CompiledWindow:
    """Compile the decoder of one window, or of a part of it.

    A part's decoder takes whole syndromes and passes over the events of the other parts; the XOR
    of all parts' answers is the window's.

    Args:
        code: the code.
        tier: what answers.
        geometry: the windows' lengths.
        window: which one.
        erasures: faults of probability one half to add.
        part: the part of the code to answer for; all of it if None.
        model: the network of a tier that needs one; for `SOFT` tiers that of the package if None.

    Raises:
        GeometryError: the window does not suit the tier (see `cut`, `correlated`, `ising`), or the
            tier cannot answer a part.
        ModelError: the tier needs a model and there is none, or it is of another family.
        CodeError: the model does not suit the code.
    """
    if part is not None and tier is not Tier.MATCHING:
        raise GeometryError(
            f"{tier.label} needs all of a code's detectors in one lane: its parts are for the "
            "matching tier"
        )
    if tier is Tier.ISING:
        matching = compile_window(code, Tier.MATCHING, geometry, window, erasures)
        return ising_window(code, window, ising_model(model), matching)
    if tier in SOFT:
        # Compiled code that lanes without networks need not load.
        from qdec.match.soft import soft_window

        return soft_window(code, tier, window, folded_model(tier, model), erasures)
    if part is not None:
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
