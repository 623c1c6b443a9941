"""Candidates measured on this machine, on windows drawn from a stream's own model.

Each answers windows such as it would be served in, which are not the same for all: networks get
short ones. Plain matching answers those as well, so that every candidate is compared with it on the
same windows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from qdec.bits import Bytes
from qdec.codes import Code
from qdec.errors import QdecError
from qdec.match.assess import Assessor
from qdec.match.compile import compile_window
from qdec.match.escalate import Switching
from qdec.match.policy import Candidate, Measured
from qdec.match.tier import CLASSICAL, SOFT, CompiledWindow, Tier
from qdec.match.trial import WindowTrial
from qdec.windows.geometry import Geometry, Window, window_at

# Confidence below which a ladder asks its next tier: perf/confidence.py finds most of what asking
# it always would gain there, and at low noise more.
ESCALATE_BELOW = 0.9
_ALONE, _TOGETHER = 200, 64
# Windows at once: more as long as they take little of the time that is left.
_FIRST_BATCH, _BATCH = 16, 128
_LITTLE = 0.1
_MOST_WINDOWS = 50_000
# Fewer wrong windows than this say little: then errors are made likelier, and it is said.
_TELLING = 20
_HEATS = (1.0, 2.0, 3.0)
# Of the time: for windows one at a time; and for a look at whether there is enough to be told.
_FOR_ALONE, _FOR_A_LOOK = 0.2, 0.15
_EFFORT = 0.3
_SEED = 0x70E5

Fence = Callable[[Tier, Switching], str]
Served = Callable[[Tier], Geometry]


def candidates(tiers: Sequence[Tier] = (*CLASSICAL, *SOFT)) -> tuple[Candidate, ...]:
    """Plain matching, every other tier, and plain matching that asks guarded where it is not sure.

    What plain matching corrects by the code's distance, that ladder does as well: so do both of
    them. Soft tiers have looked twice where they are not sure; guarded matching knows no better.
    """
    others = [Candidate(tier) for tier in tiers if tier is not Tier.MATCHING]
    ladder = Candidate(Tier.MATCHING, Switching(tiers=(Tier.GUARDED,), below=ESCALATE_BELOW))
    return (Candidate(Tier.MATCHING), *others, ladder)


def steady_window(code: Code, geometry: Geometry, *, endless: bool) -> Window:
    """A window such as most of a stream's are: in the middle of a shot, or the whole of one."""
    length = None if endless else code.spacetime.rounds
    if geometry.is_whole:
        return window_at(geometry, 0, length)
    commits = code.spacetime.settled // geometry.commit + 1
    window = window_at(geometry, commits * geometry.commit, None)
    if length is None or window.end <= length - code.spacetime.tail:
        return window if length is None else window._replace(length=length)
    return window_at(geometry, 0, length)


@dataclass(slots=True)
class _Runner:
    """A candidate with its window compiled, and its counts so far."""

    candidate: Candidate
    window: CompiledWindow
    wrong: int = 0
    better: int = 0
    worse: int = 0


@dataclass(slots=True)
class _Group:
    """Candidates that are served in the same windows, plain matching before them."""

    code: Code
    window: Window
    runners: list[_Runner]
    windows: int = 0
    heat: float = 1.0

    @property
    def wrong(self) -> int:
        """Windows that plain matching answered wrongly."""
        return self.runners[0].wrong

    def judge(self, rng: np.random.Generator, budget_s: float) -> None:
        """Judge all, at the least heat that promises to tell enough."""
        until = time.thread_time() + budget_s
        look_s = _FOR_A_LOOK * budget_s
        for heat in _HEATS:
            if self._compare(heat, rng, until, math.inf if heat == _HEATS[-1] else look_s):
                return

    def _compare(self, heat: float, rng: np.random.Generator, until: float, look_s: float) -> bool:
        """Judge all on the same windows; the counts of cooler ones are forgotten.

        Returns:
            False if it was given up after `look_s` because it would tell too little.
        """
        trial = WindowTrial(self.code, self.window, heat=heat)
        for r in self.runners:
            r.wrong = r.better = r.worse = 0
        look_at = time.thread_time() + look_s
        self.windows, self.heat = 0, heat
        batch, now = _FIRST_BATCH, time.thread_time()
        while True:
            drawn = trial.draw(batch, rng)
            self.windows += batch
            safe = None
            for r in self.runners:
                answers = r.window.decode(drawn.syndromes)
                right = trial.right(drawn, answers)
                safe = right if safe is None else safe
                r.wrong += int((~right).sum())
                r.better += int((right & ~safe).sum())
                r.worse += int((~right & safe).sum())
            before, now = now, time.thread_time()
            if now - before < _LITTLE * (until - now):
                batch = min(2 * batch, _BATCH)
            if now >= look_at:
                pace = self.wrong / (now - look_at + look_s)
                if self.wrong + pace * max(0.0, until - now) < _TELLING:
                    return False
                look_at = math.inf
            if now >= until or self.windows >= _MOST_WINDOWS:
                return True


