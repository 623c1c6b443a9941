"""A shot of a small code through a running service, and what an undisturbed run answers."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import psutil

from qdec.client import CodeText, Commits, Patience, Stream, open_stream
from qdec.codes import Code, Part
from qdec.commit import StreamDecoder, WindowBank, run_jobs
from qdec.match import Tier
from qdec.windows import Geometry
from qdec_tools.circuits import memory
from qdec_tools.sampler import EndlessSampler
from qdec_tools.service import Service

GEOMETRY = Geometry(20, 10)
TEXT = str(memory(3, 8, 0.003))
CODE = Code.parse("circuit", TEXT)
PATIENT = Patience(silence_s=0.05, give_up_s=30)


def rounds_of_a_shot(rounds: int, seed: int) -> np.ndarray:
    """One closed shot of `rounds` rounds: (rounds, record_bytes)."""
    sampler = EndlessSampler(CODE, seed)
    return np.concatenate([sampler.next(rounds - 20), sampler.close(rounds)])


def undisturbed(records: np.ndarray, part: Part | None = None) -> dict[int, bytes]:
    """Frame and seam of every window, from a service-free run of the same windows."""
    bank = WindowBank(CODE, Tier.MATCHING, GEOMETRY, part)
    decoder = StreamDecoder(bank, length=None, ring_rounds=len(records))
    decoder.push(records, t_recv=0, t_send=0, last=True)
    answers = {}
    while jobs := decoder.jobs():
        run_jobs(jobs, 1)
        for c in decoder.commits():
            answers[c.window] = c.frame.tobytes() + c.seam.tobytes()
    return answers


def answers_in(commits: list[Commits]) -> dict[int, bytes]:
    """The same from what a client was handed; every window exactly once, in order."""
    rows = np.concatenate(commits)
    assert rows["window"].tolist() == list(range(len(rows)))
    return {int(row["window"]): row["frame"].tobytes() + row["seam"].tobytes() for row in rows}


def open_guest(service: Service, name: str = "guest", endpoint: str | None = None) -> Stream:
    return open_stream(
        endpoint or service.endpoint,
        name,
        code=CodeText("circuit", TEXT),
        endless=True,
        windows=str(GEOMETRY),
        patience=PATIENT,
    )


def lane_pids(service: Service) -> list[int]:
    """Lane processes of a service, spares included, oldest first."""
    found = []
    for child in psutil.Process(service.pid).children():
        with suppress(psutil.Error):  # one that was killed and is not gone yet
            if "--role=lane" in child.cmdline():
                found.append((child.create_time(), child.pid))
    return [pid for _, pid in sorted(found)]


def serving_pid(
    service: Service,
    lane: int = 0,
    log_of: Callable[[Service], str] = lambda one: one.log.read_text(),
) -> int:
    """The process that serves a lane, by the service's log; waits for one that is about to."""
    for _ in range(500):
        log = log_of(service)
        children = re.findall(rf"child (\d+) serves lane {lane}\n", log)
        started = dict(re.findall(r"child (\d+) started for lane, pid (\d+)\n", log))
        pid = int(started[children[-1]]) if children else 0
        if pid in lane_pids(service):
            return pid
        time.sleep(0.02)
    raise AssertionError("no process serves the lane")


def stream_all(
    stream: Stream, records: np.ndarray, disturb: dict[int, Callable[[], object]]
) -> list[Commits]:
    """Send a shot in frames of 25 rounds; before some of them, do something unkind."""
    commits: list[Commits] = []
    for start in range(0, len(records), 25):
        action = disturb.get(start)
        if action is not None:
            action()
        chunk = np.ascontiguousarray(records[start : start + 25])
        stream.send(chunk, last=start + 25 >= len(records))
        commits += stream.poll(0.002)
    return commits + stream.drain()


def wait_for_log(service: Service, text: str) -> str:
    """The line of the service's log with a text in it, as soon as there is one."""
    for _ in range(400):
        for line in service.log.read_text().splitlines():
            if text in line:
                return line
        time.sleep(0.05)
    raise AssertionError(f"'{text}' is not in the log:\n{service.log.read_text()}")
