"""The fault-distance gate on the memory experiments that everything else is quoted for.

    .venv/bin/python perf/gate.py --machine "2-core AMD EPYC VM"

writes perf/results/gate.json and prints a table, then the same as one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from qdec.codes import Code
from qdec.match import CLASSICAL
from qdec.match.gate import fault_pairs, single_faults
from qdec.windows import WHOLE, Geometry
from qdec_tools.circuits import memory
from qdec_tools.gate import as_row, table

RESULT = Path(__file__).parent / "results" / "gate.json"
SAMPLED_PAIRS = 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--machine", default=platform.processor() or platform.machine())
    machine = parser.parse_args().machine
    rows = []
    for name in ("rotated_memory_z", "rotated_memory_x"):
        for d in (3, 5, 7):
            for p in (0.001, 0.003):
                rows += measure(name, d, p)
    console = Console(width=160)
    title = "Fault-distance gate, uniform circuit noise"
    console.print(table(title, [row | {"first_failure": ()} for row in rows]))
    result = {
        "what": "fault-distance gate, uniform circuit noise",
        "machine": machine,
        "date": time.strftime("%Y-%m-%d"),
        "versions": {name: version(name) for name in ("stim", "pymatching", "numpy")},
        "rows": rows,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


def measure(name: str, d: int, p: float) -> list[dict[str, object]]:
    task = f"surface_code:{name}"
    shot = Code.from_circuit(memory(d, d, p, task))
    stream = Code.from_circuit(memory(d, 3 * d, p, task))
    windows = Geometry(2 * d, d)
    rows = []
    for tier in CLASSICAL:
        runs = [
            (WHOLE, lambda t=tier: single_faults(shot, t)),
            (windows, lambda t=tier: single_faults(stream, t, windows)),
        ]
        if d >= 5:
            limit = None if d == 5 else SAMPLED_PAIRS
            runs.append((WHOLE, lambda t=tier, most=limit: fault_pairs(shot, t, limit=most)))
            runs.append(
                (windows, lambda t=tier: fault_pairs(stream, t, windows, limit=SAMPLED_PAIRS))
            )
        for geometry, run in runs:
            began = time.monotonic()
            report = run()
            rounds = d if geometry.is_whole else 3 * d
            head = {"circuit": name, "d": d, "rounds": rounds, "p": p, "windows": str(geometry)}
            rows.append(head | as_row(report, time.monotonic() - began))
    return rows


if __name__ == "__main__":
    main()
