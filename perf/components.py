"""What share of a soft tier's windows a GPU can answer, and what comes back of the others.

Runs the reference in NumPy of the kernel `components`, which tests hold the kernel to bit by bit,
on whole shots and on the first windows of streams, W = 2d and C = d, with the log-odds of a shipped
network. Shares and bytes are those of the samples; nothing here says what a GPU takes.

*could be*: windows that need no second look, so that their gap is large enough. *matching*, *gap*:
CPU time here of what the processor does where log-odds come back; *gap below* is the gap
where only small ones are wanted.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from common import show

from qdec.accelerator.component_tables import component_table
from qdec.codes import Code
from qdec.cuda.component_plan import ComponentPlan
from qdec.cuda.component_reference import components
from qdec.cuda.record import HEAD, OddsRecord
from qdec.match import Tier
from qdec.match.soft import SoftWindow, soft_window
from qdec.neural.folded_model import FoldedModel, shipped_model
from qdec.windows import Window
from qdec_tools.circuits import memory

BATCH = 64
# That as many windows would take whose likely edges came back as (number, log-odds).
_CANDIDATE, _CUT = 8, 8.0


def measure(tier: Tier, distance: int, noise: float, shots: int, *, stream: bool) -> dict[str, Any]:
    """A row."""
    rounds = 3 * distance if stream else distance
    circuit = memory(distance, rounds, noise)
    code = Code.from_circuit(circuit)
    window = Window(0, rounds + 1, rounds + 1, rounds + 1)
    if stream:
        window = Window(0, 2 * distance, distance, None)
    model = FoldedModel(shipped_model(tier.name.lower()).network, precision="fp32")
    decoder = soft_window(code, tier, window, model)
    assert isinstance(decoder, SoftWindow)
    gap_of, table = decoder.gap, component_table(decoder)
    assert gap_of is not None
    assert table is not None
    record, judged = ComponentPlan(table).record, OddsRecord(table.edges)
    events = circuit.compile_detector_sampler(seed=7).sample(shots, bit_packed=True)
    records = code.layout.to_records(events)[:, window.start : window.end]
    windows = np.ascontiguousarray(records).reshape(shots, -1)
    parts = [windows[at : at + BATCH] for at in range(0, shots, BATCH)]
    odds = np.concatenate([decoder.log_odds(part) for part in parts])
    given = np.zeros((shots, judged.size), dtype=np.uint8)
    judged.read(given)[1][:] = odds
    _, found, answers, _ = record.read(components(table, windows, given))
    settled = found["settled"] == 1

    matching_us, matched = _timed(lambda: decoder.matcher.decode(odds, windows), shots)
    gap_us, gap = _timed(lambda: gap_of.measure(odds, windows), shots)
    _, chosen = decoder.matcher.solve(odds, windows)
    bound = decoder.apart
    proof_us, proved = _timed(lambda: gap_of.below(odds, windows, chosen, bound), shots)
    assert ((proved < bound) == (gap < bound)).all()
    assert (answers[settled] == matched.bits[settled]).all(), "the least weight"
    assert (gap[settled] >= decoder.apart).all(), "nothing that would be looked at again"
    left = float((~settled).mean())
    return {
        "tier": tier.name.lower(),
        "window": "2d" if stream else "whole",
        "d": distance,
        "p": noise,
        "edges": table.edges,
        "nothing to match %": 100 * float((found["events"] == 0).mean()),
        "settled %": 100 * (1 - left),
        "could be %": 100 * float((gap >= decoder.apart).mean()),
        "kB of 64": BATCH * (record.short + left * (judged.size - HEAD.itemsize)) / 1e3,
        "all odds, kB": BATCH * judged.size / 1e3,
        "odds above -8, kB": BATCH * _CANDIDATE * (np.abs(odds) < _CUT).sum() / shots / 1e3,
        "matching us": matching_us,
        "gap us": gap_us,
        "gap below us": proof_us,
    }


def _timed(work: Callable[[], Any], shots: int) -> tuple[float, Any]:
    """µs of this thread per window, the better of two times, and what came out."""
    taken = []
    for _ in range(2):
        started = time.thread_time()
        out = work()
        taken.append(time.thread_time() - started)
    return 1e6 * min(taken) / shots, out


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tier", choices=["speed", "accuracy"], default="speed")
    parser.add_argument("--distances", default="5,7,9,13")
    parser.add_argument("--noise", default="0.003,0.006")
    parser.add_argument("--shots", type=int, default=256, help="windows of each kind")
    parser.add_argument("--save", action="store_true", help="keep results/components.json")
    o = parser.parse_args()
    rows = [
        measure(Tier[o.tier.upper()], int(d), float(p), o.shots, stream=stream)
        for stream in (False, True)
        for d in o.distances.split(",")
        for p in o.noise.split(",")
    ]
    title = "Soft windows that a GPU can answer (counted with the kernel's reference, not on a GPU)"
    show(title, rows, save="components" if o.save else "")


if __name__ == "__main__":
    main()
