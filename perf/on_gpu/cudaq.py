"""Section `cudaq`: the setting of CUDA-Q QEC's realtime pipeline demo, end to end through sockets.

Whole shots of d = 13, T = 104 at p = .003, one per 104 µs, from a client to a real service (TCP on
loopback), and at 500 per second, which they quote too. *lane*: from the shot's last byte in the
lane to its commit; their times have no sockets, so a bare ZeroMQ echo of the same sizes stands
beside. Theirs on a GB200 with 8 streams and 16 processes for matching: p50 335 to 352 µs and p99
1,213 to 1,249 µs at one per 104 µs; 204 and 363 µs at 500 per second. Untrained weights correct
nothing, so that matching has the whole syndrome: bring a trained file with `--fast`.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from common import cpu_ns, lane_processes
from latency import quantiles as histogram_us
from latency import round_trips

from on_gpu.cases import FAST, SPEED, Case, circuit, samples, write_weights
from on_gpu.section import Given
from qdec.bits import Bytes
from qdec.client import Commits, open_stream, service_status
from qdec.codes import Code
from qdec.commit import Flag
from qdec_tools.qpu import Qpu
from qdec_tools.service import Service, running_service

CASE = Case(FAST, 13, 104)
PACES = ((2000.0, 5.0), (104.0, 20.0))  # µs per request, seconds
# Matching alone does not keep up with the last pace, and is waited for.
UNTRAINED_S = 6.0
DEADLINE_US = 4000
SHOTS = 1024
_COMMIT_BYTES = 300
_SERVES_S = 60.0


class Repeated:
    """Shots that were sampled before, over and over: see `qdec_tools.sources.Source`."""

    def __init__(self, records: Bytes, truth: Bytes, rounds: int) -> None:
        """From shots ``(n, bytes)`` of so many rounds, and their observables."""
        self._rows = records.reshape(len(records) * rounds, -1)
        self._truth = [row.tobytes() for row in truth]
        self._rounds = rounds
        self._at = self._seen = 0
        self.errors = self.checked = 0

    def next(self, count: int) -> Bytes:
        """Rounds up to the end of the last shot that was sampled."""
        begin = self._at % len(self._rows)
        part = self._rows[begin : begin + count]
        self._at += len(part)
        return part

    def close(self) -> Bytes | None:
        """The rest of the shot that has begun."""
        within = self._at % self._rounds
        return self.next(self._rounds - within) if within else None

    def check(self, commits: Commits) -> None:
        """Compare the frames of shots that end with the truth."""
        for row in commits[(commits["flags"] & int(Flag.SHOT_END)) != 0]:
            self.errors += row["frame"].tobytes() != self._truth[self._seen % len(self._truth)]
            self._seen += 1
            self.checked += 1

    def forget(self) -> None:
        """Count from here on."""
        self.errors = self.checked = 0

    @property
    def shots(self) -> int:
        """Sent so far."""
        return self._at // self._rounds

    @property
    def rate(self) -> float:
        """Logical errors per shot."""
        return self.errors / self.checked if self.checked else float("nan")


def tables(case: Case, code: Path, model: Path | None, engine: str) -> str:
    """Of the configuration: the stream, and what answers it."""
    named = "" if model is None else f"model = {json.dumps(str(model))}\n"
    tier = "speed" if case.model == SPEED else "ising"
    return (
        f'[[stream]]\nname = "s"\ncode = {json.dumps(str(code))}\ndistance = {case.distance}\n'
        f'windows = "whole"\ndeadline_us = {DEADLINE_US}\ntier = "{tier}"\n{named}'
        f'[accelerator]\nengine = "{engine}"\nbatch = 64\n'
    )


def run(given: Given) -> None:
    """See the module."""
    case = Case(FAST, int(given.setting("distance", 13)), int(given.setting("rounds", 104)))
    given.tried(case, lambda: measure(given, case))


def measure(given: Given, case: Case) -> None:
    """A row for each pace."""
    text = str(circuit(case))
    code = Code.parse("circuit", text)
    shots, truth = samples(case, code, SHOTS)
    with tempfile.TemporaryDirectory() as folder:
        path, model = Path(folder) / "code.stim", Path(folder) / "fast.safetensors"
        path.write_text(text)
        write_weights(model, given.models.weights(case.model))
        said = tables(case, path, model, given.lab.engine)
        with running_service(transport="tcp", tables=said, ready_s=90) as service:
            _wait_until_it_serves(service)
            for every_us, seconds in PACES:
                if FAST not in given.models.files:
                    seconds = min(seconds, UNTRAINED_S)
                seconds = given.setting("seconds", seconds)
                if given.budget.left < seconds:
                    given.emit({"us/request": every_us, "note": "no time was left"})
                    continue
                source = Repeated(shots, truth, case.rounds + 1)
                given.emit(
                    {
                        **case.columns,
                        "weights": given.models.said(case.model),
                        "by": _networks_run_in(service),
                        **_paced(service, source, case, every_us, seconds),
                    }
                )


def _paced(
    service: Service, source: Repeated, case: Case, every_us: float, seconds: float
) -> dict[str, object]:
    rounds = case.rounds + 1
    past = service_status(service.endpoint)
    with open_stream(service.endpoint, "s") as stream:
        pid = lane_processes(service.pid)[0].pid
        before = cpu_ns(pid)
        report = Qpu(stream, source, lambda _r: None).run(every_us / rounds, seconds, rounds)
        cpu = (cpu_ns(pid) - before) / 1e3 / max(1, report.windows)
        status = service_status(service.endpoint)
        size = rounds * stream.info.record_bytes
    lane, there = (since(status[one], past[one]) for one in ("window", "accelerator"))
    echoed = round_trips(size, _COMMIT_BYTES, every_us, min(3.0, seconds / 3))
    wanted = "speed" if case.model == SPEED else "ising"
    return {
        "us/request": every_us,
        "s": seconds,
        "sent": source.shots,
        "lost": source.shots - report.windows,
        "late": report.late,
        "fallbacks": report.windows - report.tiers.get(wanted, 0),
        "lane us p50": lane[0],
        "lane us p99": lane[1],
        "accelerator us p50": there[0],
        "accelerator us p99": there[1],
        "client us p50": report.client_us["p50"],
        "client us p99": report.client_us["p99"],
        "echo us p50": float(np.quantile(echoed, 0.5)),
        "echo us p99": float(np.quantile(echoed, 0.99)),
        "lane CPU us": cpu,
        "client stalled s": report.stalled_s,
        "LER": report.error_rate,
    }


def since(now: Mapping[str, int], before: Mapping[str, int]) -> tuple[float, float]:
    """p50 and p99 in µs of what a histogram of STATUS_REPLY has counted meanwhile."""
    return histogram_us({one: count - before.get(one, 0) for one, count in now.items()})


def _wait_until_it_serves(service: Service) -> None:
    give_up = time.monotonic() + _SERVES_S
    while "kinds of windows" not in service.log.read_text():
        if time.monotonic() > give_up:
            raise TimeoutError(f"the accelerator does not serve: {service.log.read_text()[-300:]}")
        time.sleep(0.05)


def _networks_run_in(service: Service) -> str:
    """What the accelerator says of its engine, and whether it calls it one batch at a time."""
    log = service.log.read_text()
    said = log.rpartition("networks run in ")[2].splitlines() or ["?"]
    held = ", no graphs" if "is called one batch at a time" in log else ""
    return said[0] + held
