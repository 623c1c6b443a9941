"""What a code is to the decoder: rounds of detectors, and the mechanisms between them."""

from qdec.codes.code import Code
from qdec.codes.limits import Limits
from qdec.codes.parts import Part
from qdec.codes.rounds import RoundLayout
from qdec.codes.spacetime import SpaceTime

__all__ = ["Code", "Limits", "Part", "RoundLayout", "SpaceTime"]
