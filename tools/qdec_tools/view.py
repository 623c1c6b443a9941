"""How a running service looks in a terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from qdec.lane.stats import dense, quantile
from qdec_tools.qpu import Report

_STAGES = {
    "queue": "waiting in the lane",
    "decode": "matching, per window",
    "answer": "encoding the commit",
    "window": "last byte in → commit out",
}


def count(value: float) -> str:
    """1234567 → 1,234,567."""
    return f"{value:,.0f}"


def report_table(title: str, r: Report) -> Table:
    """One QPU's report."""
    table = Table(title=title, title_justify="left", show_header=False, expand=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_row("cycle time", f"{r.cycle_us:g} µs" if r.cycle_us else "as credits allow")
    if r.stalled_s:
        table.add_row("simulator held up", f"{r.stalled_s:.3f} of {r.seconds:.1f} s")
    table.add_row("rounds", f"{count(r.rounds)}  ({count(r.rate_hz)} /s)")
    table.add_row("backlog", f"{count(r.backlog)} rounds")
    late = lateness(r.windows, r.late, r.preempted)
    table.add_row("windows", f"{count(r.windows)}, late {late}, infeasible {r.infeasible}")
    table.add_row("tier", ", ".join(f"{name} {count(n)}" for name, n in r.tiers.items()) or "–")
    table.add_row("in the lane", latency(r.lane_us))
    table.add_row("client to client", latency(r.client_us))
    rate = f"{r.error_rate:.3g}" if r.error_rate == r.error_rate else "–"
    table.add_row("logical errors", f"{count(r.errors)} in {count(r.checked)} checks ({rate} each)")
    if r.resumes:
        table.add_row("breaks survived", str(r.resumes))
    return table


def lateness(windows: int, late: int, preempted: int) -> str:
    """Share of late windows, ours and the operating system's apart."""
    if not windows:
        return "–"
    return f"{(late - preempted) / windows:.3%} + {preempted / windows:.3%} preempted"


def latency(us: dict[str, float]) -> str:
    """``p50 / p99 / p99.9 / max`` in µs."""
    if not us:
        return "–"
    return "{p50:,.0f} / {p99:,.0f} / {p99_9:,.0f} / {max:,.0f} µs".format(**us)


def stage_table(status: dict[str, Any]) -> Table:
    """A lane's stages from its STATUS_REPLY."""
    table = Table(title="stages of the lane, µs", title_justify="left")
    table.add_column("stage")
    for name in ("p50", "p99", "p99.9"):
        table.add_column(name, justify="right")
    for stage, words in _STAGES.items():
        counts = dense(status[stage])
        table.add_row(words, *(f"{quantile(counts, q) / 1e3:,.1f}" for q in (0.5, 0.99, 0.999)))
    return table


def streams_table(rows: list[dict[str, Any]]) -> Table:
    """Several QPUs side by side, a column each; rows are `Report.as_dict` with ``stream``."""
    table = Table(title="streams", title_justify="left")
    table.add_column("")
    for r in rows:
        table.add_column(str(r["stream"]), justify="right")
    cells: dict[str, Callable[[dict[str, Any]], str]] = {
        "cycle time": lambda r: f"{r['cycle_us']:g} µs" if r["cycle_us"] else "finding out",
        "rounds sent": lambda r: count(r["rounds"]),
        "rounds/s committed": lambda r: count(r["rate_hz"]),
        "backlog, rounds": lambda r: count(r["backlog"]),
        "simulator held up": lambda r: f"{r['stalled_s']:.2f} of {r['seconds']:.1f} s",
        "windows": lambda r: count(r["windows"]),
        "late": lambda r: lateness(r["windows"], r["late"], r["preempted"]),
        "in the lane, p50/p99/p99.9 µs": lambda r: _three(r["lane_us"]),
        "client to client": lambda r: _three(r["client_us"]),
        "logical errors": lambda r: count(r["errors"]),
        "per round": lambda r: "–" if r["error_rate"] is None else f"{r['error_rate']:.3g}",
        "tier": lambda r: ", ".join(r["tiers"]) or "–",
    }
    for name, cell in cells.items():
        table.add_row(name, *(cell(r) for r in rows))
    return table


def _three(us: dict[str, float]) -> str:
    return "{p50:,.0f} / {p99:,.0f} / {p99_9:,.0f}".format(**us) if us else "–"


def dashboard(title: str, rows: list[dict[str, Any]], status: dict[str, Any] | None) -> Group:
    """Everything at once."""
    parts: list[Any] = [Text(title, style="bold"), streams_table(rows)]
    if status is not None:
        parts.append(stage_table(status))
    events = [f"{r['stream']}: {line}" for r in rows for line in r["events"]]
    parts.extend(Text(line, style="yellow") for line in events[-4:])
    return Group(*parts)
