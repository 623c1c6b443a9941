"""How long a stream goes unanswered when its noise model is replaced: SIGHUP under a live run.

A paced stream of a configured patch. Its code file is rewritten with another noise strength and the
service told to look: a successor of the lane gets warm with it, takes the clients over, and the
first window is made by the new model. Beside the gap between the last commit of the old one and the
first of the new stands the ordinary time between two commits, and how long the change took in all.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import show

from qdec.client import open_stream
from qdec.codes import Code
from qdec_tools.circuits import memory
from qdec_tools.sampler import EndlessSampler
from qdec_tools.service import running_service

CYCLE_US = 10.0
FRAME = 50
STRENGTHS = (0.003, 0.0031)


def row(distance: int, changes: int) -> dict[str, Any]:
    """Change the noise model so many times, while rounds go on coming."""
    gaps: list[float] = []
    took: list[float] = []
    steps: list[float] = []
    late = windows = 0
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder) / "patch.stim"
        code.write_text(str(memory(distance, 12, STRENGTHS[0])))
        table = f'[[stream]]\nname = "patch"\ncode = "{code}"\nendless = true\n'
        sampler = EndlessSampler(Code.from_file(code), 1, track=False)
        with (
            running_service(transport="tcp", spare_lanes=1, tables=table) as service,
            open_stream(service.endpoint, "patch") as stream,
        ):
            begin, sent = time.monotonic(), 0
            asked = last = 0.0
            made_by = None
            while len(gaps) < changes:
                now = time.monotonic()
                if now >= begin + sent * CYCLE_US * 1e-6:
                    stream.send(sampler.next(FRAME))
                    sent += FRAME
                for commits in stream.poll(0.0003):
                    now = time.monotonic()
                    windows += len(commits)
                    late += int(np.count_nonzero(commits["flags"] & 2))
                    new = int(commits["made_by"][-1])
                    if made_by is not None and new != made_by:
                        gaps.append(now - last)
                        took.append(now - asked)
                        asked = 0.0
                    elif last:
                        steps.append(now - last)
                    made_by, last = new, now
                if not asked and len(gaps) < changes and windows > 100 * (len(gaps) + 1):
                    strength = STRENGTHS[(len(gaps) + 1) % 2]
                    code.write_text(str(memory(distance, 12, strength)))
                    os.kill(service.pid, signal.SIGHUP)
                    asked = time.monotonic()
            resumes = stream.resumes
    return {
        "d": distance,
        "changes": len(gaps),
        "windows": windows,
        "late": late,
        "resumes": resumes,
        "between commits ms": 1e3 * statistics.median(steps),
        "gap ms": 1e3 * statistics.median(gaps),
        "longest gap ms": 1e3 * max(gaps),
        "SIGHUP to new s": statistics.median(took),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--distances", default="3,5,7")
    parser.add_argument("--changes", type=int, default=8)
    parser.add_argument("--save", action="store_true", help="into results/changes.json")
    options = parser.parse_args()
    rows = [row(int(d), options.changes) for d in options.distances.split(",")]
    show(
        "another noise model under a live stream: time without an answer",
        rows,
        save="changes" if options.save else "",
        cycle_us=CYCLE_US,
        noise=STRENGTHS,
    )


if __name__ == "__main__":
    main()
