"""CPU time of a lane per round, beside PyMatching on whole shots, in one run.

Goal: everything a lane does for a round (parse, check, window, decode, commit; no sockets here)
in at most 1.5 times what `pymatching.decode_batch` needs for the same rounds as whole shots of
1,000. Alternates the two, takes medians: the machine may be shared.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import pymatching
from common import show

from qdec.bus.wire import Open, OpenBody, Opened, Rounds, decode_from_lane, encode
from qdec.codes import Code
from qdec.config import Config, LaneConfig, ServiceSection
from qdec.lane.core import LaneCore
from qdec.lane.library import Library
from qdec_tools.circuits import memory
from qdec_tools.sampler import EndlessSampler

ROUNDS = 100_000
SHOT = 1000
PEER = b"peer"


def lane_for(text: str, windows: str) -> tuple[LaneCore, Opened]:
    config = Config(
        service=ServiceSection(state_dir=Path("unused")),
        lane=(LaneConfig(endpoints=("ipc:///unused",)),),
    )
    core = LaneCore(config, 0, bytes(32), Library())
    body = OpenBody(stream="s", code="circuit", endless=True, windows=windows)
    core.receive(PEER, [encode(Open(1, body, False)), text.encode()])
    opened = decode_from_lane(core.outbox.pop()[1][0])
    if not isinstance(opened, Opened):
        raise SystemExit(f"not opened: {opened}")
    return core, opened


def cpu_of_lane(core: LaneCore, messages: list[list[bytes]]) -> float:
    started = time.process_time()
    for message in messages:
        core.receive(PEER, message)
        while core.work():
            pass
        core.outbox.clear()
    return time.process_time() - started


def measure(d: int, p: float, windows: str, frame: int, repeats: int) -> dict[str, object]:
    circuit = memory(d, 12, p)
    code = Code.from_circuit(circuit)
    core, opened = lane_for(str(circuit), windows)
    sampler = EndlessSampler(code, 1, track=False)
    whole = memory(d, SHOT - 1, p)
    matching = pymatching.Matching.from_detector_error_model(
        whole.detector_error_model(decompose_errors=True)
    )
    shots, _ = whole.compile_detector_sampler(seed=1).sample(
        max(1, ROUNDS // SHOT // 4), separate_observables=True, bit_packed=True
    )
    matching.decode_batch(shots[:1], bit_packed_shots=True)
    ours, theirs, at, seq = [], [], 0, 0
    for _ in range(repeats):
        messages = []
        for _ in range(ROUNDS // repeats // frame):
            header = encode(Rounds(opened.handle, opened.epoch, seq, at, frame, 0, 0))
            messages.append([header, sampler.next(frame).tobytes()])
            at, seq = at + frame, seq + 1
        ours.append(cpu_of_lane(core, messages) / (len(messages) * frame) * 1e6)
        started = time.process_time()
        matching.decode_batch(shots, bit_packed_shots=True, bit_packed_predictions=True)
        theirs.append((time.process_time() - started) / (len(shots) * SHOT) * 1e6)
    body = opened.body
    return {
        "d": d,
        "p": p,
        "windows": f"{body.window},{body.commit}",
        "frame": frame,
        "lane us/round": statistics.median(ours),
        f"decode_batch r={SHOT} us/round": statistics.median(theirs),
        "ratio": statistics.median(a / b for a, b in zip(ours, theirs, strict=True)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--distances", default="3,5,7,9")
    parser.add_argument("--noise", type=float, default=0.003)
    parser.add_argument("--windows", default="auto")
    parser.add_argument("--frame", type=int, default=50, help="rounds per message")
    parser.add_argument("--repeats", type=int, default=5)
    o = parser.parse_args()
    rows = [measure(int(d), o.noise, o.windows, o.frame, o.repeats) for d in o.distances.split(",")]
    show("lane CPU per round, no sockets", rows, rounds=ROUNDS, batch=1)


if __name__ == "__main__":
    main()
