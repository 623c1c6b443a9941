"""How good a tier is, and how to make a better one: `gate`, `ler`, `tune`, `train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qdec.cli.options import NoiseModel, RoundMap, one_of


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


def _recipes() -> list[str]:
    from qdec_tools.training import RECIPES

    return sorted(path.stem for path in RECIPES.glob("*.toml"))


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
            device=one_of("--device", device, ("auto", "cpu", "cuda")),
            precision=one_of("--precision", precision, ("auto", "fp32", "bf16")),
            threads=threads,
            workers=workers,
            steps=steps,
            minutes=minutes,
            every=every,
            shots=shots,
        )
    )


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
