"""What `qdec qpu` does: make a source, open its stream, run it, show it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import stim
from rich.console import Console
from rich.live import Live

from qdec.client import CodeText, open_stream
from qdec.codes import Code
from qdec.codes.code import read_code_text
from qdec.errors import CodeError
from qdec_tools.circuits import memory
from qdec_tools.qpu import Qpu, Report
from qdec_tools.sources import EndlessSource, RecordedSource, ShotSource, Source
from qdec_tools.view import report_table

# Rounds of the template that an endless stream is stretched from.
_TEMPLATE_ROUNDS = 12


@dataclass(frozen=True, slots=True)
class Plan:
    """What to simulate and where to send it.

    Attributes:
        endpoint: of the service.
        stream: name to open.
        configured: the service knows the stream; no code is sent along.
        task: Stim's name of a generated circuit, if no file is given.
        distance, noise: of the generated circuit.
        rounds: rounds per shot; 0 for endless.
        circuit: a circuit or DEM file instead of a generated circuit.
        dets: recorded detection events (``.b8``) instead of sampled ones.
        obs: recorded observable flips (``.01`` or ``.b8``) that go with them.
        raw: send measurements instead of detectors.
        windows, tier, deadline_us: for guests.
        cycle_us: None for auto, 0 for as fast as credits allow.
        seconds, frame_rounds, seed: see `Qpu.run`.
    """

    endpoint: str
    stream: str
    configured: bool
    task: str
    distance: int
    noise: float
    rounds: int
    circuit: Path | None
    dets: Path | None
    obs: Path | None
    raw: bool
    windows: str | None
    tier: str | None
    deadline_us: int | None
    cycle_us: float | None
    seconds: float
    frame_rounds: int | None
    seed: int


def run(plan: Plan, *, as_json: bool, json_lines: bool) -> int:
    """Run a plan. Returns the exit status: 0, or 130 if it was interrupted."""
    kind, text = _code_text(plan)
    code = Code.parse(kind, text)  # type: ignore[arg-type]
    endless = plan.rounds == 0 and plan.dets is None
    source = _source(plan, code, kind, text, endless)
    guest = None if plan.configured else CodeText(kind, text)
    with open_stream(
        plan.endpoint,
        plan.stream,
        code=guest,
        raw=plan.raw,
        endless=endless if guest else None,
        windows=plan.windows,
        tier=plan.tier,
        deadline_us=plan.deadline_us,
    ) as stream:
        title = f"{plan.stream}: {stream.info.tier}, windows {_windows(stream.info)}"
        with _shown(title, stream.info.notes, json_lines, quiet=as_json) as show:
            qpu = Qpu(stream, source, show)
            status = 0
            try:
                report = qpu.run(plan.cycle_us, plan.seconds, plan.frame_rounds)
            except KeyboardInterrupt:
                report, status = qpu.report, 130
    if as_json or json_lines:
        print(json.dumps({"stream": plan.stream, "final": True, **report.as_dict()}), flush=True)
    else:
        Console().print(report_table(title, report))
    return status


def _windows(info: object) -> str:
    window, commit = info.window, info.commit  # type: ignore[attr-defined]
    return f"{window},{commit}" if window else "whole"


@contextlib.contextmanager
def _shown(
    title: str, notes: list[str], json_lines: bool, *, quiet: bool
) -> Iterator[Callable[[Report], None]]:
    console = Console(stderr=True)
    for note in notes:
        console.print(f"[yellow]note:[/] {note}")
    if json_lines:
        yield lambda r: print(json.dumps({"stream": title, **r.as_dict()}), flush=True)
    elif quiet or not console.is_terminal:
        yield lambda _r: None
    else:
        with Live(console=console, transient=True, auto_refresh=False) as live:
            yield lambda r: live.update(report_table(title, r), refresh=True)


def _code_text(plan: Plan) -> tuple[str, str]:
    if plan.circuit is not None:
        return "dem" if plan.circuit.suffix == ".dem" else "circuit", read_code_text(plan.circuit)
    try:
        circuit = memory(plan.distance, plan.rounds or _TEMPLATE_ROUNDS, plan.noise, plan.task)
    except ValueError as error:
        raise CodeError(f"Stim cannot generate '{plan.task}': {error}") from None
    return "circuit", str(circuit)


def _source(plan: Plan, code: Code, kind: str, text: str, endless: bool) -> Source:
    if plan.dets is not None:
        shots = stim.read_shot_data_file(
            path=plan.dets, format="b8", num_detectors=code.layout.num_detectors, bit_packed=True
        )
        truth = None
        if plan.obs is not None:
            truth = stim.read_shot_data_file(
                path=plan.obs,
                format=plan.obs.suffix.lstrip("."),
                num_observables=code.num_observables,
                bit_packed=True,
            )
        return RecordedSource(code, shots, truth)
    if endless:
        if plan.raw:
            raise CodeError("an endless stream is simulated as detectors: leave out --raw")
        return EndlessSource(code, plan.seed)
    if kind == "dem":
        raise CodeError("shots are sampled from a circuit; a DEM can only be streamed endlessly")
    return ShotSource(stim.Circuit(text), code, plan.seed, raw=plan.raw)


def parse_cycle(text: str) -> float | None:
    """``auto`` → None; otherwise µs, 0 or at least 0.1.

    Raises:
        CodeError: it is neither.
    """
    if text.strip().lower() == "auto":
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if value != 0 and not 0.1 <= value <= 1e9:
        raise CodeError(f"--cycle-us {text}: give auto, 0, or a time in µs")
    return value
