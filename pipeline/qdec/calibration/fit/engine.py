"""The built-in engine: least squares, and a verdict on it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

from qdec.calibration.fit import crossings, decays, lines, oscillations, readout
from qdec.calibration.fit.actions import suggest
from qdec.calibration.fit.found import Found
from qdec.calibration.fit.verdict import CONFIDENCE, judge
from qdec.calibration.kinds import Kind
from qdec.calibration.request import Request, check
from qdec.calibration.response import FitReport, ModelIdentity, Provenance, Response
from qdec.errors import ObservationError

VERSION = "1"
_FITS: dict[Kind, Callable[[Request], Found]] = {
    Kind.RABI_AMPLITUDE: oscillations.rabi_amplitude,
    Kind.RABI_TIME: oscillations.rabi_time,
    Kind.RAMSEY: oscillations.ramsey,
    Kind.T1: decays.t1,
    Kind.ECHO: decays.echo,
    Kind.RESONATOR_SPECTROSCOPY: lines.resonator,
    Kind.QUBIT_SPECTROSCOPY: lines.qubit,
    Kind.READOUT: readout.readout,
    Kind.DRAG: crossings.drag,
    Kind.CZ_PHASE: crossings.cz_phase,
    Kind.FLUX_ARCH: crossings.flux_arch,
}


class FitEngine:
    """Fits the data of each kind of experiment with its own curve (docs/calibration.md)."""

    @property
    def identity(self) -> ModelIdentity:
        """This engine and the version of its curves and rules."""
        return ModelIdentity(engine="fit", version=VERSION)

    def answer(self, request: Request, now: float) -> Response:
        """Fit, judge, suggest. Pure: the same request gets the same answer.

        Raises:
            ObservationError: the data do not fit the kind of experiment.
            UnitError: a unit is of another dimension than is needed.
        """
        check(request)
        try:
            found = _FITS[request.experiment.kind](request)
        except (ArithmeticError, ValueError, np.linalg.LinAlgError) as error:
            # Data that are well-formed and make no sense as this kind of experiment.
            raise ObservationError(
                f"these observations cannot be fitted as {request.experiment.kind}: {error}"
            ) from error
        verdict = judge(request, found)
        return Response(
            experiment_id=request.experiment_id,
            suggested_actions=suggest(request, found, verdict),
            fit=FitReport(
                kind=request.experiment.kind,
                model=found.model,
                estimates=found.estimates,
                checks=found.checks,
                noise=found.noise,
                points=found.points,
                dropped=found.dropped,
            ),
            confidence=CONFIDENCE[verdict.fit],
            verdict=verdict,
            model=self.identity,
            provenance=Provenance(
                request_sha256=hashlib.sha256(request.model_dump_json().encode()).hexdigest(),
                device_id=request.device_id,
                hardware_rev=request.hardware_rev,
                request_ts=request.request_ts,
                response_ts=now,
            ),
        )