def measure(
    code: Code,
    wanted: Sequence[Candidate],
    *,
    served: Served,
    endless: bool,
    fence: Fence,
    budget_s: float,
) -> list[Measured]:
    """Measure candidates in `budget_s` of CPU time for each length of windows, beside compiling.

    Times are CPU times: what else runs on the machine delays every tier alike.

    Args:
        code: the stream's.
        wanted: candidates, the first of them plain matching.
        served: the windows that a tier would be served in.
        endless: whether the stream has no fixed length.
        fence: why a tier, with those it escalates to, does not keep the code's distance.
        budget_s: for decoding; a fifth of it is for windows one at a time.

    Raises:
        GeometryError: the first candidate cannot be compiled.
    """
    found: dict[Candidate, Measured] = {}
    groups: dict[Geometry, _Group] = {}
    plain = wanted[0]
    for candidate in wanted:
        geometry = served(candidate.tier)
        window = steady_window(code, geometry, endless=endless)
        try:
            runner = _Runner(candidate, _compile(code, geometry, window, candidate))
            if geometry not in groups:
                first = runner
                if candidate != plain:
                    first = _Runner(plain, _compile(code, geometry, window, plain))
                groups[geometry] = _Group(code, window, [first])
        except (QdecError, ImportError) as error:  # ImportError: an engine that is not installed
            if candidate == plain:
                raise
            found[candidate] = Measured(candidate, unusable=f"cannot be had: {error}")
            continue
        if runner is not groups[geometry].runners[0]:
            groups[geometry].runners.append(runner)
    rng = np.random.default_rng(_SEED)
    alone: dict[Candidate, tuple[float, float]] = {}
    together: dict[Candidate, float] = {}
    for group in groups.values():
        drawn = WindowTrial(code, group.window).draw(_ALONE, rng)
        each_s = _FOR_ALONE * budget_s / len(group.runners)
        for r in group.runners:
            if r.candidate not in alone:  # plain matching is in every group
                alone[r.candidate] = _alone(r.window, drawn.syndromes, each_s)
                together[r.candidate] = _together(r.window, drawn.syndromes[:_TOGETHER])
        group.judge(rng, (1 - _FOR_ALONE) * budget_s)
    for group in groups.values():
        for r in group.runners:
            if r.candidate in found:  # plain matching in others' windows
                continue
            found[r.candidate] = Measured(
                r.candidate,
                alone[r.candidate][0],
                alone[r.candidate][1],
                together[r.candidate],
                group.windows,
                group.window.commit,
                r.wrong,
                r.better,
                r.worse,
                group.heat,
                fence(r.candidate.tier, r.candidate.switching),
            )
    return [found[candidate] for candidate in wanted]


def _compile(
    code: Code, geometry: Geometry, window: Window, candidate: Candidate
) -> CompiledWindow:
    if candidate.switching:
        assessor = Assessor(
            code, candidate.tier, geometry, switching=candidate.switching, effort=_EFFORT
        )
        return assessor.compile(window)
    return compile_window(code, candidate.tier, geometry, window)


def _alone(window: CompiledWindow, syndromes: Bytes, budget_s: float) -> tuple[float, float]:
    """µs of a call with one window: median and 99th percentile."""
    took = []
    window.decode(syndromes[:1])
    until = time.thread_time() + budget_s
    for k in range(len(syndromes)):
        began = time.thread_time()
        window.decode(syndromes[k : k + 1])
        ended = time.thread_time()
        took.append(ended - began)
        if ended > until:
            break
    p50, p99 = np.percentile(took, [50, 99]) * 1e6
    return float(p50), float(p99)


def _together(window: CompiledWindow, syndromes: Bytes) -> float:
    """CPU µs per window of a batch, of all threads that an engine may have."""
    began = time.process_time()
    window.decode(syndromes)
    return (time.process_time() - began) / len(syndromes) * 1e6
