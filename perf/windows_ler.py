"""Logical error rate of sliding windows beside global matching, on the same shots.

Paired: each shot is decoded both ways, so the difference has a far smaller error than either rate.
Writes perf/results/windows_ler.json.
"""

from __future__ import annotations

import argparse
import json
import math
import time

import pymatching
from common import RESULTS, machine, show
from rich.progress import track

from qdec.codes import Code
from qdec.match import Tier
from qdec.match.offline import decode_shots
from qdec.windows import Geometry
from qdec_tools.circuits import memory

# distance: (rounds, noise, shots); the rounds are those of the design's prototype.
PLAN = {3: (30, 0.003, 400_000), 5: (50, 0.003, 400_000), 7: (70, 0.003, 120_000)}
PLAN[9] = (90, 0.003, 60_000)
BATCH = 10_000


def measure(d: int, scale: float) -> dict[str, object]:
    rounds, p, shots = PLAN[d]
    shots = max(BATCH, int(shots * scale) // BATCH * BATCH)
    circuit = memory(d, rounds, p)
    code = Code.from_circuit(circuit)
    matching = pymatching.Matching.from_detector_error_model(code.dem)
    sampler = circuit.compile_detector_sampler(seed=d)
    both = only_global = only_windowed = 0
    t_global = t_windowed = 0.0
    for _ in track(range(shots // BATCH), description=f"d={d}", transient=True):
        dets, obs = sampler.sample(BATCH, separate_observables=True, bit_packed=True)
        t0 = time.process_time()
        globally = matching.decode_batch(dets, bit_packed_shots=True, bit_packed_predictions=True)
        t1 = time.process_time()
        windowed, _ = decode_shots(
            code, Tier.MATCHING, Geometry(2 * d, d), code.layout.to_records(dets)
        )
        t_windowed += time.process_time() - t1
        t_global += t1 - t0
        g, w = (globally != obs).any(axis=1), (windowed != obs).any(axis=1)
        both += int((g & w).sum())
        only_global += int((g & ~w).sum())
        only_windowed += int((w & ~g).sum())
    # McNemar: under equality the discordant shots split evenly.
    discordant = only_global + only_windowed
    return {
        "d": d,
        "r": rounds,
        "p": p,
        "windows": f"{2 * d},{d}",
        "shots": shots,
        "global": both + only_global,
        "windowed": both + only_windowed,
        "only global": only_global,
        "only windowed": only_windowed,
        "LER global": (both + only_global) / shots,
        "LER windowed": (both + only_windowed) / shots,
        "sigma": (only_windowed - only_global) / math.sqrt(discordant) if discordant else 0.0,
        "CPU ratio": t_windowed / t_global,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the shots")
    o = parser.parse_args()
    rows = [measure(d, o.scale) for d in PLAN]
    show("LER: windows W=2d, C=d against global matching", rows)
    if o.scale == 1.0:
        out = {**machine(), "noise": "uniform circuit, rotated_memory_z", "rows": rows}
        (RESULTS / "windows_ler.json").write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
