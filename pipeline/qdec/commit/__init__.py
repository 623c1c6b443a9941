"""Windows answered in order: frames kept, seams carried, commits handed on."""

from qdec.commit.bank import WindowBank
from qdec.commit.batch import Job, run_jobs
from qdec.commit.flags import Flag
from qdec.commit.shots import CommittedShots, ShotDecoder
from qdec.commit.stream import Committed, StreamDecoder, StreamState

__all__ = [
    "Committed",
    "CommittedShots",
    "Flag",
    "Job",
    "ShotDecoder",
    "StreamDecoder",
    "StreamState",
    "WindowBank",
    "run_jobs",
]
