"""Probabilities of a code's faults, estimated from the detection events that they leave."""

from qdec.priors.fit import Fitted, fit
from qdec.priors.model import FaultModel
from qdec.priors.moments import Moments

__all__ = ["FaultModel", "Fitted", "Moments", "fit"]
