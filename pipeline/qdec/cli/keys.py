"""`qdec keys`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="CURVE keys: who may talk to a service over TCP, and how clients know it is the service.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
KeyFolder = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Folder.", show_default="$XDG_CONFIG_HOME/qdec/keys"),
]


@app.command("new")
def new(
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


@app.command("show")
def show(
    file: Annotated[Path, typer.Argument(help="A .public file, or a .secret one.")],
    json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Show a key's name, its public half, and the short hash that logs have. Never a secret."""
    from qdec_tools import keys

    raise typer.Exit(keys.show(file, as_json=json))


@app.command("list")
def list_keys(
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
    from qdec_tools import keys

    raise typer.Exit(keys.list_keys(folder, as_json=json))
