"""From numbers and doubts to a verdict."""

from __future__ import annotations

from qdec.calibration.fit.curve import SIGNAL
from qdec.calibration.fit.found import Found
from qdec.calibration.kinds import Kind
from qdec.calibration.request import Request
from qdec.calibration.response import Estimate, Fit, Outcome, Verdict
from qdec.calibration.units import convert

# What each kind is compared in with `current_params`, and the relative change that is nothing new.
COMPARED: dict[Kind, tuple[tuple[str, float], ...]] = {
    Kind.RABI_AMPLITUDE: (("pi_amplitude", 0.01),),
    Kind.RABI_TIME: (("pi_time", 0.01),),
    Kind.RAMSEY: (("t2_star", 0.3),),
    Kind.T1: (("t1", 0.3),),
    Kind.ECHO: (("t2_echo", 0.3),),
    Kind.RESONATOR_SPECTROSCOPY: (("resonator_frequency", 1e-5),),
    Kind.QUBIT_SPECTROSCOPY: (("qubit_frequency", 1e-5),),
    Kind.READOUT: (("assignment_fidelity", 0.02),),
    Kind.DRAG: (("drag_coefficient", 0.05),),
    Kind.FLUX_ARCH: (("sweet_spot", 0.02), ("f_max", 1e-3)),
}
# Nobody sets these: a change for the worse is the device's.
MEASURED = {"t1", "t2_star", "t2_echo", "assignment_fidelity"}
# How far to believe a verdict of that kind; set by hand, near what perf/calibration.py finds.
CONFIDENCE = {Fit.RELIABLE: 0.99, Fit.UNRELIABLE: 0.5, Fit.NONE: 0.99}
_DETUNED = 1e3  # Hz
_PHASE_OFF = 0.02  # rad


def judge(request: Request, found: Found) -> Verdict:
    """The verdict on a fit; reasons in the order in which they were noticed."""
    if found.signal >= SIGNAL:
        saturated = [d for d in found.doubts if "saturated" in d.words]
        outcome = Outcome.APPARATUS if saturated else Outcome.ANOMALOUS
        words = "there is no signal above the noise"
        return Verdict(outcome=outcome, fit=Fit.NONE, reasons=(words, *found.notes))
    if found.doubts:
        order = [Outcome.APPARATUS, Outcome.ANOMALOUS, Outcome.SUBOPTIMAL]
        outcome = min((d.outcome for d in found.doubts), key=order.index)
        reasons = tuple(dict.fromkeys([*(d.words for d in found.doubts), *found.notes]))
        return Verdict(outcome=outcome, fit=Fit.UNRELIABLE, reasons=reasons)
    outcome, reasons = _compare(request, found)
    return Verdict(outcome=outcome, fit=Fit.RELIABLE, reasons=(*reasons, *found.notes))


def known(request: Request, name: str, symbol: str) -> float | None:
    """A current parameter of the experiment's target, in a unit.

    Raises:
        UnitError: it was told in a unit of another dimension.
    """
    quantity = request.current_params.get(f"{request.experiment.target}.{name}")
    return quantity.within(symbol) if quantity else None


def _compare(request: Request, found: Found) -> tuple[Outcome, tuple[str, ...]]:
    outcome, reasons = Outcome.EXPECTED, []
    for name, tolerance in COMPARED.get(request.experiment.kind, ()):
        if name not in found.names:
            continue
        estimate = found[name]
        current = known(request, name, estimate.unit)
        if current is None or not _differs(estimate, current, tolerance):
            continue
        words = f"{name} is {estimate.value:.6g} {estimate.unit}, not {current:.6g}"
        reasons.append(words)
        if name not in MEASURED:
            outcome = Outcome.SUBOPTIMAL
        elif estimate.value < current and outcome is Outcome.EXPECTED:
            outcome = Outcome.ANOMALOUS
    for name, target, most in (
        ("detuning", 0.0, _DETUNED),
        ("conditional_phase", convert(180, "deg", "rad"), _PHASE_OFF),
    ):
        if name in found.names:
            off = abs(abs(found[name].value) - target)
            if off > max(most, found[name].half):
                outcome = Outcome.SUBOPTIMAL
                reasons.append(f"{name} is {found[name].value:.4g} {found[name].unit}")
    return outcome, tuple(reasons)


def _differs(estimate: Estimate, current: float, tolerance: float) -> bool:
    off = abs(estimate.value - current)
    return off > tolerance * abs(current) and (not estimate.closed or off > estimate.half)
