"""How long a stream goes unanswered when its lane is killed: the gap between two commits.

A d=5 stream, paced; the lane gets SIGKILL in mid-stream, several times. The goal is 1 s.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import time

import psutil
from common import show

from qdec.client import CodeText, open_stream
from qdec.codes import Code
from qdec_tools.circuits import memory
from qdec_tools.sampler import EndlessSampler
from qdec_tools.service import running_service

CYCLE_US = 10.0
FRAME = 50


def gaps(distance: int, kills: int) -> tuple[list[float], int]:
    """Seconds without a commit around each kill, and windows answered."""
    text = str(memory(distance, 12, 0.003))
    sampler = EndlessSampler(Code.parse("circuit", text), 1, track=False)
    found: list[float] = []
    windows = 0
    with (
        running_service(transport="tcp", spare_lanes=1) as service,
        open_stream(
            service.endpoint, "patch", code=CodeText("circuit", text), endless=True
        ) as stream,
    ):
        begin, sent, killed = time.monotonic(), 0, 0
        last = kill_at = None
        while killed < kills or kill_at is not None or time.monotonic() < begin + 3 * (kills + 1):
            now = time.monotonic()
            if now >= begin + sent * CYCLE_US * 1e-6:
                stream.send(sampler.next(FRAME))
                sent += FRAME
            for commits in stream.poll(0.0003):
                windows += len(commits)
                if kill_at is not None and time.monotonic() > kill_at + 0.005:
                    found.append(time.monotonic() - (last or kill_at))
                    kill_at = None
                last = time.monotonic()
            if kill_at is None and killed < kills and now > begin + 3 * (killed + 1):
                os.kill(_oldest_lane(service.pid), signal.SIGKILL)
                kill_at, killed = time.monotonic(), killed + 1
    return found, windows


def _oldest_lane(supervisor: int) -> int:
    children = psutil.Process(supervisor).children()
    return min(children, key=lambda c: c.create_time()).pid


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=4)
    o = parser.parse_args()
    rows = []
    for distance in (3, 5, 7):
        found, windows = gaps(distance, o.kills)
        rows.append(
            {
                "d": distance,
                "kills": len(found),
                "windows": windows,
                "median s": statistics.median(found),
                "longest s": max(found),
            }
        )
    show("kill -9 of a lane: time without an answer", rows, cycle_us=CYCLE_US, noise=0.003)


if __name__ == "__main__":
    main()
