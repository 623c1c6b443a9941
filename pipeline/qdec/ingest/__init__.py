"""What a frame of rounds must pass on its way in: checked, converted to detection events."""

from qdec.ingest.intake import Intake, ShotPosition

__all__ = ["Intake", "ShotPosition"]
