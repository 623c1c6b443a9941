"""Windows answered in order: frames kept, seams carried, commits handed on."""

from qdec.commit.bank import WindowBank
from qdec.commit.stream import Committed, Flag, Job, StreamDecoder, StreamState, run_jobs

__all__ = ["Committed", "Flag", "Job", "StreamDecoder", "StreamState", "WindowBank", "run_jobs"]
