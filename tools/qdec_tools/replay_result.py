"""What a replay found: counted as commits come in, shown as a table or as JSON."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from qdec.bits import Bytes
from qdec.bus.wire import OpenedBody
from qdec.client import Commits
from qdec.commit import Flag
from qdec.errors import DataError, ServiceUnavailable
from qdec_tools.histogram import Latencies
from qdec_tools.recording import Recording
from qdec_tools.statistics import interval

# Frames are compared with the files so many at a time.
_COMPARE_SHOTS = 4096
_COUNTED = (Flag.LATE, Flag.INFEASIBLE, Flag.ERASURE, Flag.FENCED, Flag.UNCERTAIN)


class Tally:
    """Counts over a replay; memory does not grow with its length.

    Attributes:
        recording: what is replayed.
        wanted: shots to replay.
        shots: shots answered.
        windows: windows answered.
        failures: shots with any observable wrong; None where the truth is not known.
        agreement: shots answered as each prediction file has them.
        flags: windows by flag.
        lane: last byte in the lane -> commit encoded.
        client: `Stream.send` -> commit received here.
        seconds: from the first round to the last commit.
        info: what the lane agreed to.
        notes: what a person should know.
    """

    info: OpenedBody

    def __init__(self, recording: Recording, wanted: int) -> None:
        """Start at the first shot."""
        self.recording = recording
        self.wanted = wanted
        self.shots = 0
        self.windows = 0
        self.failures = None if recording.truth is None else 0
        self.predictions = dict(recording.predictions)
        self.agreement = dict.fromkeys(self.predictions, 0)
        self.flags: dict[Flag, int] = dict.fromkeys(_COUNTED, 0)
        self.lane = Latencies()
        self.client = Latencies()
        self.seconds = 0.0
        self.notes = list(recording.notes)
        self._waiting: list[Commits] = []
        self._held = 0
        self._compared = 0

    def opened(self, info: OpenedBody) -> None:
        """Note what the lane agreed to."""
        self.info = info
        self.notes += info.notes

    def event(self, line: str) -> None:
        """Note something out of the ordinary, once."""
        if line not in self.notes:
            self.notes.append(line)

    def add(self, commits: list[Commits]) -> None:
        """Take commits as they have just arrived."""
        now = time.monotonic_ns()
        for rows in commits:
            self.client.add_many(now - rows["t_send"].astype(np.int64))
            self.shots += int(np.count_nonzero(rows["flags"] & Flag.SHOT_END))
            self.windows += len(rows)
            self._held += len(rows)
        self._waiting += commits
        if self._held >= _COMPARE_SHOTS:
            self._compare()

    def finish(self, seconds: float) -> None:
        """Count what is left.

        Raises:
            ServiceUnavailable: the answers are not those of the shots.
        """
        self._compare()
        self.seconds = seconds
        if self.shots != self.wanted:
            raise ServiceUnavailable(f"{self.shots} shots were answered, not {self.wanted}")

    def _compare(self) -> None:
        if not self._waiting:
            return
        rows = np.concatenate(self._waiting)
        self._waiting, self._held = [], 0
        self.lane.add_many(rows["latency_ns"])
        for flag in self.flags:
            self.flags[flag] += int(np.count_nonzero(rows["flags"] & flag))
        frames: Bytes = rows["frame"][(rows["flags"] & Flag.SHOT_END) != 0]
        start, stop = self._compared, self._compared + len(frames)
        self._compared = stop
        truth = self.recording.truth
        if truth is not None and self.failures is not None:
            self.failures += int((frames != truth.read(start, stop)).any(axis=1).sum())
        for name, file in list(self.predictions.items()):
            try:
                self.agreement[name] += int((frames == file.read(start, stop)).all(axis=1).sum())
            except DataError as error:
                del self.predictions[name], self.agreement[name]
                self.notes.append(f"not compared: {error}")

    @property
    def geometry(self) -> str:
        """``whole`` or ``W,C``, as agreed."""
        return f"{self.info.window},{self.info.commit}" if self.info.window else "whole"


def as_json(tally: Tally) -> dict[str, Any]:
    """The object that scripts read; its keys are part of the interface."""
    return {
        "shots": tally.shots,
        "failures": tally.failures,
        "ler": None if tally.failures is None else tally.failures / tally.shots,
        "tier": tally.info.tier,
        "windows": tally.geometry,
        "agreement": tally.agreement,
        "latency_us": tally.lane.summary_us(),
    }


def table(tally: Tally) -> Table:
    """Everything, for a person."""
    title = f"Replay of {escape(tally.recording.name)}"
    out = Table(title=title, title_justify="left", show_header=False)
    out.add_column(style="bold", no_wrap=True)
    out.add_column(overflow="fold")
    for name, value in _rows(tally):
        out.add_row(escape(name), escape(value))
    return out


def _rows(tally: Tally) -> list[tuple[str, str]]:
    info = tally.info
    rate = tally.shots / max(tally.seconds, 1e-9)
    content = "measurements" if tally.recording.raw else "detectors"
    rows = [("shots", f"{tally.shots:,} in {tally.seconds:.2f} s ({rate:,.0f} shots/s)")]
    if tally.failures is None:
        rows.append(("failures", "not known: there is no file of actual flips (see --obs)"))
    else:
        low, high = interval(tally.failures, tally.shots)
        ler = tally.failures / tally.shots
        rows.append(("failures", f"{tally.failures:,}"))
        rows.append(("LER per shot", f"{ler:.5g}, 95 % interval {low:.5g} to {high:.5g}"))
    rows += [
        ("tier", info.tier),
        ("windows", f"{tally.geometry} ({tally.windows:,} answered)"),
        ("rounds per shot", f"{info.shot_rounds}, of {content}"),
        ("observables", str(info.observables)),
    ]
    if tally.agreement:
        rows.append(("equal shots", _agreement(tally)))
    rows += [
        ("lane latency, µs", _latency(tally.lane)),
        ("client latency, µs", _latency(tally.client)),
    ]
    counted = ", ".join(f"{n:,} {flag.name}" for flag, n in tally.flags.items() if n)
    rows.append(("flagged windows", counted or "none"))
    rows += [("note", note) for note in tally.notes]
    return rows


def _agreement(tally: Tally) -> str:
    return "\n".join(
        f"{equal:,} of {tally.shots:,} as in {name}" for name, equal in tally.agreement.items()
    )


def _latency(latencies: Latencies) -> str:
    names = {"p50": "p50", "p99": "p99", "p99_9": "p99.9", "max": "max"}
    return "  ".join(f"{names[k]} {v:,.1f}" for k, v in latencies.summary_us().items())
