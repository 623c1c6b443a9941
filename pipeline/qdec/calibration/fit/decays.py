"""T1 and echo: what falls exponentially."""

from __future__ import annotations

import numpy as np

from qdec.calibration.fit import families
from qdec.calibration.fit.curve import fit
from qdec.calibration.fit.found import Found, common, estimate, mapped, scale
from qdec.calibration.fit.oscillations import long_or_vague
from qdec.calibration.request import Request


def t1(request: Request) -> Found:
    """The relaxation time."""
    return _decay(request, "t1")


def echo(request: Request) -> Found:
    """The coherence time under an echo."""
    return _decay(request, "t2_echo")


def _decay(request: Request, name: str) -> Found:
    trace = request.observations.traces[0]
    scaled = scale(trace)
    curve = fit(scaled.points, families.decay())
    checks, doubts = common(curve, scaled)
    symbol = request.experiment.axis.unit if request.experiment.axis else "s"
    time = estimate(name, mapped(curve.profile[0], np.exp), symbol, scaled.span)
    doubts += long_or_vague(time, scaled.span, float(np.min(np.diff(trace.x))))
    return Found(
        "a + b exp(-t/T)",
        curve.signal,
        (time,),
        tuple(checks),
        tuple(doubts),
        curve.sigma * scaled.height,
        len(curve.points.x),
        int(np.sum(~curve.kept)),
    )
