"""The built-in calibration engine: curves, least squares, verdicts, suggestions."""

from qdec.calibration.fit.engine import FitEngine

__all__ = ["FitEngine"]
