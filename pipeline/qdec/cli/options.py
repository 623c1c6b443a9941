"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_ENDPOINT = "tcp://127.0.0.1:7600"

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


def one_of(option: str, value: str, words: tuple[str, ...]) -> str:
    """`value`, if it is one of some words.

    Raises:
        typer.BadParameter: it is not.
    """
    if value not in words:
        raise typer.BadParameter(f"{option} is one of {', '.join(words)}, not '{value}'")
    return value
