"""The sections, and how their rows are kept: a cut-off run leaves what it had."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from on_gpu.section import Given, Row


@dataclass(frozen=True, slots=True)
class Section:
    """A section.

    Attributes:
        name: as it is selected.
        budget_s: its time, with what it takes to start; what goes on for longer is ended.
        question: in a few words.
    """

    name: str
    budget_s: float
    question: str

    def run(self, given: Given) -> None:
        """Do it."""
        import_module(f"on_gpu.{self.name}").run(given)


# In the order of how much is lost with them. Together below nine minutes.
SECTIONS = (
    Section("plans", 100, "TensorRT's plans: built, or there already"),
    Section("stages", 50, "each part of a batch's way, beside its memory floor"),
    Section("latency", 140, "a batch's latency, beside the bare engine, PyTorch and the processor"),
    Section("cudaq", 75, "CUDA-Q's benchmark through sockets, beside a ZeroMQ echo"),
    Section("throughput", 65, "windows per second at a p99 bound, and how busy the GPU is"),
    Section("agreement", 45, "signs and failures of TensorRT, PyTorch and OpenVINO"),
    Section("roofline", 30, "networks beside what the card could do"),
    Section("energy", 25, "joules per million windows"),
)


def selected(names: str) -> tuple[Section, ...]:
    """Sections by their names, comma-separated; all of them: ``all``.

    Raises:
        ValueError: there is no such section.
    """
    if names == "all":
        return SECTIONS
    known = {one.name: one for one in SECTIONS}
    wanted = [one.strip() for one in names.split(",") if one.strip()]
    if unknown := [one for one in wanted if one not in known]:
        raise ValueError(f"no section '{unknown[0]}': there are {', '.join(known)}")
    return tuple(known[one] for one in dict.fromkeys(wanted))


class Results:
    """Rows of all sections, in a file that is whole at any time."""

    def __init__(self, path: Path | None, about: dict[str, Any]) -> None:
        """Begin; without a path nothing is kept but in memory."""
        self._path = path
        self.everything: dict[str, Any] = {**about, "sections": {}}

    def begin(self, section: str) -> None:
        """A section begins."""
        self.everything["sections"][section] = {"outcome": "cut off", "rows": []}
        self._keep()

    def row(self, section: str, row: Row) -> None:
        """A row has come."""
        self.everything["sections"][section]["rows"].append(plain(row))
        self._keep()

    def end(self, section: str, outcome: str, seconds: float) -> None:
        """It has ended: ``done``, or why not."""
        self.everything["sections"][section] |= {"outcome": outcome, "s": round(seconds, 1)}
        self._keep()

    def rows(self, section: str) -> list[Row]:
        """Of a section."""
        found: list[Row] = self.everything["sections"][section]["rows"]
        return found

    def _keep(self) -> None:
        if self._path is None:
            return
        new = self._path.with_suffix(".part")
        new.write_text(json.dumps(self.everything, indent=1) + "\n", encoding="utf-8")
        os.replace(new, self._path)


def plain(row: Row) -> Row:
    """Values that JSON has: numbers rounded to five digits, None for what is no number."""
    return {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.5g}") if abs(value) < float("inf") else None
    return value
