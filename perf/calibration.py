"""Does the fit engine know what it knows? Seeded synthetic experiments of every kind.

Per kind: experiments with a signal, without one, and odd ones (periods longer than the sweep,
folded frequencies, decays far beyond it, lines outside or two of them, a saturated readout).
`held` is the share of the truths within their 95 % intervals, over all signals for which an
interval came back; `none` the share of traces without a signal that were called so; `wrong` the
share of all verdicts "reliable" that were wrong: no signal, or a truth outside of the interval made
twice as wide. With --save, writes results/calibration.json.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from typing import Any

import numpy as np
from common import show
from experiments import SORTS, Made, holds, make, true_fidelity
from rich.progress import track

from qdec.calibration import Kind, Response
from qdec.calibration.fit import FitEngine
from qdec.calibration.response import Fit
from qdec.calibration.units import convert

ENGINE = FitEngine()
TURN = 2 * np.pi


def compare(made: Made, response: Response, widened: float = 1.0) -> dict[str, bool]:
    """Per name of a truth: does the interval that came back hold it?"""
    assert response.fit is not None
    estimates = {e.name: e for e in response.fit.estimates}
    if made.request.experiment.kind is Kind.READOUT:
        true = true_fidelity(made.truth, estimates["angle"].value, estimates["threshold"].value)
        return {"assignment_fidelity": holds(estimates["assignment_fidelity"], true, widened)}
    held = {}
    for name, truth in made.truth.items():
        if name not in estimates:
            continue
        estimate = estimates[name]
        if estimate.unit == "rad":
            truth += TURN * round((estimate.value - truth) / TURN)
        elif estimate.unit == "Hz":
            truth = convert(truth, "Hz", estimate.unit)
        held[name] = holds(estimate, truth, widened)
    return held


def measure(kind: Kind, counts: dict[str, int], seed: int) -> dict[str, Any]:
    """Run the experiments of one kind."""
    held: dict[str, list[bool]] = {}
    of_reliable: list[bool] = []
    verdicts: dict[str, Counter[Fit]] = {sort: Counter() for sort in SORTS}
    wrong: list[str] = []
    false: Counter[str] = Counter()
    spent = 0.0
    for sort in SORTS:
        for i in track(range(counts[sort]), description=f"{kind.value} {sort}", transient=True):
            made = make(kind, sort, seed + i)
            began = time.process_time()
            response = ENGINE.answer(made.request, 0.0)
            spent += time.process_time() - began
            fit = response.verdict.fit
            verdicts[sort][fit] += 1
            if sort == "signal":
                for name, good in compare(made, response).items():
                    held.setdefault(name, []).append(good)
                    of_reliable += [good] if fit is Fit.RELIABLE else []
                if fit is Fit.UNRELIABLE:
                    false.update(response.verdict.reasons)
            if fit is Fit.RELIABLE and (
                sort == "none" or not all(compare(made, response, 2.0).values())
            ):
                wrong.append(f"{sort}{made.oddity and ' ' + made.oddity} {seed + i}")
    signal = verdicts["signal"]
    reliable = sum(v[Fit.RELIABLE] for v in verdicts.values())
    return {
        "kind": kind.value,
        "held": " ".join(f"{n} {np.mean(h):.3f}" for n, h in held.items()),
        "held if reliable": float(np.mean(of_reliable)) if of_reliable else float("nan"),
        "signals reliable": signal[Fit.RELIABLE] / max(1, signal.total()),
        "none": verdicts["none"][Fit.NONE] / max(1, verdicts["none"].total()),
        "odd reliable": verdicts["odd"][Fit.RELIABLE] / max(1, verdicts["odd"].total()),
        "wrong": len(wrong) / max(1, reliable),
        "ms": spent / sum(counts.values()) * 1e3,
        "intervals": {n: [float(np.mean(h)), len(h)] for n, h in held.items()},
        "mistakes": wrong[:20],
        "doubts": dict(false.most_common(5)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiments", type=int, default=600, help="with a signal, per kind")
    parser.add_argument("--none", type=int, default=300, help="without one")
    parser.add_argument("--odd", type=int, default=100, help="odd ones")
    parser.add_argument("--kinds", default=",".join(k.value for k in Kind))
    parser.add_argument("--seed", type=int, default=1_000_000)
    parser.add_argument("--save", action="store_true", help="keep results/calibration.json")
    parser.add_argument("--doubts", action="store_true", help="print mistakes and doubts, too")
    o = parser.parse_args()
    counts = {"signal": o.experiments, "none": o.none, "odd": o.odd}
    hidden = ("intervals", "mistakes", "doubts")
    rows = []
    for word in o.kinds.split(","):
        rows.append(measure(Kind(word), counts, o.seed))
        if o.doubts:
            print(rows[-1], flush=True)
    table = [{k: v for k, v in row.items() if k not in hidden} for row in rows]
    save = "calibration" if o.save else ""
    show("Calibration fits", table, save=save, counts=counts, seed=o.seed, details=rows)


if __name__ == "__main__":
    main()
