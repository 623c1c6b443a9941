"""The review of unsure windows: how many there are, what it costs, how near it is to the optimum.

For each experiment (whole shots of d rounds, one basis) windows are drawn until enough are unsure:
those whose gap under the `speed` network is small. They are reviewed in batches and one at a time.
On some of them HiGHS finds the likeliest set of faults, which nothing can beat, and, where Google's
`tesseract-decoder` is installed, that search decoder answers as well.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import stim
from common import show
from numpy.typing import NDArray
from rich.progress import track

from qdec.bits import Bytes
from qdec.codes import Code
from qdec.match import Tier, compile_window
from qdec.match.guarded.tables import tabulate
from qdec.match.joint import JointDecoder
from qdec.match.review import JointReview
from qdec.match.soft import SoftWindow
from qdec.match.soft_gap import SoftGap
from qdec.windows import WHOLE, Window
from qdec.windows.cut import cut, cut_closed, merge_parallel
from qdec_tools.circuits import memory
from qdec_tools.optimum import least_weight

AT_ONCE = 64
DRAWN = 4000
BEAM = 15  # of the search
EXACT_UP_TO = 5  # distance: beyond, HiGHS takes many seconds for a window


def measure(d: int, p: float, reviews: int, exact: int) -> dict[str, Any]:
    """One experiment."""
    circuit = memory(d, d, p)
    code = Code.from_circuit(circuit)
    rounds = code.spacetime.rounds
    window = Window(0, rounds, rounds, rounds)
    problem, closed = cut(code.spacetime, window), cut_closed(code.spacetime, window)
    edges = merge_parallel(problem)
    soft = compile_window(code, Tier.SPEED, WHOLE, window)
    correlated = compile_window(code, Tier.CORRELATED, WHOLE, window)
    gap, joint = SoftGap.of(closed, edges), JointDecoder.of(problem, closed, edges)
    assert isinstance(soft, SoftWindow)
    assert gap is not None
    assert joint is not None
    sampler = circuit.compile_detector_sampler(seed=d)
    drawn, found = 0, []
    while sum(len(one[1]) for one in found) < reviews:
        events, flips = sampler.sample(DRAWN, bit_packed=True, separate_observables=True)
        syndromes = code.layout.to_records(events).reshape(DRAWN, -1)
        odds = np.concatenate(
            [soft.log_odds(syndromes[k : k + AT_ONCE]) for k in range(0, DRAWN, AT_ONCE)]
        )
        unsure = gap.measure(odds, syndromes) < JointReview.below
        found.append((odds[unsure], syndromes[unsure], flips[unsure], events[unsure]))
        drawn += DRAWN
    odds, syndromes, flips, events = (np.concatenate(part) for part in zip(*found, strict=True))
    joint.decode(odds[:2], syndromes[:2])  # loads what is compiled

    began = time.process_time()
    batches = [
        joint.decode(odds[k : k + AT_ONCE], syndromes[k : k + AT_ONCE])
        for k in range(0, len(odds), AT_ONCE)
    ]
    batched = (time.process_time() - began) / len(odds)
    alone = []
    for k in range(min(300, len(odds))):
        began = time.process_time()
        joint.decode(odds[k : k + 1], syndromes[k : k + 1])
        alone.append(time.process_time() - began)
    bits = np.concatenate([one.bits for one in batches])
    weight = np.concatenate([one.weight for one in batches])

    frame = flips.shape[1]

    def failed(answers: Bytes) -> NDArray[np.bool_]:
        return np.asarray((answers[:, :frame] != flips[: len(answers)]).any(axis=1))

    row: dict[str, Any] = {
        "d": d,
        "p": p,
        "drawn": drawn,
        "reviewed": len(odds) / drawn,
        "us, batches": 1e6 * batched,
        "us alone, p50": 1e6 * float(np.median(alone)),
        "us alone, p99": 1e6 * float(np.quantile(alone, 0.99)),
        "correlated fails": int(failed(correlated.decode(syndromes).bits).sum()),
        "review fails": int(failed(bits).sum()),
    }
    tables = tabulate(problem)
    tried = min(exact, len(odds)) if d <= EXACT_UP_TO else 0
    least = np.array(
        [least_weight(tables, one) for one in track(syndromes[:tried], transient=True)]
    )
    if tried:
        over = weight[:tried] - least
        row |= {
            "exact": tried,
            "optimal": float((over < 1e-6).mean()),
            "nats over, mean": float(over.mean()),
            "review fails of exact": int(failed(bits[:tried]).sum()),
        }
        row |= searched(circuit, events[:tried], flips[:tried])
    return row


def searched(circuit: stim.Circuit, events: Bytes, flips: Bytes) -> dict[str, Any]:
    """What Tesseract makes of the windows; nothing where it is not installed."""
    try:
        from tesseract_decoder import tesseract
    except ImportError:
        return {}
    dem = circuit.detector_error_model()
    config = tesseract.TesseractConfig(dem=dem, det_beam=BEAM, beam_climbing=True)
    decoder = tesseract.TesseractDecoder(config)
    shots = np.unpackbits(events, axis=1, bitorder="little", count=dem.num_detectors).astype(bool)
    began = time.process_time()
    answers = np.array([decoder.decode(shot)[0] for shot in shots])
    spent = (time.process_time() - began) / max(1, len(shots))
    return {
        "Tesseract fails": int((answers != (flips[:, 0] & 1)).sum()),
        "Tesseract, us": 1e6 * spent,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--points", default="5:0.003,5:0.006,7:0.003,7:0.006,9:0.006", help="d:p, ..."
    )
    parser.add_argument("--reviews", type=int, default=2000, help="windows reviewed, per point")
    parser.add_argument("--exact", type=int, default=100, help="of these, solved exactly")
    parser.add_argument("--save", action="store_true", help="keep results/joint.json")
    o = parser.parse_args()
    points = [word.split(":") for word in o.points.split(",")]
    rows = [measure(int(d), float(p), o.reviews, o.exact) for d, p in points]
    show("Review of unsure windows, X and Z jointly", rows, save="joint" if o.save else "")


if __name__ == "__main__":
    main()
