"""What decoding on a GPU takes: stages, latency, throughput, energy, beside what stands for it.

    .venv/bin/python perf/gpu.py                        # all sections, below nine minutes
    .venv/bin/python perf/gpu.py --sections plans,latency
    .venv/bin/python perf/gpu.py --dry-run              # no GPU: what would be launched
    .venv/bin/python perf/gpu.py --fast NAME            # trained weights, of `qdec model list`

Every section runs in a process of its own for as long as it may: one that fails, or hangs, takes
nothing from the others. With --save each row is in the file as soon as it is known. Without
TensorRT, or without a plan in time, PyTorch runs the networks, and rows say so under "by".

Exit status: 0 all done; 1 a section failed or was cut off; 2 wrong arguments; 3 no GPU, or
something that every section needs is not there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from common import RESULTS, machine, print_table
from on_gpu.cards import file_name
from on_gpu.cases import ACCURATE, FAST, Models
from on_gpu.dry import dry_run
from on_gpu.figures import Budget, same_columns, told_once
from on_gpu.lab import GpuLab, is_there
from on_gpu.section import Given
from on_gpu.table import SECTIONS, Results, Section, plain, selected

from qdec.errors import QdecError

NO_GPU = 3
_GRACE_S = 10.0
_LOOK_S = 0.2


def main() -> int:
    options = arguments()
    models = Models({n: p for n, p in ((FAST, options.fast), (ACCURATE, options.accurate)) if p})
    try:
        sections = selected(options.sections)
    except ValueError as error:
        print(f"gpu.py: {error}", file=sys.stderr)
        return 2
    if options.dry_run:
        dry_run(models, [int(d) for d in options.distances.split(",")])
        return 0
    if why := is_there():
        print(f"gpu.py: no GPU to measure: {why}", file=sys.stderr)
        return NO_GPU
    if options.check:
        return check()
    if options.rows:  # a section's own process
        return one(sections[0], options, models)
    return everything(sections, options)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    table = "; ".join(f"{one.name} ({one.budget_s:g} s): {one.question}" for one in SECTIONS)
    parser.add_argument("--sections", default="all", help=f"comma-separated. {table}")
    parser.add_argument(
        "--engine", choices=("auto", "tensorrt", "torch"), default="auto", help="of the networks"
    )
    parser.add_argument(
        "--fast",
        metavar="NAME",
        help="weights of the small stack: name in `qdec model list`, or a file; random if left out",
    )
    parser.add_argument("--accurate", metavar="NAME", help="likewise of the large one")
    parser.add_argument("--scale", type=float, default=1.0, help="of all sections' times")
    parser.add_argument("--dry-run", action="store_true", help="stop before the device")
    parser.add_argument("--distances", default="7,13", help="of the dry run")
    parser.add_argument(
        "--save",
        nargs="?",
        const="",
        metavar="FILE",
        help="keep the results, by default in perf/results/gpu-CARD.json",
    )
    parser.add_argument(
        "--check", action="store_true", help="only say what is there, and what is missing"
    )
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def check() -> int:
    """Say what is there; the exit status."""
    from qdec.neural import driver
    from qdec.neural.engine import engines

    print(f"GPU: {driver.devices()[0].name}")
    for name, version in versions().items():
        print(f"{name}: {version}")
    for name, why in engines().items():
        print(f"engine {name}: {why or 'yes'}")
    try:
        GpuLab()
    except QdecError as error:
        print(f"gpu.py: nothing can be measured: {error}", file=sys.stderr)
        return NO_GPU
    return 0


def versions() -> dict[str, str]:
    """Of the packages that matter on a GPU, those that are there."""
    found = {}
    for one in metadata.distributions():
        name = (one.metadata["Name"] or "").lower()
        if name in ("torch", "pycuda", "openvino", "onnx") or name.startswith(("cupy", "tensorrt")):
            found[name] = one.version
    return dict(sorted(found.items()))


def one(section: Section, options: argparse.Namespace, models: Models) -> int:
    """Run a section here, rows to a file as they come."""
    budget = Budget(section.budget_s * options.scale)
    with options.rows.open("a", encoding="utf-8", buffering=1) as out:

        def emit(row: dict[str, Any]) -> None:
            out.write(json.dumps(plain(row)) + "\n")

        try:
            given = Given(GpuLab(options.engine), models, budget, emit)
            section.run(given)
        except QdecError as error:
            print(f"gpu.py: {section.name}: {error}", file=sys.stderr)
            return 1
    if given.failed:
        print(f"{given.failed} cases failed: see their notes", file=sys.stderr)
    return 1 if given.failed else 0


def everything(sections: tuple[Section, ...], options: argparse.Namespace) -> int:
    """Run sections one after the other, each in its process; the exit status."""
    from qdec.neural import driver

    card = driver.devices()[0]
    path = None
    if options.save is not None:
        path = Path(options.save) if options.save else RESULTS / f"gpu-{file_name(card.name)}.json"
    about = {
        "benchmark": "decoding on a GPU",
        **machine(),
        **versions(),
        "gpu": card.name,
        "capability": ".".join(map(str, card.capability)),
        "memory GB": round(card.memory / 1e9, 1),
        "engine": options.engine,
    }
    results = Results(path, about)
    for section in sections:
        results.begin(section.name)
        print(f"{section.name}: {section.question} …", file=sys.stderr, flush=True)
        started = time.monotonic()
        outcome = watched(section, options, results)
        results.end(section.name, outcome, time.monotonic() - started)
        rows = results.rows(section.name)
        print_rows(f"{section.name}: {outcome}  ({card.name})", rows)
    print(json.dumps(results.everything))
    failed = any(one["outcome"] != "done" for one in results.everything["sections"].values())
    return 1 if failed else 0


def print_rows(title: str, rows: list[dict[str, Any]]) -> None:
    """A table of what was measured; what it says in all rows, and what could not be, below."""
    measured = [one for one in rows if "note" not in one]
    if measured:
        left, same = told_once(same_columns(measured))
        print_table(title, left)
        if same:
            print("  " + ", ".join(f"{name}: {value}" for name, value in same.items()))
    else:
        print(title)
    for row in (one for one in rows if "note" in one):
        about = " ".join(f"{name}={value}" for name, value in row.items() if name != "note")
        print(f"  {about + ': ' if about else ''}{row['note']}")


def watched(section: Section, options: argparse.Namespace, results: Results) -> str:
    """A section in its process, rows taken as they come: how it ended."""
    with tempfile.TemporaryDirectory() as folder:
        rows, said = Path(folder) / "rows", Path(folder) / "said"
        rows.touch()
        command = [sys.executable, __file__, "--sections", section.name, "--rows", str(rows)]
        command += ["--engine", options.engine, "--scale", str(options.scale)]
        command += ["--fast", options.fast] if options.fast else []
        command += ["--accurate", options.accurate] if options.accurate else []
        give_up = time.monotonic() + section.budget_s * options.scale + _GRACE_S
        with said.open("wb") as errors, rows.open(encoding="utf-8") as source:
            process = subprocess.Popen(command, stdout=errors, stderr=errors)
            part = ""
            while True:
                ended = process.poll() is not None
                part += source.read()
                *whole, part = part.split("\n")
                for line in whole:
                    results.row(section.name, json.loads(line))
                if ended or time.monotonic() > give_up:
                    break
                time.sleep(_LOOK_S)
            if not ended:
                process.kill()
                process.wait()
                return "cut off"
        if process.returncode:
            last = said.read_text(errors="replace").strip().splitlines() or ["(no words)"]
            print(f"{section.name} failed: {last[-1]}", file=sys.stderr)
            return f"failed ({process.returncode}): {last[-1][:300]}"
    return "done"


if __name__ == "__main__":
    raise SystemExit(main())
