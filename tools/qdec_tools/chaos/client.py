"""A client in a process of its own: streams a patch's rounds through the public library.

What it is handed goes to files, as it comes, so that nothing is lost if it is killed: ``NAME.rows``
has the commit records, ``NAME.times`` a line for each delivery (see `DELIVERY`), and ``NAME.json``
is written at the end. SIGTERM has it finish: end the shot, wait for the last commit, close.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from qdec.bus.records import commit_dtype
from qdec.client import Patience, Stream, open_stream
from qdec.errors import QdecError
from qdec_tools.chaos.patches import Patch

# Rows handed over so far, when (ns of CLOCK_MONOTONIC), rounds sent so far.
DELIVERY = np.dtype([("rows", "<i8"), ("at", "<i8"), ("sent", "<i8")])
# Rounds held back while the service is away; a source that must wait loses time, not rounds.
_MOST_HELD = 50_000
_PATIENCE = Patience(open_s=60.0, give_up_s=120.0)
_MOST_EVENTS = 200


class Recorder:
    """Writes down what is delivered."""

    def __init__(self, folder: Path, name: str) -> None:
        """Open the files."""
        self._rows: BinaryIO = (folder / f"{name}.rows").open("wb", buffering=0)
        self._times: BinaryIO = (folder / f"{name}.times").open("wb", buffering=0)
        self._count = 0

    def take(self, stream: Stream, timeout_s: float) -> None:
        """Poll the stream, and write down what comes."""
        delivered = stream.poll(timeout_s)
        if not delivered:
            return
        now = time.monotonic_ns()
        dtype = commit_dtype(stream.info.frame_bytes, stream.info.seam_bytes)
        for commits in delivered:
            # Those of lanes that share a stream have been copied, without what pads a record.
            self._rows.write(commits.astype(dtype).tobytes())
            self._count += len(commits)
        line = np.array([(self._count, now, stream.sent_until)], DELIVERY)
        self._times.write(line.tobytes())


def play(
    stream: Stream, patch: Patch, seed: int, recorder: Recorder, stop: list[int], drain_s: float
) -> None:
    """Stream in open loop until told to stop, then end.

    Raises:
        QdecError: as the stream's methods.
    """
    source = patch.source(seed)
    begun = time.monotonic()
    due = 0
    while not stop:
        now = time.monotonic()
        behind = (now - begun) * 1e6 / patch.cycle_us - due
        if behind < patch.frame:
            recorder.take(stream, (patch.frame - behind) * patch.cycle_us * 1e-6)
            continue
        if stream.pending > _MOST_HELD:
            begun += behind * patch.cycle_us * 1e-6
            recorder.take(stream, 0.01)
            continue
        stream.send(source.next(patch.frame))
        due += patch.frame
        recorder.take(stream, 0.0)
    rest = source.end()
    if rest is not None:
        stream.send(rest, last=patch.endless)
    give_up = time.monotonic() + drain_s
    while stream.committed < stream.sent_until and time.monotonic() < give_up:
        recorder.take(stream, 0.05)


def main() -> None:
    """Be a client; argument: one JSON object."""
    job: dict[str, Any] = json.loads(sys.argv[1])
    patch = Patch(**{**job["patch"], "lanes": tuple(job["patch"]["lanes"])})
    folder = Path(job["folder"])
    stop: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda caught, _frame: stop.append(caught))
    events: list[str] = []
    report: dict[str, Any] = {"error": "", "rounds": 0, "resumes": 0, "events": events}
    recorder = Recorder(folder, patch.name)
    stream = None
    try:
        stream = open_stream(job["endpoint"], patch.name, raw=patch.raw, patience=_PATIENCE)

        def note(line: str) -> None:
            if len(events) < _MOST_EVENTS:
                events.append(f"{time.monotonic():.3f} {line}")

        stream.on_event = note
        (folder / f"{patch.name}.open").write_text(
            json.dumps({"frame": stream.info.frame_bytes, "seam": stream.info.seam_bytes})
        )
        play(stream, patch, job["seed"], recorder, stop, job["drain_s"])
    except QdecError as error:
        report["error"] = f"{type(error).__name__}: {error}"
    except Exception as error:
        report["error"] = f"{type(error).__name__}: {error}"
        raise
    finally:
        if stream is not None:
            report |= {"rounds": stream.sent_until, "resumes": stream.resumes}
            stream.close(wait=not report["error"])
        path = folder / f"{patch.name}.json"
        path.with_suffix(".part").write_text(json.dumps(report))
        path.with_suffix(".part").rename(path)


def job(patch: Patch, endpoint: str, seed: int, folder: Path, drain_s: float) -> list[str]:
    """The command that runs a client."""
    told = {
        "patch": asdict(patch),
        "endpoint": endpoint,
        "seed": seed,
        "folder": str(folder),
        "drain_s": drain_s,
    }
    return [sys.executable, "-m", "qdec_tools.chaos.client", json.dumps(told)]


if __name__ == "__main__":
    main()
