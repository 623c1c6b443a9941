"""`qdec priors`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from qdec.cli.options import one_of

app = typer.Typer(
    help="Noise models that follow the device: probabilities of faults from recorded events.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@app.command("fit")
def fit(
    dem: Annotated[
        Path, typer.Option("--dem", help="The model to start from: *.dem, or a Stim circuit.")
    ],
    dets: Annotated[
        Path, typer.Option("--dets", help="Recorded detection events (.b8, .01, .dets).")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The model to write (*.dem).")],
    shots: Annotated[
        str, typer.Option(help="Which shots, counted from 0: all, even or odd.")
    ] = "all",
    json: Annotated[bool, typer.Option("--json", help="One JSON object last.")] = False,
) -> None:
    """Fit the probabilities of a model's faults to what a device's detectors did.

    From how often each detector fires, and each pair of them together, follow sums of the
    probabilities of faults; where they leave something open, the given model decides. Faults stay
    what they are, and how they are decomposed: only probabilities change. Detectors need
    coordinates, since the same place does the same in every round, about.

    Use the result as [bold]prior[/bold] of a [bold][[stream]][/bold] table, or wherever a DEM goes.

    Example: [bold]qdec priors fit --dem circuit.stim --dets events.b8 -o fitted.dem[/bold]
    """
    from qdec_tools.priors import Wish, run

    which: Any = one_of("--shots", shots, ("all", "even", "odd"))
    raise typer.Exit(run(Wish(dem, dets, which, out), as_json=json))
