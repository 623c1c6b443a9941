"""Is confidence calibrated, and what does escalating the least sure windows buy?

For each tier and experiment: calibrate on one sample, as a stream's start does, and judge on
another. The reliability diagram sets what was said beside what happened, in bins of equally many
windows; the expected calibration error (ECE) is the mean distance between the two, weighted by
windows. The curve answers the least sure windows by a stronger tier, on the same shots.

With --save, writes results/confidence.json and the diagrams beside it.
"""

from __future__ import annotations

import argparse
import math
import time
from typing import Any

import numpy as np
from common import RESULTS, show
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.progress import track

from qdec.codes import Code
from qdec.match import Tier
from qdec.match.assess import Assessor
from qdec.match.escalate import Switching
from qdec.match.trial import WindowTrial
from qdec.windows import WHOLE, Geometry, Window
from qdec_tools.circuits import memory

# (distance, noise, windows): whole shots of d rounds, or a window in mid-stream.
PLAN: list[tuple[int, float, Geometry]] = [
    (3, 0.001, WHOLE),
    (5, 0.003, WHOLE),
    (5, 0.006, WHOLE),
    (7, 0.003, WHOLE),
    (7, 0.006, WHOLE),
    (5, 0.003, Geometry(10, 5)),
    (5, 0.006, Geometry(10, 5)),
    (7, 0.006, Geometry(14, 7)),
]
STRONG = Tier.SPEED  # who is asked where the others are not sure
BINS = 15
BATCH = 2000
FRACTIONS = [0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1]
Floats = NDArray[np.float64]


def place(d: int, p: float, geometry: Geometry) -> tuple[Code, Window]:
    """The code, and the window of it that is tried."""
    if geometry.is_whole:
        code = Code.from_circuit(memory(d, d, p))
        rounds = code.spacetime.rounds
        return code, Window(0, rounds, rounds, rounds)
    code = Code.from_circuit(memory(d, 12, p))
    start = 4 * geometry.commit
    return code, Window(start, start + geometry.window, geometry.commit, None)


