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
from rich.markup import escape

from qdec.bus.wire import OpenedBody
from qdec.client import ClientKeys, CodeText
from qdec.codes import Code
from qdec.codes.code import code_kind, read_code_text, read_round_map
from qdec.errors import CodeError, DataError
from qdec_tools.circuits import experiment
from qdec_tools.noise import named_noise
from qdec_tools.qpu import Qpu, Report
from qdec_tools.recording import Recording, Sources, open_recording
from qdec_tools.service import open_patiently
from qdec_tools.sources import EndlessSource, RecordedSource, ShotSource, Source
from qdec_tools.view import report_table

# Rounds of the template that an endless stream is stretched from.
_TEMPLATE_ROUNDS = 12
# A recording is played at this pace unless another is asked for: finding one would use it up.
_RECORDED_CYCLE_US = 10.0
_INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Plan:
    """What to simulate and where to send it.

    Attributes:
        endpoint: of the service.
        stream: name to open.
        configured: the service knows the stream; no code is sent along.
        task: Stim's name of a generated circuit, if no file is given.
        distance, noise, noise_model: of the generated circuit.
        rounds: rounds per shot of a generated circuit; 0 for endless.
        circuit: a circuit or DEM file instead of a generated circuit.
        round_map: a file with the round of each detector, for a file without time coordinates.
        dets: recorded detection events instead of sampled ones.
        obs: recorded observable flips that go with them.
        raw: send measurements instead of detectors.
        windows, tier, deadline_us: for guests.
        cycle_us: as `parse_cycle` takes it; None for what suits the source.
        seconds, frame_rounds, seed: see `Qpu.run`.
        keys: for TCP, if the service speaks CURVE.
    """

    endpoint: str
    stream: str
    configured: bool
    task: str
    distance: int
    noise: float
    noise_model: str
    rounds: int
    circuit: Path | None
    round_map: Path | None
    dets: Path | None
    obs: Path | None
    raw: bool
    windows: str | None
    tier: str | None
    deadline_us: int | None
    cycle_us: str | None
    seconds: float
    frame_rounds: int | None
    seed: int
    keys: ClientKeys | None = None


def run(plan: Plan, *, as_json: bool, json_lines: bool) -> int:
    """Run a plan. Returns the exit status: 0, or 130 if it was interrupted.

    Raises:
        DataError: the plan contradicts itself, or recorded data does not fit.
        CodeError: the code cannot be read, or is not that of the stream.
        Refused, ServiceUnavailable: as `open_stream` and the stream's methods.
    """
    text = _code_text(plan)
    recording = _recording(plan, text)
    code = recording.code if recording else _parse(text)
    cycle_us, notes = _cycle(plan)
    guest = None if plan.configured else text
    endless = not plan.rounds and recording is None
    try:
        with open_patiently(
            plan.endpoint,
            plan.stream,
            code=guest,
            raw=plan.raw,
            endless=endless if guest else None,
            windows=plan.windows,
            tier=plan.tier,
            deadline_us=plan.deadline_us,
            keys=plan.keys,
        ) as stream:
            source = _source(plan, code, text, recording, stream.info)
            title = f"{plan.stream}: {stream.info.tier}, windows {_windows(stream.info)}"
            with _shown(plan, title, [*notes, *stream.info.notes], json_lines, as_json) as show:
                qpu = Qpu(stream, source, show)
                status = 0
                try:
                    report = qpu.run(cycle_us, plan.seconds, plan.frame_rounds)
                except KeyboardInterrupt:
                    report, status = qpu.interrupted(), _INTERRUPTED
    except KeyboardInterrupt:  # before there was anything to report
        return _INTERRUPTED
    if as_json or json_lines:
        print(json.dumps({"stream": plan.stream, "final": True, **report.as_dict()}), flush=True)
    else:
        Console().print(report_table(title, report))
    return status


def _windows(info: OpenedBody) -> str:
    return f"{info.window},{info.commit}" if info.window else "whole"


