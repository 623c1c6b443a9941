"""What a frame of rounds must pass on its way in: checked, converted to detection events."""

from qdec.ingest.intake import Intake, ShotPosition
from qdec.ingest.losses import LossLog

__all__ = ["Intake", "LossLog", "ShotPosition"]
