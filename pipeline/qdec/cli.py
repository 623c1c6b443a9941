"""The `qdec` command. Each subcommand imports what it needs when it runs, so that help is quick."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from qdec import __version__
from qdec.errors import ConfigError, QdecError, Refused, ServiceUnavailable

app = typer.Typer(
    name="qdec",
    help="Real-time quantum error correction decoding as a service: syndromes in over sockets, "
    "Pauli frames out.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

DEFAULT_ENDPOINT = "tcp://127.0.0.1:7600"
# Exit statuses, beside 0 and 1 (the work was done, with a bad outcome):
EXIT_USAGE = 2
EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h, which systemd knows
EXIT_UNAVAILABLE = 69  # EX_UNAVAILABLE

RoundMap = Annotated[
    Path | None,
    typer.Option("--map", help="Round of each detector, one per line, if it has no time."),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key", help="For CURVE: your secret key's file.", show_default="$QDEC_KEY, or plain TCP"
    ),
]
ServerKeyFile = Annotated[
    Path | None,
    typer.Option(
        "--server-key", help="The service's public key's file.", show_default="$QDEC_SERVER_KEY"
    ),
]
NoiseModel = Annotated[
    str,
    typer.Option(
        help="What fails how often at --noise p: uniform (everything with p), or si1000 "
        "(superconducting-inspired: measurements 5p, resets 2p, waiting for them 2p)."
    ),
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"qdec {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def serve(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="TOML file; see configs/qdec.toml for every setting."),
    ] = None,
    endpoint: Annotated[
        list[str] | None,
        typer.Option(help="Without --config: where to listen.", show_default=DEFAULT_ENDPOINT),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Check the configuration and its codes, then exit.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Run the service in the foreground: supervisor, lanes, a warm spare.

    Without a configuration it takes guests (clients that bring their own code) over plain TCP on
    loopback, which every user of this machine can reach. With one, TCP endpoints speak CURVE and
    need keys ([bold]qdec keys --help[/bold]).

    SIGTERM drains and exits; SIGHUP reads the configuration and the authorised keys again.
    """
    from qdec.accelerator.compiled import compile_kinds
    from qdec.bus.endpoints import check_endpoint
    from qdec.config import Config, LaneConfig, ServiceSection, load_config, stream_error
    from qdec.doctor.security import insecure
    from qdec.lane.library import Library
    from qdec.supervisor.auto import settle
    from qdec.supervisor.keys import curve_secret
    from qdec.supervisor.run import Supervisor

    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(name)s %(levelname)s %(message)s",
        stream=sys.stderr,
    )
    if config is not None and endpoint:
        raise typer.BadParameter("--endpoint goes without --config")
    if config is not None:
        settings = load_config(config)
    else:
        chosen = tuple(check_endpoint(one) for one in endpoint or [DEFAULT_ENDPOINT])
        lane = LaneConfig(endpoints=chosen)
        settings = Config(service=ServiceSection(plain_tcp=True), lane=(lane,))
    curve_secret(settings)  # before anything that takes time
    warnings = insecure(settings)
    settings = settle(settings, config)
    if check:
        library = Library()
        for index, stream in enumerate(settings.stream):
            try:
                library.warm(stream, settings.service.max_stream_bytes)
                if stream in settings.accelerated:
                    compile_kinds(library, stream)
            except ConfigError as error:
                assert config is not None  # there are no streams without one
                raise stream_error(str(error), config, index) from None
            typer.echo(f"stream {stream.name}: ok")
        for warning in warnings:
            typer.echo(f"warning: {warning}", err=True)
        typer.echo(f"{len(settings.lane)} lanes, {len(settings.stream)} streams: ok")
        return
    for warning in warnings:
        logging.getLogger("qdec.security").warning("%s", warning)
    raise typer.Exit(Supervisor(settings, config).run())


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
def status(
    endpoint: Annotated[str, typer.Argument(help="Of a lane.")] = DEFAULT_ENDPOINT,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh until Ctrl-C.")] = False,
    key: KeyFile = None,
    server_key: ServerKeyFile = None,
    json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Show a running lane: its streams, stages and counters."""
    from qdec.client import client_keys
    from qdec_tools.status import run

    keys = client_keys(key, server_key)
    raise typer.Exit(run(endpoint, keys=keys, watch=watch, as_json=json))


@app.command()
def doctor(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Look with this configuration's wishes, and at it."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Say what this machine has for real-time decoding, and the fix for what is missing.

    [bold]ok[/bold] is as it should be. [bold]warn[/bold] costs latency or safety, and the service
    runs all the same. [bold]fail[/bold] is something that the service, or its configuration,
    cannot do without. [bold]unknown[/bold]: the machine does not say, as virtual ones often do.
    Every warn and fail comes with its fix: a command, or a line of a file.

    It takes about four seconds, changes nothing, and may run beside a service. Permissions and
    limits belong to a user and a unit, so run it as the service runs, for example

    [bold]systemd-run --pipe --uid=qdec -p LimitRTPRIO=21 -p LimitMEMLOCK=infinity qdec doctor -c
    /etc/qdec/qdec.toml[/bold]

    Exit status: 0 if nothing fails, warnings or not; 1 otherwise. With --json, standard output is
    one object: checks (a list of group, name, status, value, fix), ok, warnings, failures.
    """
    from qdec.doctor.report import run

    raise typer.Exit(run(config, as_json=json))


keys = typer.Typer(
    help="CURVE keys: who may talk to a service over TCP, and how clients know it is the service.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
app.add_typer(keys, name="keys")
KeyFolder = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Folder.", show_default="$XDG_CONFIG_HOME/qdec/keys"),
]


@keys.command("new")
def keys_new(
    name: Annotated[str, typer.Argument(help="What to call it: service, or a client's name.")],
    out: KeyFolder = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object last.")] = False,
) -> None:
    """Make a key: NAME.secret (mode 0600, for its owner alone) and NAME.public.

    The service needs one, and each client one of its own. What a client's key may do stands in a
    [bold][[key]][/bold] table of the service's authorised keys; one is printed to begin with.

    Example: [bold]qdec keys new service --out /etc/qdec[/bold]
    """
    from qdec_tools.keys import make

    raise typer.Exit(make(name, out, as_json=json))


@keys.command("show")
def keys_show(
    file: Annotated[Path, typer.Argument(help="A .public file, or a .secret one.")],
    json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Show a key's name, its public half, and the short hash that logs have. Never a secret."""
    from qdec_tools.keys import show

    raise typer.Exit(show(file, as_json=json))


@keys.command("list")
def keys_list(
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of keys, or a file of authorised ones.",
            show_default="$XDG_CONFIG_HOME/qdec/keys",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="As one JSON list.")] = False,
) -> None:
    """List the keys in a folder, or what those in a file of authorised keys may do.

    Exit status: 1 if one of them cannot be used.
    """
    from qdec_tools.keys import list_keys

    raise typer.Exit(list_keys(folder, as_json=json))


