"""``qdec engine list`` and ``qdec engine clear``: engines, and TensorRT's plans on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from qdec.neural.engine import engines
from qdec.neural.tensorrt import cache
from qdec.neural.tensorrt.cache import Entry


def show(folder: Path | None, *, as_json: bool) -> int:
    """Print engines and plans; returns the exit status: 1 if a plan is damaged.

    Raises:
        EngineError: the folder of plans is not this user's alone.
    """
    folder = folder or cache.default_folder()
    there, plans = engines(), list(cache.entries(folder))
    if as_json:
        rows = [{"engine": name, "problem": why} for name, why in there.items()]
        print(json.dumps({"engines": rows, "plans": [as_row(one) for one in plans]}))
    else:
        for name, why in there.items():
            print(f"{name}: {why or 'there'}")
        if plans:
            Console().print(_table(plans))
        else:
            print(f"no plans in {folder}; `qdec engine build` makes them")
    return int(any(one.problem for one in plans))


def clear(folder: Path | None) -> int:
    """Remove all plans and say how many; returns the exit status.

    Raises:
        EngineError: the folder of plans is not this user's alone.
    """
    folder = folder or cache.default_folder()
    print(f"removed {cache.clear(folder)} plan(s) from {folder}")
    return 0


def as_row(entry: Entry) -> dict[str, Any]:
    """For JSON."""
    row = {**entry.key, "path": str(entry.path), "bytes": entry.size, "problem": entry.problem}
    row.pop("format", None)
    return row


def _table(plans: list[Entry]) -> Table:
    table = Table()
    for column in ("network", "window", "batches", "precision", "for", "TensorRT", "bytes"):
        table.add_column(column)
    for one in plans:
        if one.problem:
            table.add_row(f"[red]{escape(one.problem)}[/red]", *[""] * 5, f"{one.size:,}")
            continue
        try:
            row = _cells(one.key)
        except (KeyError, TypeError, ValueError):  # a whole file of somebody else's making
            row = [str(one.path)[:60], *[""] * 5]
        table.add_row(*map(escape, row), f"{one.size:,}")
    return table


def _cells(key: cache.Key) -> list[str]:
    major, minor = key["capability"]
    return [
        str(key["model"])[:12],
        "×".join(map(str, key["size"])),
        ",".join(map(str, key["batches"])),
        str(key["precision"]),
        f"{key['gpu'] or 'any GPU'} ({major}.{minor})",
        " ".join(map(str, key["tensorrt"])),
    ]