def judge(
    d: int, p: float, geometry: Geometry, shots: int, tiers: list[Tier]
) -> tuple[dict[Tier, tuple[Floats, NDArray[np.bool_]]], dict[Tier, float], dict[Tier, Any]]:
    """Per tier: what was said and what was right (same windows), µs per window, calibration."""
    code, window = place(d, p, geometry)
    trial = WindowTrial(code, window)
    rng = np.random.default_rng([d, round(p * 1e6), geometry.window])
    windows, fitted = {}, {}
    for tier in tiers:
        assessor = Assessor(code, tier, geometry, switching=Switching(confidence=True))
        windows[tier] = assessor.compile(window)
        fitted[tier] = assessor.calibrations[0][1]
    said: dict[Tier, list[Floats]] = {tier: [] for tier in tiers}
    right: dict[Tier, list[NDArray[np.bool_]]] = {tier: [] for tier in tiers}
    spent = dict.fromkeys(tiers, 0.0)
    for _ in track(range(shots // BATCH), description=f"d={d} p={p}", transient=True):
        drawn = trial.draw(BATCH, rng)
        for tier, compiled in windows.items():
            began = time.process_time()
            answers = compiled.decode(drawn.syndromes)
            spent[tier] += time.process_time() - began
            assert answers.confidence is not None
            said[tier].append(answers.confidence.astype(np.float64))
            right[tier].append(trial.right(drawn, answers))
    both = {tier: (np.concatenate(said[tier]), np.concatenate(right[tier])) for tier in tiers}
    count = shots // BATCH * BATCH
    return both, {tier: s / count * 1e6 for tier, s in spent.items()}, fitted


def reliability(said: Floats, right: NDArray[np.bool_]) -> tuple[list[dict[str, float]], float]:
    """Bins of equally many windows, and the ECE."""
    bins, error = [], 0.0
    for rows in np.array_split(np.argsort(said, kind="stable"), BINS):
        row = {"said": said[rows].mean(), "right": right[rows].mean(), "windows": len(rows)}
        bins.append({key: float(value) for key, value in row.items()})
        error += abs(row["said"] - row["right"]) * len(rows) / len(said)
    return bins, error


def log_loss(said: Floats, right: NDArray[np.bool_]) -> float:
    """Mean surprise, nats per window."""
    sure = np.clip(said, 1e-9, 1 - 1e-9)
    return float(-np.where(right, np.log(sure), np.log1p(-sure)).mean())


def curve(
    said: Floats, weak: NDArray[np.bool_], strong: NDArray[np.bool_]
) -> list[dict[str, float]]:
    """Logical error rate against the fraction of windows that went up, the least sure first.

    `sigma` is of the difference to answering everything with the stronger tier (paired windows).
    """
    order = np.argsort(said, kind="stable")
    rows = []
    for fraction in FRACTIONS:
        up = np.zeros(len(said), dtype=np.bool_)
        up[order[: round(fraction * len(said))]] = True
        answered = np.where(up, strong, weak)
        won, lost = int((answered & ~strong).sum()), int((~answered & strong).sum())
        rows.append(
            {
                "escalated": fraction,
                "below": float(said[order[min(len(said) - 1, round(fraction * len(said)))]]),
                "LER": float(1 - answered.mean()),
                "better than strong, sigma": (won - lost) / math.sqrt(max(1, won + lost)),
            }
        )
    return rows


def draw_reliability(rows: list[dict[str, Any]], tiers: list[Tier]) -> Figure:
    """What happened against what was said, on logarithmic scales of being wrong."""
    figure = Figure(figsize=(4.5 * len(tiers), 4.2))
    many = figure.subplots(1, len(tiers), sharey=True, squeeze=False)[0]
    for axes, tier in zip(many, tiers, strict=True):
        axes.plot([1e-4, 0.6], [1e-4, 0.6], "k:", linewidth=1)
        for row in (r for r in rows if r["tier"] == tier.label):
            points = [(1 - b["said"], 1 - b["right"]) for b in row["bins"] if b["right"] < 1]
            label = f"d={row['d']} p={row['p']:g} {row['windows']}"
            axes.plot(*zip(*points, strict=True), "o-", markersize=3, linewidth=1, label=label)
        axes.set(xscale="log", yscale="log", xlabel="said: probability that the frame is wrong")
        axes.set_title(tier.label, fontsize=9)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("happened: fraction wrong")
    figure.axes[0].legend(fontsize=7)
    figure.tight_layout()
    return figure


def draw_curves(rows: list[dict[str, Any]]) -> Figure:
    """Logical error rate against the escalated fraction, relative to the first tier alone."""
    figure = Figure(figsize=(8.5, 4.6))
    axes = figure.subplots()
    for row in (r for r in rows if "curve" in r):
        alone = row["curve"][0]["LER"]
        points = [(c["escalated"], c["LER"] / alone) for c in row["curve"]]
        label = f"{row['tier']}, d={row['d']} p={row['p']:g} {row['windows']}"
        style = "o-" if row["tier"] == Tier.MATCHING.label else "s--"
        axes.plot(*zip(*points, strict=True), style, markersize=3, linewidth=1, label=label)
    axes.set_xscale("symlog", linthresh=1e-3)
    axes.set(
        xlim=(0, 1),
        ylim=(0, 1.05),
        xlabel=f"fraction of windows that {STRONG.label} answers, the least sure first",
        ylabel="logical error rate relative to none",
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=6, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.tight_layout()
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shots", type=int, default=100_000, help="windows per experiment")
    parser.add_argument("--tiers", default="matching,guarded,speed")
    parser.add_argument("--save", action="store_true", help="keep results/confidence.*")
    o = parser.parse_args()
    tiers = [Tier.from_label(word) for word in o.tiers.split(",")]
    rows = []
    for d, p, geometry in PLAN:
        both, us, fitted = judge(d, p, geometry, o.shots, tiers)
        for tier, (said, right) in both.items():
            bins, error = reliability(said, right)
            rate = 1 - right.mean()
            base = -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate)) if rate else 1.0
            calibration = fitted[tier]
            rows.append(
                {
                    "d": d,
                    "p": p,
                    "windows": str(geometry),
                    "tier": tier.label,
                    "signal": calibration.signal,
                    "offset": calibration.offset,
                    "slope": calibration.slope,
                    "fitted on": calibration.windows,
                    "shots": len(said),
                    "LER": float(rate),
                    "ECE": error,
                    "log loss / rate's": log_loss(said, right) / base,
                    "us/window": us[tier],
                    "bins": bins,
                }
            )
            if STRONG in both and tier is not STRONG:
                rows[-1]["curve"] = curve(said, right, both[STRONG][1])
    hidden = ("bins", "curve")
    table = [{k: v for k, v in row.items() if k not in hidden} for row in rows]
    if o.save:
        for name, figure in (
            ("confidence", draw_reliability(rows, tiers)),
            ("escalation", draw_curves(rows)),
        ):
            figure.savefig(RESULTS / f"{name}.svg", metadata={"Date": None})
    for row in rows:
        for point in row.get("curve", []):
            print(
                row["tier"],
                row["d"],
                row["p"],
                row["windows"],
                {k: round(v, 6) for k, v in point.items()},
            )
    show("Confidence", table, save="confidence" if o.save else "", details=rows)


if __name__ == "__main__":
    main()
