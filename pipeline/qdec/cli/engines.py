"""`qdec engine`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Engines that run networks, and the plans that TensorRT runs on a GPU.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
PlanFolder = Annotated[
    Path | None,
    typer.Option(
        "--folder",
        help="Where plans are kept: of this user alone, since plans are code.",
        show_default="$CACHE_DIRECTORY/plans, or $XDG_CACHE_HOME/qdec/plans",
    ),
]


@app.command("build")
def build(
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


@app.command("list")
def list_engines(
    folder: PlanFolder = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """List the engines, what is missing for each, and the plans that were built.

    Exit status: 1 if a plan is damaged (it will not be used, and is built again when it is needed).
    """
    from qdec_tools.engine_list import show

    raise typer.Exit(show(folder, as_json=json))


@app.command("clear")
def clear(folder: PlanFolder = None) -> None:
    """Remove all plans. A service that runs keeps what it has loaded."""
    from qdec_tools import engine_list

    raise typer.Exit(engine_list.clear(folder))