@app.command()
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


@app.command()
def gate(
    code: Annotated[
        str, typer.Argument(help="Circuit or *.dem file, or the distance of a memory experiment.")
    ] = "3",
    noise: Annotated[
        float, typer.Option("--noise", "-p", help="Of the experiment: above 0, up to 0.5.")
    ] = 0.001,
    tier: Annotated[
        str, typer.Option(help="Tiers separated by commas, or all that can be had.")
    ] = "all",
    weight: Annotated[
        int,
        typer.Option(
            "--weight", "-w", min=1, max=4, help="Faults per shot; a code corrects (d - 1) / 2."
        ),
    ] = 1,
    windows: Annotated[str, typer.Option(help="auto, whole, W,C or W,C,M.")] = "whole",
    near: Annotated[
        bool,
        typer.Option(
            "--near", help="Faults along shortest logical errors: the hardest to tell apart."
        ),
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Most shots per tier; a random choice where there are more.",
            show_default="2,000,000; with --near 50,000",
        ),
    ] = None,
    round_map: RoundMap = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object last.")] = False,
) -> None:
    """Put a code through the fault-distance gate: every fault (or set of faults), every tier.

    A code of distance d corrects any (d - 1) / 2 faults; a tier that does not has given distance
    away, and loses at low noise. Exit status: 0 if every tier passed, 1 if one failed.

    Example: [bold]qdec gate 5 --weight 2 --tier matching[/bold] tries all 1.4 million pairs.

    Example: [bold]qdec gate 7 --weight 3 --near[/bold] looks where distance is lost first.
    """
    from qdec_tools.gate import run

    source = int(code) if code.isdigit() else Path(code)
    raise typer.Exit(
        run(
            source,
            round_map=round_map,
            p=noise,
            tier=tier,
            weight=weight,
            near=near,
            windows=windows,
            limit=limit,
            json=json,
        )
    )


