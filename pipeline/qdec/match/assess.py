"""Windows compiled so that they say how sure they are, calibrated as they are compiled."""

from __future__ import annotations

import numpy as np

from qdec.codes import Code, Part
from qdec.match.compile import compile_window
from qdec.match.confidence import (
    Calibration,
    ConfidentWindow,
    MeasuredWindow,
    SignalKind,
    SignallingWindow,
    fit,
)
from qdec.match.escalate import NO_SWITCHING, EscalatingWindow, Rung, Switching, signalled
from qdec.match.gap import GapMeter
from qdec.match.models import Model
from qdec.match.tier import CompiledWindow, Tier
from qdec.match.trial import WindowTrial
from qdec.windows.cut import Erasure, Problem, cut_closed, restrict
from qdec.windows.geometry import Geometry, Window

# Windows that a calibration draws: fewer where they are large, and as many on every machine, so
# that a window has one confidence. Matching and measuring windows that hold n flipped bits takes
# some (n / 10)^2 µs each here at d = 5 and (n / 6)^2 at d = 13: one to three seconds in all.
_WORK = 1e8
_FEWEST, _MOST = 200, 10_000
_MOST_OF_NETWORKS = 4000  # at a third of a millisecond and more
# More components than this are not worth preparing a sampler for: confidence is not known.
_MAX_COMPONENTS = 2_000_000
_SEED = 0x9DEC


class Assessor:
    """Compiles windows that say how sure they are, and switch tiers where that is not enough.

    Kinds of windows that differ in their place only share a calibration. Those that are compiled
    while a stream is served (the ends of endless shots, lost bits) take the calibration of the kind
    that is most like them: the meaning of a gap hardly depends on the length of a window.
    """

    def __init__(
        self,
        code: Code,
        tier: Tier,
        geometry: Geometry,
        part: Part | None = None,
        switching: Switching = NO_SWITCHING,
        *,
        model: Model | None = None,
        effort: float = 1.0,
    ) -> None:
        """Compile nothing yet.

        Args:
            code, tier, geometry, part: as in `compile_window`.
            switching: what is wanted.
            model: the network of `tier`, if it needs one.
            effort: of a calibration; 1 is one to three seconds' work.
        """
        self._code = code
        self._geometry = geometry
        self._part = part
        self._switching = switching
        self._model = model
        self._effort = effort
        self._tiers = tuple(dict.fromkeys((tier, *switching.tiers)))
        self._known: dict[tuple[Tier, int, int, bool], Calibration | None] = {}

    @property
    def calibrations(self) -> tuple[tuple[Tier, Calibration], ...]:
        """What was fitted so far."""
        return tuple((key[0], c) for key, c in self._known.items() if c is not None)

    def compile(
        self, window: Window, erasures: tuple[Erasure, ...] = (), *, calibrate: bool = True
    ) -> CompiledWindow:
        """Compile a window, and calibrate its kind if it is the first one.

        Args:
            window: the window.
            erasures: lost bits it has to be compiled for.
            calibrate: draw windows for a new kind; otherwise take what is known of another one.

        Raises:
            GeometryError: as `compile_window`.
        """
        problem = cut_closed(self._code.spacetime, window, erasures)
        if self._part is not None:
            nodes = self._part.nodes(window.start, window.end, window.length)
            problem = restrict(problem, nodes)
        windows: list[CompiledWindow] = []
        for tier in self._tiers:
            model = None if windows else self._model
            compiled = compile_window(
                self._code, tier, self._geometry, window, erasures, self._part, model
            )
            if not windows and not isinstance(compiled, SignallingWindow):
                compiled = MeasuredWindow(compiled, GapMeter.of(problem))
            windows.append(compiled)
        kinds = _signals(windows)
        found = self._calibrations(window, windows, problem, fresh=calibrate and not erasures)
        rungs = []
        for tier, one, kind, calibration in zip(self._tiers, windows, kinds, found, strict=True):
            if calibration is None or calibration.signal != kind.name:
                return windows[0]  # without confidence
            rungs.append(Rung(tier, one, calibration))
        first = windows[0]
        if len(rungs) == 1 and isinstance(first, SignallingWindow):
            return ConfidentWindow(first, rungs[0].calibration)
        return EscalatingWindow(rungs, self._switching.below)

    def _calibrations(
        self, window: Window, windows: list[CompiledWindow], problem: Problem, *, fresh: bool
    ) -> list[Calibration | None]:
        rounds = window.end - window.start
        keys = [(tier, rounds, window.commit, window.closes) for tier in self._tiers]
        if fresh and not all(key in self._known for key in keys):
            if len(problem.p) > _MAX_COMPONENTS:
                self._known.update(dict.fromkeys(keys))
            else:
                fitted = self._fit(window, windows)
                self._known.update(zip(keys, fitted, strict=True))
        return [self._known.get(key) or self._nearest(key) for key in keys]

    def _fit(self, window: Window, windows: list[CompiledWindow]) -> list[Calibration]:
        """Fit each tier on the windows that reach whatever gave the signal it goes by.

        Those are all windows for the first signal; behind it, what a tier was not sure of by its
        own signal says of those windows something else than of any.
        """
        trial = WindowTrial(self._code, window, self._part)
        wanted = self._effort * _WORK / max(1.0, trial.load) ** 2
        most = _MOST_OF_NETWORKS if any(tier.accelerated for tier in self._tiers) else _MOST
        count = int(max(_FEWEST, min(self._effort * most, wanted)))
        drawn = trial.draw(count, np.random.default_rng(_SEED))
        reach = np.ones(count, dtype=np.bool_)  # windows that the present signal is measured of
        up = reach
        signals = np.full(count, np.nan)
        found: list[Calibration] = []
        for one, kind in zip(windows, _signals(windows), strict=True):
            if isinstance(one, SignallingWindow):
                reach = up
                signals = np.full(count, np.nan)
            mine = drawn.rows(np.flatnonzero(reach))
            answers, own = signalled(one, mine.syndromes)
            if own is not None:
                signals[reach] = own
            calibration = fit(kind, signals[reach], trial.right(mine, answers))
            up = reach & ~(calibration.apply(signals) >= self._switching.below)
            found.append(calibration)
        return found

    def _nearest(self, key: tuple[Tier, int, int, bool]) -> Calibration | None:
        """The calibration of the kind of window that is most like another."""
        tier, rounds, _, closes = key
        known = [(k, c) for k, c in self._known.items() if c is not None and k[0] is tier]
        if not known:
            return None
        return min(known, key=lambda one: (one[0][3] != closes, abs(one[0][1] - rounds)))[1]


def _signals(windows: list[CompiledWindow]) -> list[SignalKind]:
    """The signal that each goes by: its own, or that of the one before."""
    kinds: list[SignalKind] = []
    for one in windows:
        kinds.append(one.signal if isinstance(one, SignallingWindow) else kinds[-1])
    return kinds
