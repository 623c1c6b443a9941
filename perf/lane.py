"""CPU time of a lane per round, sockets included, beside PyMatching on whole shots, in one run.

A real service over TCP is fed rounds sampled beforehand, as fast as its credits allow; all CPU time
of the lane's process counts: receiving, checking, windows, matching, commits, ZeroMQ's own thread,
the kernel's part of the socket calls. Beside it, alternating in the same run, `decode_batch` takes
whole shots of 1,000 rounds in this process. Both bases are decoded by either.

Goals: at most 2 times at d=5 and 1.7 times at d=9; 1.3 is the aim. Rows with a smaller r are finite
shots of r rounds, for which `decode_batch` gets up to 1,000 shots per call.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import pymatching
import stim
from common import cpu_ns, lane_processes, show

from qdec.bits import Bytes
from qdec.client import CodeText, Stream, open_stream
from qdec.codes import Code
from qdec_tools.circuits import memory
from qdec_tools.sampler import EndlessSampler
from qdec_tools.service import running_service

SHOT = 1000
SHOTS_PER_FRAME = 64


def template(d: int, p: float) -> stim.Circuit:
    return memory(d, 2 * d + 4, p)


def endless(d: int, p: float, rounds: int) -> tuple[Code, Bytes]:
    code = Code.from_circuit(template(d, p))
    sampler = EndlessSampler(code, 1, track=False)
    return code, np.concatenate([sampler.next(1000).copy() for _ in range(rounds // 1000)])


def feed(stream: Stream, records: Bytes, frame: int) -> None:
    """Send everything, as credits allow, and wait until all but the open window is committed."""
    window = stream.info.window or stream.info.shot_rounds
    done = stream.sent_until + len(records) - 2 * window
    for at in range(0, len(records), frame):
        stream.send(records[at : at + frame])
        while stream.unsent > 4096:
            stream.poll(0.01)
    while stream.committed < done:
        stream.poll(0.01)


class Peer:
    """`decode_batch` on whole shots."""

    def __init__(self, circuit: stim.Circuit, shots: int) -> None:
        """Sample so many shots of a circuit."""
        model = circuit.detector_error_model(decompose_errors=True)
        self._matching = pymatching.Matching.from_detector_error_model(model)
        sampler = circuit.compile_detector_sampler(seed=1)
        self._shots, _ = sampler.sample(shots, separate_observables=True, bit_packed=True)

    def us_per_shot(self) -> float:
        """CPU time of one call for all of them, per shot."""
        started = time.process_time()
        self._matching.decode_batch(self._shots, bit_packed_shots=True, bit_packed_predictions=True)
        return (time.process_time() - started) / len(self._shots) * 1e6


def compare(
    row: dict[str, object],
    stream: Stream,
    pid: int,
    peer: Peer,
    data: list[Bytes],
    frame: int,
    rounds_per_shot: int,
) -> dict[str, object]:
    """Alternate the two; medians, and the median of the ratios of neighbours."""
    feed(stream, data[0], frame)
    peer.us_per_shot()
    ours, theirs = [], []
    for part in data[1:]:
        before = cpu_ns(pid)
        feed(stream, part, frame)
        ours.append((cpu_ns(pid) - before) / len(part) / 1e3)
        theirs.append(peer.us_per_shot() / rounds_per_shot)
    return {
        **row,
        "lane us/round": statistics.median(ours),
        "decode_batch us/round": statistics.median(theirs),
        "ratio": statistics.median(a / b for a, b in zip(ours, theirs, strict=True)),
        "ratio min": min(a / b for a, b in zip(ours, theirs, strict=True)),
        "ratio max": max(a / b for a, b in zip(ours, theirs, strict=True)),
    }


def long_streams(
    d: int, p: float, windows: str, frames: list[int], rounds: int, repeats: int
) -> list[dict[str, object]]:
    text = str(template(d, p))
    _, records = endless(d, p, rounds)
    peer = Peer(memory(d, SHOT - 1, p), max(2, rounds // repeats // SHOT))
    rows = []
    for frame in frames:
        with (
            running_service(transport="tcp") as service,
            open_stream(
                service.endpoint,
                "bench",
                code=CodeText("circuit", text),
                endless=True,
                windows=windows,
            ) as stream,
        ):
            info = stream.info
            row = {"d": d, "r": SHOT, "windows": f"{info.window},{info.commit}"}
            pid = lane_processes(service.pid)[0].pid
            data = np.array_split(records, repeats + 1)
            rows.append(
                compare({**row, "rounds/message": frame}, stream, pid, peer, data, frame, SHOT)
            )
    return rows


def shots_of(d: int, r: int, p: float, rounds: int, repeats: int) -> dict[str, object]:
    """Finite shots of r rounds, as many per message as make some 400 rounds."""
    circuit = memory(d, r, p)
    code = Code.from_circuit(circuit)
    length = code.spacetime.rounds
    per_frame = max(1, min(SHOTS_PER_FRAME, 400 // length))
    shots = max(per_frame, rounds // length // (repeats + 1))
    sampler = circuit.compile_detector_sampler(seed=2)
    peer = Peer(circuit, max(10, min(1000, 20_000 // r)))
    with (
        running_service(transport="tcp") as service,
        open_stream(service.endpoint, "bench", code=CodeText("circuit", str(circuit))) as stream,
    ):
        pid = lane_processes(service.pid)[0].pid
        data = []
        for _ in range(repeats + 1):
            records = code.layout.to_records(sampler.sample(shots, bit_packed=True))
            data.append(np.ascontiguousarray(records.reshape(-1, records.shape[-1])))
        info = stream.info
        windows = f"{info.window},{info.commit}" if info.window else "whole"
        row: dict[str, object] = {"d": d, "r": r, "windows": windows}
        frame = per_frame * length
        # A shot of r rounds has r + 1 rounds of detectors; either side is charged for those.
        return compare({**row, "rounds/message": frame}, stream, pid, peer, data, frame, length)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--distances", default="3,5,7,9")
    parser.add_argument("--noise", type=float, default=0.003)
    parser.add_argument("--windows", default="auto")
    parser.add_argument("--frames", default="100,400", help="rounds per message, to try in turn")
    parser.add_argument("--rounds", type=int, default=1_000_000, help="at d=5, in all")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--shots", default="d", help="rounds of finite shots, too: d, or numbers")
    parser.add_argument("--short", action="store_true", help="d=5 only, a fifth of the rounds")
    parser.add_argument("--save", default="", metavar="NAME", help="as results/NAME.json")
    o = parser.parse_args()
    distances = [5] if o.short else [int(d) for d in o.distances.split(",")]
    frames = [int(f) for f in o.frames.split(",")]
    rows = []
    for d in distances:
        rounds = int(o.rounds * (5 / max(5, d)) ** 2) // (5 if o.short else 1)
        rounds = max(200_000, rounds) // 1000 * 1000
        rows += long_streams(d, o.noise, o.windows, frames, rounds, o.repeats)
        for r in o.shots.split(","):
            rows.append(shots_of(d, d if r == "d" else int(r), o.noise, rounds // 4, o.repeats))
    show(
        "lane CPU per round, sockets included",
        rows,
        save=o.save,
        noise=o.noise,
        transport="tcp",
    )


if __name__ == "__main__":
    main()
