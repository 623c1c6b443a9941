"""``qdec model``: list the models that are there, import more."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from qdec.match.models import served
from qdec.neural.store import ModelInfo, default_folder, import_model, list_models


def show(folder: Path | None, *, as_json: bool) -> int:
    """Print the models; returns the exit status: 1 if one of them cannot be used."""
    models = list_models(folder)
    if as_json:
        print(json.dumps([one.as_row() for one in models]))
    elif models:
        Console().print(_table(models))
    else:
        print(f"no models; `qdec model import FILE` keeps them in {folder or default_folder()}")
    return int(any(one.problem for one in models))


def bring_in(file: Path, name: str | None, folder: Path | None, *, as_json: bool) -> int:
    """Import a model and say what it is; returns the exit status.

    Raises:
        ModelError: it is not sound.
    """
    info = import_model(file, name=name, folder=folder, check=served)
    if as_json:
        print(json.dumps(info.as_row()))
    else:
        print(
            f"imported '{info.name}': family {info.family}, {info.parameters:,} parameters, "
            f"sha256 {info.sha256[:16]}…, kept as {info.path}"
        )
    return 0


def _table(models: tuple[ModelInfo, ...]) -> Table:
    table = Table()
    for column in (
        "model",
        "family",
        "origin",
        "parameters",
        "distances",
        "windows seen",
        "sha256",
    ):
        table.add_column(column, justify="right" if column == "parameters" else "left")
    for one in models:
        told = [escape(one.told.get(key, "")) for key in ("distances", "shots_seen")]
        if one.problem:
            table.add_row(escape(one.name), f"[red]{escape(one.problem)}[/red]", one.origin)
            continue
        name, family = escape(one.name), escape(one.family)
        table.add_row(name, family, one.origin, f"{one.parameters:,}", *told, one.sha256[:16])
    return table
