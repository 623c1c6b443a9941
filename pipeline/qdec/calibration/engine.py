"""What an engine is: it reads a request and answers it, and touches nothing."""

from __future__ import annotations

from typing import Protocol

from qdec.calibration.request import Request
from qdec.calibration.response import ModelIdentity, Response


class Engine(Protocol):
    """Reads an experiment; suggests. `qdec.calibration.fit.FitEngine` is the built-in one."""

    @property
    def identity(self) -> ModelIdentity:
        """Which engine, which version."""

    def answer(self, request: Request, now: float) -> Response:
        """Judge an experiment.

        Args:
            request: checked (`parse_request`).
            now: seconds since the Unix epoch, for the provenance.

        Raises:
            CalibrationError: the request cannot be answered by this engine.
        """
