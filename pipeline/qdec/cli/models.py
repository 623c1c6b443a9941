"""`qdec model`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="The networks that tiers answer with: those that come with qdec, and those you import.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
ModelFolder = Annotated[
    Path | None,
    typer.Option(
        "--models",
        help="Where imported models are kept.",
        show_default="$XDG_DATA_HOME/qdec/models",
    ),
]


@app.command("list")
def list_models(
    models: ModelFolder = None,
    json: Annotated[bool, typer.Option("--json", help="As one JSON list.")] = False,
) -> None:
    """List the models: name, family, size, what they were trained on, and what is wrong with them.

    Exit status: 1 if one of them cannot be used.
    """
    from qdec_tools.models import show

    raise typer.Exit(show(models, as_json=json))


@app.command("import")
def bring_in(
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
    from qdec_tools import models as kept

    raise typer.Exit(kept.bring_in(file, name, models, as_json=json))


@app.command("export")
def export(
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


@app.command("quantise")
def quantise(
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
