"""Candidates measured on this machine, on windows drawn from a stream's own model."""

from __future__ import annotations

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
_ALONE = 200
_BATCH = 128
_MOST_WINDOWS = 50_000
# Fewer wrong windows than this say little: then errors are made likelier, and it is said.
_TELLING = 10
_HEATS = ((1.0, 0.5), (2.0, 0.15), (3.0, 0.15))  # and the shares of the time that they get
_EFFORT = 0.3
_SEED = 0x70E5

Fence = Callable[[Tier, Switching], str]


def candidates(tiers: Sequence[Tier] = (*CLASSICAL, *SOFT)) -> tuple[Candidate, ...]:
    """Plain matching, every other tier, and ladders to guarded matching from plain and soft ones.

    What plain matching corrects by the code's distance, a ladder from it to guarded matching does
    as well: so do both of them.
    """
    alone = [Candidate(Tier.MATCHING)]
    alone += [Candidate(tier) for tier in tiers if tier is not Tier.MATCHING]
    ladders = [
        Candidate(tier, Switching(tiers=(Tier.GUARDED,), below=ESCALATE_BELOW))
        for tier in (Tier.MATCHING, *SOFT)
        if tier in tiers
    ]
    return (*alone, *ladders)


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
    cpu_s: float = 0.0


def measure(
    code: Code,
    geometry: Geometry,
    window: Window,
    wanted: Sequence[Candidate],
    *,
    fence: Fence,
    budget_s: float,
) -> list[Measured]:
    """Measure candidates on the same windows, in `budget_s` of CPU time beside compiling.

    Times are CPU times: what else runs on the machine delays every tier alike.

    Args:
        code, geometry: the stream's.
        window: a window such as most of its windows are.
        wanted: candidates, the first of them plain matching.
        fence: why a tier, with those it escalates to, does not keep the code's distance.
        budget_s: for decoding; a fifth of it is for windows one at a time.

    Raises:
        GeometryError: the first candidate cannot be compiled.
    """
    found: dict[Candidate, Measured] = {}
    runners = []
    for k, candidate in enumerate(wanted):
        try:
            compiled = _compile(code, geometry, window, candidate)
        except (QdecError, ImportError) as error:  # ImportError: an engine that is not installed
            if not k:
                raise
            found[candidate] = Measured(candidate, unusable=f"cannot be had: {error}")
            continue
        runners.append(_Runner(candidate, compiled))
    rng = np.random.default_rng(_SEED)
    drawn = WindowTrial(code, window).draw(_ALONE, rng)
    alone = {
        r.candidate: _alone(r.window, drawn.syndromes, budget_s / 5 / len(runners)) for r in runners
    }
    for heat, share in _HEATS:
        windows = _compare(code, window, runners, heat, rng, share * budget_s)
        if runners[0].wrong >= _TELLING:
            break
    for r in runners:
        p50, p99 = alone[r.candidate]
        us_window = r.cpu_s / windows * 1e6
        why = fence(r.candidate.tier, r.candidate.switching)
        found[r.candidate] = Measured(
            r.candidate, p50, p99, us_window, windows, r.wrong, r.better, r.worse, heat, why
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


def _compare(
    code: Code,
    window: Window,
    runners: Sequence[_Runner],
    heat: float,
    rng: np.random.Generator,
    budget_s: float,
) -> int:
    """Judge all on the same windows; the counts of cooler ones are forgotten."""
    trial = WindowTrial(code, window, heat=heat)
    for r in runners:
        r.wrong = r.better = r.worse = 0
        r.cpu_s = 0.0
    until = time.thread_time() + budget_s
    windows = 0
    while not windows or (time.thread_time() < until and windows < _MOST_WINDOWS):
        drawn = trial.draw(_BATCH, rng)
        windows += _BATCH
        safe = None
        for r in runners:
            began = time.process_time()  # of all threads that an engine may have
            answers = r.window.decode(drawn.syndromes)
            r.cpu_s += time.process_time() - began
            right = trial.right(drawn, answers)
            safe = right if safe is None else safe
            r.wrong += int((~right).sum())
            r.better += int((right & ~safe).sum())
            r.worse += int((~right & safe).sum())
    return windows