model = typer.Typer(
    help="The networks that tiers answer with: those that come with qdec, and those you import.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
app.add_typer(model, name="model")
ModelFolder = Annotated[
    Path | None,
    typer.Option(
        "--models",
        help="Where imported models are kept.",
        show_default="$XDG_DATA_HOME/qdec/models",
    ),
]


@model.command("list")
def model_list(
    models: ModelFolder = None,
    json: Annotated[bool, typer.Option("--json", help="As one JSON list.")] = False,
) -> None:
    """List the models: name, family, size, what they were trained on, and what is wrong with them.

    Exit status: 1 if one of them cannot be used.
    """
    from qdec_tools.models import show

    raise typer.Exit(show(models, as_json=json))


@model.command("import")
def model_import(
    file: Annotated[Path, typer.Argument(help="A .safetensors file.")],
    name: Annotated[
        str | None,
        typer.Option(help="What to call it.", show_default="ising-N, or the file's name"),
    ] = None,
    models: ModelFolder = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object last.")] = False,
) -> None:
    """Check a model and keep it, so that streams can name it.

    The file is one of NVIDIA's published Ising Decoding models (1 to 5, fp16 or fp32; they are
    licensed apart from qdec, so bring your own), or one that qdec trained. Its metadata, shapes and
    values are checked; its tensors are hashed, and the hash is checked whenever it is loaded.

    Example: [bold]qdec model import predecoder_fp16.safetensors --name fast[/bold]
    """
    from qdec_tools.models import bring_in

    raise typer.Exit(bring_in(file, name, models, as_json=json))


@model.command("export")
def model_export(
    name: Annotated[str, typer.Argument(help="A model of a soft tier: its name, or its file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The ONNX file to write.")],
    distance: Annotated[int, typer.Option("--distance", "-d", help="Of the code, 2 to 63.")],
    rounds: Annotated[int, typer.Option("--rounds", "-r", help="Of detectors in the window.")],
    basis: Annotated[str, typer.Option(help="What the memory experiment keeps: X or Z.")] = "Z",
    noise: Annotated[
        float, typer.Option("--noise", "-p", help="Uniform circuit noise, above 0, up to 0.5.")
    ] = 0.003,
    whole: Annotated[
        bool, typer.Option("--whole", help="A whole shot, not a window in mid-stream.")
    ] = False,
    models: ModelFolder = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object last.")] = False,
) -> None:
    """Write a network as ONNX, for one kind of window, to be run elsewhere.

    The file is for windows of that many rounds of the rotated surface code's memory experiment, any
    number of them at once: [bold]events[/bold] float32 (B, 4, T, H, W) of 0 and 1 go in,
    [bold]change[/bold] float32 (B, channels, T, H, W) comes out, to be added to the edges' prior
    log-odds. Where each bit of a round's record goes, and which of the output are edges with which
    priors, stands in its metadata as JSON (events, places, prior).

    Example: [bold]qdec model export speed -d 5 -r 12 -o speed-d5.onnx[/bold]
    """
    from qdec_tools.model_export import Wish, run

    wish = Wish(distance, rounds, basis.upper(), noise, whole)
    raise typer.Exit(run(name, wish, output, models, as_json=json))


@model.command("quantise")
def model_quantise(
    name: Annotated[str, typer.Argument(help="A model of a soft tier: its name, or its file.")],
    windows: Annotated[
        int,
        typer.Option(min=64, max=20_000, help="Windows of each kind to measure with."),
    ] = 2000,
    tolerance: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Rise of the loss that is allowed, as a share: .005 is half a %."
        ),
    ] = 0.005,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The file to write.", show_default="NAME-int8 among --models"
        ),
    ] = None,
    models: ModelFolder = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object last.")] = False,
) -> None:
    """Prepare a network to run in 8 bits, if that costs it next to nothing.

    Quick processors (with VNNI or AMX instructions) multiply whole numbers of 8 bits in half the
    time that bf16 takes. How large what each layer is given gets is measured on windows drawn from
    the fault model, both bases, d = 3 to 9; weights need no measuring. Then, on other windows, what
    the network says of their edges is compared with what happened, before and after. Layers that
    raise the loss (nats per window) beyond --tolerance stay in floating point; where not one layer
    can be rounded, nothing is written.

    The new file has the same weights, and what was measured beside them. Wherever it is used it
    runs in 8 bits if the processor can, and as before if not. Its hash is another, so streams that
    were begun with the old file are not resumed with the new one.

    Exit status: 1 if 8 bits cost too much.

    Examples:

    [bold]qdec model quantise speed[/bold], then tier = "speed" with model = "speed-int8"

    [bold]qdec model quantise runs/accuracy/accuracy.safetensors -o accuracy.safetensors[/bold]
    """
    from qdec_tools.model_quantise import run

    raise typer.Exit(run(name, output, models, windows=windows, tolerance=tolerance, as_json=json))


