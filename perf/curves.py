"""Curves from what the other scripts saved in results/: cost against d, rounds, streams and rate.

Writes results/*.svg. Nothing is measured here; a curve whose data is missing is left out.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import matplotlib.pyplot as plt
from common import RESULTS
from matplotlib.axes import Axes

plt.switch_backend("svg")
plt.rcParams["svg.hashsalt"] = "qdec"

Row = dict[str, Any]


def load(name: str) -> dict[str, Any] | None:
    """A saved result, or None."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def line(axes: Axes, rows: list[Row], x: str, y: str, label: str, style: str = "o-") -> None:
    """One curve."""
    axes.plot([row[x] for row in rows], [row[y] for row in rows], style, label=label)


def against_distance(axes: Axes) -> bool:
    """CPU time per round against d, shots of 1,000 rounds or endless."""
    found = load("lane")
    if found is None:
        return False
    rows = [row for row in found["rows"] if row["r"] == 1000]
    for frame in sorted({row["rounds/message"] for row in rows}):
        mine = [row for row in rows if row["rounds/message"] == frame]
        line(axes, mine, "d", "lane us/round", f"qdec lane with sockets, {frame} rounds/message")
    line(axes, mine, "d", "decode_batch us/round", "PyMatching decode_batch, r=1000", "s--")
    axes.set(xlabel="distance d", ylabel="CPU µs per round", yscale="log")
    return True


def against_rounds(axes: Axes) -> bool:
    """CPU time per round against the rounds of a shot, d=5."""
    found = load("rounds")
    if found is None:
        return False
    rows = sorted(found["rows"], key=lambda row: int(row["r"]))
    finite = [row for row in rows if row["r"] != 1000]
    line(axes, finite, "r", "lane us/round", "qdec lane with sockets, 400 rounds/message")
    line(axes, finite, "r", "decode_batch us/round", "PyMatching decode_batch", "s--")
    beside = load("beside_cudaq")
    if beside is not None:
        for row in beside["rows"]:
            if "sliding_window" in row["decoder"] and row["calls"] == "batch":
                per_round = row["CPU us/shot"] / (beside["r"] + 1)
                label = f"CUDA-Q QEC sliding_window {row['windows']}, batch"
                axes.plot([beside["r"]], [per_round], "^", label=label)
    axes.set(xlabel="rounds per shot", ylabel="CPU µs per round", xscale="log", yscale="log")
    return True


def against_streams(axes: Axes) -> bool:
    """CPU time per round against the number of streams on a lane."""
    found = load("streams")
    if found is None:
        return False
    rows = found["rows"]
    line(axes, rows, "streams", "lane us/round", f"qdec lane, d={rows[0]['d']}")
    axes.set(xlabel="streams on one lane", ylabel="CPU µs per round", xscale="log", ylim=0)
    memory = axes.twinx()
    memory.plot([r["streams"] for r in rows], [r["lane MB"] for r in rows], "k.:", label="MB")
    memory.set(ylabel="memory of the lane, MB (dotted)", ylim=0)
    return True


def against_rate(axes: Axes) -> bool:
    """Latency in the lane against the offered rate."""
    found = load("pace")
    if found is None:
        return False
    for d in sorted({row["d"] for row in found["tries"]}):
        rows = [row for row in found["tries"] if row["d"] == d]
        rate = [1.0 / row["cycle us"] for row in rows]
        axes.plot(rate, [row["lane p99 us"] for row in rows], "o-", label=f"d={d}, p99")
    axes.axhline(found["deadline_us"], color="grey", linestyle=":", label="deadline")
    axes.set(
        xlabel="offered rate, rounds per µs",
        ylabel="latency in the lane, µs",
        xscale="log",
        yscale="log",
    )
    return True


CURVES = {
    "cost_distance": against_distance,
    "cost_rounds": against_rounds,
    "cost_streams": against_streams,
    "latency_rate": against_rate,
}


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    written = []
    for name, draw in CURVES.items():
        figure, axes = plt.subplots(figsize=(6.4, 4.2))
        if draw(axes):
            axes.grid(alpha=0.3)
            axes.legend(fontsize=8)
            axes.set_title(str(draw.__doc__).splitlines()[0], fontsize=9)
            figure.tight_layout()
            figure.savefig(RESULTS / f"{name}.svg", metadata={"Date": None})
            written.append(f"{name}.svg")
        plt.close(figure)
    print(json.dumps({"written": written}))


if __name__ == "__main__":
    main()
