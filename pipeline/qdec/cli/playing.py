"""Rounds for a service: `qpu`, `demo`, `replay`, `layout`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qdec.cli.options import DEFAULT_ENDPOINT, KeyFile, NoiseModel, RoundMap, ServerKeyFile


def qpu(
    endpoint: Annotated[str, typer.Option(help="Where the service listens.")] = DEFAULT_ENDPOINT,
    stream: Annotated[str, typer.Option(help="Name of the stream to open.")] = "qpu",
    configured: Annotated[
        bool, typer.Option(help="The service has this stream in its configuration.")
    ] = False,
    distance: Annotated[int, typer.Option("--distance", "-d", help="Code distance.")] = 5,
    noise: Annotated[float, typer.Option("--noise", "-p", help="Circuit noise.")] = 0.003,
    noise_model: NoiseModel = "uniform",
    task: Annotated[
        str, typer.Option(help="Experiment, as Stim names it.")
    ] = "surface_code:rotated_memory_z",
    rounds: Annotated[
        int,
        typer.Option(
            "--rounds",
            "-r",
            min=0,
            help="Per shot; 0: endless. Of a --circuit, any other number plays its own shots; a "
            "--configured stream has said which.",
        ),
    ] = 0,
    circuit: Annotated[
        Path | None, typer.Option(help="Circuit or DEM file instead of a generated experiment.")
    ] = None,
    round_map: RoundMap = None,
    dets: Annotated[
        Path | None, typer.Option(help="Play these recorded detection events (.b8, .01, .dets).")
    ] = None,
    obs: Annotated[
        Path | None,
        typer.Option(help="The observable flips (.b8, .01, .dets) that go with --dets."),
    ] = None,
    raw: Annotated[bool, typer.Option(help="Send measurements instead of detectors.")] = False,
    windows: Annotated[str | None, typer.Option(help="auto, whole, W,C or W,C,M.")] = None,
    tier: Annotated[str | None, typer.Option(help="matching, correlated or guarded.")] = None,
    deadline_us: Annotated[int | None, typer.Option(min=1, help="Deadline of a window.")] = None,
    cycle_us: Annotated[
        str | None,
        typer.Option(
            "--cycle-us",
            "-c",
            help="Time per round in µs; 0: as credits allow; auto: find out.",
            show_default="auto; with --dets: 10",
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", "-s", min=0.1, help="How long, finding out included.")
    ] = 10.0,
    frame_rounds: Annotated[int | None, typer.Option(min=1, help="Rounds per message.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise.")] = 0,
    key: KeyFile = None,
    server_key: ServerKeyFile = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object last.")] = False,
    json_lines: Annotated[
        bool, typer.Option("--json-lines", help="A JSON object per quarter second, too.")
    ] = False,
) -> None:
    """Simulate a QPU: stream rounds over the real socket, check every frame against the truth.

    Example: [bold]qdec qpu -d 5 -p 0.003 -c 1[/bold] streams an endless d=5 patch, a round per µs.
    """
    from qdec.client import client_keys
    from qdec_tools.qpu_command import Plan, run

    plan = Plan(
        endpoint=endpoint,
        stream=stream,
        configured=configured,
        task=task,
        distance=distance,
        noise=noise,
        noise_model=noise_model,
        rounds=rounds,
        circuit=circuit,
        round_map=round_map,
        dets=dets,
        obs=obs,
        raw=raw,
        windows=windows,
        tier=tier,
        deadline_us=deadline_us,
        cycle_us=cycle_us,
        seconds=seconds,
        frame_rounds=frame_rounds,
        seed=seed,
        keys=client_keys(key, server_key),
    )
    raise typer.Exit(run(plan, as_json=json, json_lines=json_lines))


def demo(
    seconds: Annotated[
        float, typer.Option("--seconds", "-s", min=1, help="How long to stream.")
    ] = 20.0,
    cycle_us: Annotated[
        str, typer.Option("--cycle-us", "-c", help="Of the d=5 patch; auto finds the shortest.")
    ] = "auto",
    json: Annotated[bool, typer.Option("--json", help="One JSON object last.")] = False,
) -> None:
    """Run a service and two simulated patches as separate processes over TCP, and watch them."""
    from qdec_tools.demo import run

    raise typer.Exit(run(seconds, cycle_us, as_json=json))


def replay(
    path: Annotated[
        Path | None,
        typer.Argument(help="An experiment's folder; or name its files with the options below."),
    ] = None,
    tier: Annotated[str, typer.Option(help="matching, correlated or guarded.")] = "matching",
    windows: Annotated[str, typer.Option(help="auto, whole, W,C or W,C,M.")] = "auto",
    shots: Annotated[
        int | None, typer.Option("--shots", "-n", min=1, help="Only the first so many.")
    ] = None,
    circuit: Annotated[Path | None, typer.Option(help="The code, as a Stim circuit.")] = None,
    dem: Annotated[Path | None, typer.Option(help="The code, as a detector error model.")] = None,
    dets: Annotated[Path | None, typer.Option(help="Detection events (.b8, .01, .dets).")] = None,
    measurements: Annotated[
        Path | None, typer.Option(help="Raw measurements (.b8, .01); the code must be a circuit.")
    ] = None,
    sweep: Annotated[
        Path | None, typer.Option(help="Sweep bits (.b8, .01) that go with measurements.")
    ] = None,
    obs: Annotated[
        Path | None, typer.Option(help="What the observables really did (.b8, .01, .dets).")
    ] = None,
    round_map: RoundMap = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="A folder's measurements, not its detection events.")
    ] = False,
    endpoint: Annotated[
        str | None, typer.Option(help="Of a running service; without, a private one is started.")
    ] = None,
    cycle_us: Annotated[
        float, typer.Option("--cycle-us", "-c", min=0, help="Time per round in µs; 0: no wait.")
    ] = 0.0,
    key: KeyFile = None,
    server_key: ServerKeyFile = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object last.")] = False,
) -> None:
    """Replay recorded shots through a service; count failures, compare with other decoders.

    The folder holds [bold]circuit_noisy.stim[/bold] or a [bold]*.dem[/bold], and
    [bold]detection_events.b8[/bold] or [bold]measurements.b8[/bold] (with
    [bold]sweep.b8[/bold]); with [bold]obs_flips_actual.01[/bold] failures are counted, and every
    [bold]obs_flips_predicted_by_*[/bold] is compared shot by shot. A .dets file may hold the
    observables too. An option replaces the folder's file of its kind.

    Example: [bold]qdec replay surface_code_bX_d3_r05_center_3_5 --tier correlated[/bold]

    Example: [bold]qdec replay --circuit c.stim --measurements m.b8 --obs o.01 --json[/bold]
    """
    from qdec.client import client_keys
    from qdec_tools.recording import Sources
    from qdec_tools.replay import run

    sources = Sources(path, circuit, dem, dets, measurements, sweep, obs, round_map, raw)
    raise typer.Exit(
        run(
            sources,
            tier=tier,
            windows=windows,
            shots=shots,
            endpoint=endpoint,
            keys=client_keys(key, server_key),
            cycle_us=cycle_us,
            json=json,
        )
    )


def layout(
    code: Annotated[Path, typer.Argument(help="Stim circuit, or *.dem.")],
    round_: Annotated[
        int | None, typer.Option("--round", "-r", help="Only this round (negative: from the end).")
    ] = None,
    raw: Annotated[bool, typer.Option(help="Measurement records instead of detectors.")] = False,
    round_map: RoundMap = None,
) -> None:
    """Print which bit of a round's record is which detector: the map your electronics need."""
    from qdec_tools.layout import run

    raise typer.Exit(run(code, round_, raw=raw, round_map=round_map))
