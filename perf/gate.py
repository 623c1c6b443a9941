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
from qdec.match import CLASSICAL, SOFT
from qdec.match.gate import NEAR_SETS, try_faults
from qdec.match.offline import OfflineDecoder
from qdec.windows import WHOLE, Geometry
from qdec_tools.circuits import memory
from qdec_tools.gate import as_row, table

RESULT = Path(__file__).parent / "results" / "gate.json"
SAMPLED = 1_000_000  # sets of faults, where not all are tried


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--machine", default=platform.processor() or platform.machine())
    machine = parser.parse_args().machine
    rows = []
    for name in ("rotated_memory_z", "rotated_memory_x"):
        for d in (3, 5, 7, 9):
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
    windows = Geometry(2 * d, d)
    rows = []
    for rounds, geometry in ((d, WHOLE), (3 * d, windows)):
        code = Code.from_circuit(memory(d, rounds, p, task))
        head = {"circuit": name, "d": d, "rounds": rounds, "p": p, "windows": str(geometry)}
        for tier in (*CLASSICAL, *SOFT):
            decoder = OfflineDecoder(code, tier, geometry)
            for weight in range(1, (d - 1) // 2 + 1):
                # Whole shots at d=5: every pair there is.
                limit = None if weight == 1 or (d == 5 and geometry.is_whole) else SAMPLED
                tries = [(limit, False)] + [(NEAR_SETS, True)] * (weight > 1)
                for most, near in tries:
                    began = time.monotonic()
                    report = try_faults(
                        code, decoder, weight, name=tier.label, limit=most, near=near
                    )
                    rows.append(head | as_row(report, time.monotonic() - began))
    return rows


if __name__ == "__main__":
    main()
