"""What to change, from what was fitted."""

from __future__ import annotations

import math

from qdec.calibration.fit.found import Found
from qdec.calibration.fit.verdict import known
from qdec.calibration.kinds import Kind
from qdec.calibration.request import Request
from qdec.calibration.response import Action, Estimate, Fit, Verdict

# Parameters that an estimate of the same name sets.
_SETS: dict[Kind, tuple[str, ...]] = {
    Kind.RABI_AMPLITUDE: ("pi_amplitude",),
    Kind.RABI_TIME: ("pi_time",),
    Kind.RESONATOR_SPECTROSCOPY: ("resonator_frequency",),
    Kind.QUBIT_SPECTROSCOPY: ("qubit_frequency",),
    Kind.DRAG: ("drag_coefficient",),
    Kind.FLUX_ARCH: ("sweet_spot",),
    Kind.READOUT: ("angle", "threshold"),
}
_RENAMED = {"angle": "readout_angle", "threshold": "readout_threshold"}


def suggest(request: Request, found: Found, verdict: Verdict) -> tuple[Action, ...]:
    """Changes that a reliable fit asks for; none from any other."""
    if verdict.fit is not Fit.RELIABLE:
        return ()
    kind = request.experiment.kind
    if kind is Kind.RAMSEY:
        return _detuned(request, found)
    if kind is Kind.CZ_PHASE:
        return _phases(request, found)
    actions = []
    for name in _SETS.get(kind, ()):
        estimate = found[name]
        parameter = _RENAMED.get(name, name)
        current = known(request, parameter, estimate.unit)
        if (
            current is not None
            and estimate.closed
            and abs(estimate.value - current) < estimate.half
        ):
            continue  # as it is, within what the data can tell
        actions.append(_action(request, parameter, current, estimate.value, estimate))
    return tuple(actions)


def _detuned(request: Request, found: Found) -> tuple[Action, ...]:
    """Move the drive onto the qubit; the detuning is qubit minus drive."""
    current = known(request, "qubit_frequency", "Hz")
    if "detuning" not in found.names or current is None:
        return ()
    detuning = found["detuning"]
    if abs(detuning.value) < detuning.half:
        return ()
    return (_action(request, "qubit_frequency", current, current + detuning.value, detuning),)


def _phases(request: Request, found: Found) -> tuple[Action, ...]:
    """Move the coupler towards a conditional phase of π, where its slope was told."""
    phase = found["conditional_phase"]
    off = math.remainder(phase.value - math.pi, 2 * math.pi)
    slope = known(request, "coupler_phase_slope", "rad")
    quantity = request.current_params.get(f"{request.experiment.target}.coupler_amplitude")
    if quantity is None or not slope or abs(off) < phase.half:
        return ()
    to = quantity.value - off / slope
    return (
        Action.model_validate(
            {
                "parameter": f"{request.experiment.target}.coupler_amplitude",
                "from": quantity.value,
                "to": to,
                "unit": quantity.unit,
                "why": f"the conditional phase is {phase.value:.4g} rad, {off:+.3g} rad off pi, "
                f"and turns by {slope:.4g} rad per {quantity.unit}",
            }
        ),
    )


def _action(
    request: Request, parameter: str, current: float | None, to: float, estimate: Estimate
) -> Action:
    within = f" ± {estimate.half:.2g}" if estimate.closed else ""
    return Action.model_validate(
        {
            "parameter": f"{request.experiment.target}.{parameter}",
            "from": current,
            "to": to,
            "unit": estimate.unit,
            "why": f"{request.experiment.kind.value} of {request.experiment_id}: "
            f"{estimate.name} = {estimate.value:.7g}{within} {estimate.unit} (95 %)",
        }
    )
