"""What every benchmark here says about itself, and how it takes the lane's time."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import numpy
import psutil
import pymatching
import stim
import zmq
from rich.console import Console
from rich.table import Table

from qdec import __version__

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """Where and with what the numbers were measured."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    cores = len([x for x in Path("/proc/cpuinfo").read_text().splitlines() if "processor" in x])
    return {
        "machine": f"{cores}-core {model}",
        "python": platform.python_version(),
        "qdec": __version__,
        "pymatching": pymatching.__version__,
        "stim": stim.__version__,
        "numpy": numpy.__version__,
        "pyzmq": zmq.__version__,
    }


def show(title: str, rows: list[dict[str, Any]], *, save: str = "", **more: Any) -> None:
    """Print a table, then everything as one JSON line; with `save`, to results/<save>.json too."""
    here = machine()
    print_table(f"{title}  ({here['machine']})", rows)
    everything = {"benchmark": title, **here, **more, "rows": rows}
    if save:
        (RESULTS / f"{save}.json").write_text(json.dumps(everything, indent=1) + "\n")
    print(json.dumps(everything))


def print_table(title: str, rows: list[dict[str, Any]]) -> None:
    """Print rows that have the same columns."""
    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    Console(width=180).print(table)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def lane_processes(supervisor: int) -> list[psutil.Process]:
    """A service's lanes (and spares), oldest first."""
    children = psutil.Process(supervisor).children()
    lanes = [c for c in children if any("qdec.lane.process" in part for part in c.cmdline())]
    return sorted(lanes, key=lambda c: c.create_time())


def cpu_ns(pid: int) -> int:
    """CPU time of all threads of a process, ns, as the kernel's scheduler counts it."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)