engine = typer.Typer(
    help="Engines that run networks, and the plans that TensorRT runs on a GPU.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
app.add_typer(engine, name="engine")
PlanFolder = Annotated[
    Path | None,
    typer.Option(
        "--folder",
        help="Where plans are kept: of this user alone, since plans are code.",
        show_default="$CACHE_DIRECTORY/plans, or $XDG_CACHE_HOME/qdec/plans",
    ),
]


@engine.command("build")
def engine_build(
    config: Annotated[
        Path | None,
        typer.Argument(help="A configuration: everything that its accelerated streams will run."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Instead: a model, by name or file.")
    ] = None,
    distance: Annotated[
        str, typer.Option("--distance", "-d", help="Of the rotated surface code: 7 or 7,13.")
    ] = "5",
    windows: Annotated[
        str, typer.Option("--windows", "-w", help="auto, or W,C in rounds; whole with --rounds.")
    ] = "auto",
    rounds: Annotated[
        int | None,
        typer.Option("--rounds", "-r", min=2, help="Of finite shots; endless streams without."),
    ] = None,
    noise: Annotated[float, typer.Option("--noise", "-p", help="Probability of a fault.")] = 0.003,
    basis: Annotated[str, typer.Option(help="Of the memory: x or z.")] = "z",
    batch: Annotated[
        str | None,
        typer.Option(
            help="Windows run together, a profile for each.",
            show_default="as the service: 1,4,16,64",
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="fp32, fp16 or int8.", show_default="as the configuration, else fp16"),
    ] = None,
    capability: Annotated[
        str | None,
        typer.Option(
            "--compute-capability", help="Build for a GPU that is not here (TensorRT-RTX): 9.0."
        ),
    ] = None,
    again: Annotated[bool, typer.Option(help="Build what is there already, too.")] = False,
    folder: PlanFolder = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object last.")] = False,
) -> None:
    """Build TensorRT's plans ahead of time, and keep them: the service then starts in seconds.

    A plan is for one network, size of window, precision, GPU and version of TensorRT. Networks of
    the own family have the code's error model in them, so theirs are for one code: name the
    configuration. Run it as the user that the service runs as. It keeps the GPU busy, so not beside
    a service that uses it. What is missing when the service starts is built then; while windows are
    decoded, nothing is. None of this has run on a GPU yet.

    Examples:

    [bold]qdec engine build qdec.toml[/bold]

    [bold]qdec engine build --model ising-1 -d 13 -w 26,13 --batch 1,8,64[/bold]
    """
    from qdec_tools.engine_build import Wish, run

    wish = Wish(
        config, model, distance, windows, rounds, noise, basis, batch, precision, capability
    )
    raise typer.Exit(run(wish, folder, again=again, as_json=json))


@engine.command("list")
def engine_list(
    folder: PlanFolder = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """List the engines, what is missing for each, and the plans that were built.

    Exit status: 1 if a plan is damaged (it will not be used, and is built again when it is needed).
    """
    from qdec_tools.engine_list import show

    raise typer.Exit(show(folder, as_json=json))


@engine.command("clear")
def engine_clear(folder: PlanFolder = None) -> None:
    """Remove all plans. A service that runs keeps what it has loaded."""
    from qdec_tools.engine_list import clear

    raise typer.Exit(clear(folder))


def _recipes() -> list[str]:
    from qdec_tools.training import RECIPES

    return sorted(path.stem for path in RECIPES.glob("*.toml"))


@app.command()
def train(
    recipe: Annotated[
        str,
        typer.Argument(help=f"A TOML file, or a shipped recipe: {', '.join(_recipes())}."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the run; what is in it already is gone on with."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", help="Model (name or file) whose weights a new run begins with."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32, bf16, or auto.")] = "auto",
    threads: Annotated[int, typer.Option(min=0, help="Of the processor; 0: every core.")] = 0,
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Processes that draw data ahead.", show_default="as the device"),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Instead of the recipe's; more goes on with a run.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(min=0, help="Stop after that long.")] = None,
    every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 100,
    shots: Annotated[
        int, typer.Option(min=0, help="Shots of the early looks at error rates; 0: none.")
    ] = 2000,
) -> None:
    """Train a network: of a soft tier, or of Ising's shape.

    Every run leaves a checkpoint, a curve (JSON lines and an image) and a model file. The same
    command goes on with it, exactly, also on another machine: copy the folder there. What a step
    trains on depends only on the recipe and the step's number.

    Needs PyTorch: pip install 'qdec\\[train]'. Exit status: 0 when all steps are made, 130 when
    stopped before (Ctrl-C, --minutes), with a checkpoint.
    """
    from qdec_tools.training.command import run

    raise typer.Exit(
        run(
            recipe,
            out=out or Path("runs") / Path(recipe).stem,
            start=start,
            device=_one_of("--device", device, ("auto", "cpu", "cuda")),
            precision=_one_of("--precision", precision, ("auto", "fp32", "bf16")),
            threads=threads,
            workers=workers,
            steps=steps,
            minutes=minutes,
            every=every,
            shots=shots,
        )
    )


@app.command()
def ler(
    distances: Annotated[
        str, typer.Option("--distances", "-d", help="Of the rotated surface code: 3,5,7.")
    ] = "3,5",
    rounds: Annotated[
        str, typer.Option("--rounds", "-r", help="Per shot: d, 2d, 20, or several.")
    ] = "d",
    noise: Annotated[str, typer.Option("--noise", "-p", help="Strengths: 0.003,0.006.")] = "0.003",
    noise_model: NoiseModel = "uniform",
    basis: Annotated[str, typer.Option(help="Of the memory: x, z or both.")] = "x,z",
    tiers: Annotated[
        str, typer.Option("--tiers", "-t", help="All of them decode the same shots.")
    ] = "matching,correlated,guarded",
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="TIER=NAME",
            help="A tier's network, instead of the package's: a name, or a file.",
        ),
    ] = None,
    windows: Annotated[
        str, typer.Option(help="auto, whole or W,C; also multiples of d, like 2d,d.")
    ] = "whole",
    shots: Annotated[
        int, typer.Option("--shots", "-n", min=1, help="Per distance, rounds, noise and basis.")
    ] = 20_000,
    until_failures: Annotated[
        int, typer.Option(min=0, help="Fewer shots where every tier has failed so often; 0: never.")
    ] = 0,
    reference: Annotated[
        str | None,
        typer.Option(
            help="Tier that the others are compared with.", show_default="correlated, or the first"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the shots.")] = 0,
    processes: Annotated[
        str, typer.Option("--processes", "-j", help="That decode: a number, or auto: every core.")
    ] = "auto",
    save: Annotated[
        Path | None,
        typer.Option(help="Keep finished blocks in this file (JSON lines), and go on from it."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw curves into this .svg, .pdf or .png.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="A list of rows as the last line.")] = False,
) -> None:
    """Measure the logical error rate and the time per round of tiers, on the same shots.

    Every tier decodes every shot, so that two of them are told apart by the few shots that only
    one fails: [bold]wins[/bold] were failed by the reference alone, [bold]losses[/bold] by the
    other alone, and σ is McNemar's statistic. Intervals are 95 % likelihood ratios, as sinter's.

    Time is CPU time in the tier's decode calls alone, compiled and warm, per round of the
    experiment. It is the time of a batch; a live window costs more (see perf/).

    With --save, a run that was stopped goes on where it was, more --shots or --tiers add what is
    missing, and nothing is decoded twice.

    Example: [bold]qdec ler -d 5,7 -p 0.003,0.006 -n 200000 --save ler.jsonl --plot ler.svg[/bold]
    """
    from qdec_tools.ler.command import run
    from qdec_tools.ler.points import parse_points

    raise typer.Exit(
        run(
            parse_points(distances, rounds, noise, basis, windows, noise_model, model or ()),
            tiers=tiers,
            shots=shots,
            until_failures=until_failures,
            reference=reference,
            seed=seed,
            processes=processes,
            save=save,
            plot_to=plot,
            as_rows=json,
        )
    )


@app.command()
def tune(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Tune the streams of this configuration."),
    ] = None,
    distances: Annotated[
        str, typer.Option("--distances", "-d", help="Without --config: of endless patches.")
    ] = "3,5,7",
    noise: Annotated[
        str, typer.Option("--noise", "-p", help="Without --config: uniform circuit noise.")
    ] = "0.003",
    windows: Annotated[
        str, typer.Option(help="Without --config: auto, W,C or W,C,M in rounds.")
    ] = "auto",
    deadline_us: Annotated[
        int | None, typer.Option(min=1, help="Of a window, instead of the configuration's.")
    ] = None,
    cycle_us: Annotated[
        float | None, typer.Option("--cycle-us", help="Time per round, to know what keeps up.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Measure anew, whatever is remembered.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object last.")] = False,
) -> None:
    """Measure the tiers on this machine and say which one [bold]tier = "auto"[/bold] would take.

    For each stream every tier, and ladders that ask a stronger tier where the first is not sure,
    answer windows drawn from the stream's own error model, those that they would be served in and
    in which plain matching is compared with them: µs for a window alone (median
    and 99th percentile) and in batches, windows answered wrongly, and what the fault-distance gate
    says. Plain matching is taken unless another one is fast enough, keeps up, and is shown to be
    better. It takes some seconds per stream; measurements are remembered in the state directory,
    and [bold]qdec serve[/bold] decides from the same ones.

    Example: [bold]qdec tune -d 5,7 -p 0.003,0.006 --cycle-us 1[/bold]
    """
    from qdec_tools.tune import Wish, run

    wish = Wish(config, distances, noise, windows, deadline_us, cycle_us)
    raise typer.Exit(run(wish, again=again, json=json))


def main() -> None:
    """Entry point: errors that qdec raises on purpose become one line and an exit status."""
    try:
        app()
    except ConfigError as error:
        _fail(error, EXIT_CONFIG)
    except ServiceUnavailable as error:
        _fail(error, EXIT_UNAVAILABLE)
    except Refused as error:
        _fail(error, EXIT_USAGE)
    except QdecError as error:
        _fail(error, EXIT_USAGE)


def _one_of(option: str, value: str, words: tuple[str, ...]) -> str:
    if value not in words:
        raise typer.BadParameter(f"{option} is one of {', '.join(words)}, not '{value}'")
    return value


def _fail(error: Exception, status: int) -> None:
    sys.stderr.write(f"qdec: {error}\n")
    raise SystemExit(status)
