"""What every benchmark here says about itself."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import numpy
import pymatching
import stim
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
    }


def show(title: str, rows: list[dict[str, Any]], **more: Any) -> None:
    """Print a table, then everything as one JSON line."""
    here = machine()
    table = Table(title=f"{title}  ({here['machine']})", title_justify="left")
    for name in rows[0]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    Console(width=160).print(table)
    print(json.dumps({"benchmark": title, **here, **more, "rows": rows}))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)