@contextlib.contextmanager
def _shown(
    plan: Plan, title: str, notes: list[str], json_lines: bool, quiet: bool
) -> Iterator[Callable[[Report], None]]:
    console = Console(stderr=True)
    for note in notes:
        console.print(f"[yellow]note:[/] {escape(note)}")
    if json_lines:
        yield lambda r: print(json.dumps({"stream": plan.stream, **r.as_dict()}), flush=True)
    elif quiet or not console.is_terminal:
        yield lambda _r: None
    else:
        with Live(console=console, transient=True, auto_refresh=False) as live:
            yield lambda r: live.update(report_table(title, r), refresh=True)


def _code_text(plan: Plan) -> CodeText:
    if plan.circuit is not None:
        rounds = None if plan.round_map is None else read_round_map(plan.round_map)
        return CodeText(code_kind(plan.circuit), read_code_text(plan.circuit), rounds)
    if plan.round_map is not None:
        raise DataError("--map goes with --circuit: generated experiments know their rounds")
    noise = named_noise(plan.noise_model, plan.noise)
    circuit = experiment(plan.distance, plan.rounds or _TEMPLATE_ROUNDS, noise, plan.task)
    return CodeText("circuit", str(circuit))


def _parse(text: CodeText) -> Code:
    return Code.parse(text.kind, text.text, round_map=text.round_map)


def _recording(plan: Plan, text: CodeText) -> Recording | None:
    """What is played, if anything is."""
    if plan.dets is None:
        if plan.obs is not None:
            raise DataError("--obs goes with --dets: sampled shots bring their own truth")
        return None
    if plan.raw:
        raise DataError(
            "--dets are detection events: leave out --raw (qdec replay plays raw measurements)"
        )
    if plan.circuit is None and not plan.rounds:
        raise DataError(
            "--dets: which code are they of? Give --circuit, or the --rounds per shot of a "
            "generated experiment"
        )
    return open_recording(Sources(dets=plan.dets, obs=plan.obs), text)


def _cycle(plan: Plan) -> tuple[float | None, list[str]]:
    """The cycle time to run at, and what a person should know about it."""
    if plan.dets is None:
        return parse_cycle(plan.cycle_us or "auto"), []
    if plan.cycle_us is None:
        note = f"the recording is played at {_RECORDED_CYCLE_US:g} µs per round (see --cycle-us)"
        return _RECORDED_CYCLE_US, [note]
    cycle_us = parse_cycle(plan.cycle_us)
    if cycle_us is None:
        raise DataError(
            "--cycle-us auto would use the recording up while it tries: give a time in µs, or 0"
        )
    return cycle_us, []


def _source(
    plan: Plan, code: Code, text: CodeText, recording: Recording | None, info: OpenedBody
) -> Source:
    """What to stream, as the service has the stream."""
    if info.code_sha256 != code.digest.hex():
        ours = "a generated experiment" if plan.circuit is None else plan.circuit
        raise CodeError(
            f"stream '{plan.stream}' runs another code than {ours}: give the very file of the "
            "service's configuration with --circuit (and its --map)"
        )
    _check_records(plan, code, info)
    if recording is not None:
        if not info.shot_rounds:
            raise DataError(
                f"stream '{plan.stream}' is endless, and recorded shots are not: have it "
                "configured without endless, or leave out --configured"
            )
        return RecordedSource(recording)
    if not info.shot_rounds:
        if plan.raw:
            raise CodeError(
                "an endless stream is simulated as detectors: leave out --raw (one that is "
                "configured with raw = true cannot be simulated)"
            )
        return EndlessSource(code.streamed(raw=False), plan.seed)
    if text.kind == "dem":
        raise CodeError("shots are sampled from a circuit; a DEM can only be streamed endlessly")
    return ShotSource(stim.Circuit(text.text), code, plan.seed, raw=plan.raw)


def _check_records(plan: Plan, code: Code, info: OpenedBody) -> None:
    """Detectors and measurements rarely take the same room; where they do, bits tell."""
    detectors, measured = code.layout.record_bytes, code.measurements
    ours = measured.record_bytes if plan.raw and measured is not None else detectors
    if info.record_bytes != ours:
        theirs, fix = ("detectors", "leave out") if plan.raw else ("measurements", "add")
        raise DataError(
            f"stream '{plan.stream}' takes {theirs}, {info.record_bytes} bytes per round, not "
            f"{ours}: {fix} --raw"
        )


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
