"""LER and CPU time per round of the tiers, both bases, on the same shots: `qdec ler` at length.

    .venv/bin/python perf/ler.py --save ler.jsonl

writes perf/results/ler.json and ler.svg. With --save, a run that was stopped goes on, and a longer
one adds to it; --short is for trying it out, and writes nothing to results/.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from common import RESULTS, machine
from rich.console import Console

from qdec.match import CLASSICAL, SOFT, Tier
from qdec_tools.ler.blocks import BlockStore
from qdec_tools.ler.collect import Plan, collect
from qdec_tools.ler.plot import check_plot, plot
from qdec_tools.ler.points import parse_points
from qdec_tools.ler.result import as_json, rows, table
from qdec_tools.ler.work import available_cores

DISTANCES, NOISE = "3,5,7,9", "0.001,0.003,0.006"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--distances", default=DISTANCES)
    parser.add_argument("--noise", default=NOISE)
    parser.add_argument("--tiers", default=",".join(tier.label for tier in (*CLASSICAL, *SOFT)))
    parser.add_argument("--shots", type=int, default=200_000, help="per point")
    parser.add_argument("--until-failures", type=int, default=1000, help="of every tier")
    parser.add_argument("--processes", type=int, default=available_cores())
    parser.add_argument("--save", type=Path, help="finished blocks, to go on from")
    parser.add_argument("--short", action="store_true", help="few shots, results/ untouched")
    o = parser.parse_args()
    svg = RESULTS / "ler.svg"
    check_plot(svg)
    plan = Plan(
        parse_points(o.distances, "d", o.noise),
        tuple(Tier.from_label(label) for label in o.tiers.split(",")),
        2_000 if o.short else o.shots,
        o.until_failures,
        processes=o.processes,
    )
    with BlockStore(o.save) as store:
        found = rows(collect(plan, store), Tier.CORRELATED)
    Console(width=160).print(table(found))
    result = {
        "benchmark": "LER and CPU time per round, rounds = d, on the same shots",
        **machine(),
        "date": time.strftime("%Y-%m-%d"),
        "rows": [as_json(row) for row in found],
    }
    if not o.short:
        (RESULTS / "ler.json").write_text(json.dumps(result, indent=1) + "\n")
        plot(found, svg)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
