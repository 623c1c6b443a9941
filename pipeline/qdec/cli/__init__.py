"""The `qdec` command. Each subcommand imports what it needs when it runs, so that help is quick."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from qdec import __version__
from qdec.cli import (
    chaos,
    engines,
    install,
    keys,
    measuring,
    models,
    playing,
    priors,
    serving,
)
from qdec.errors import ConfigError, QdecError, ServiceUnavailable

app = typer.Typer(
    name="qdec",
    help="Real-time quantum error correction decoding as a service: syndromes in over sockets, "
    "Pauli frames out.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

# Exit statuses, beside 0 and 1 (the work was done, with a bad outcome):
EXIT_USAGE = 2
EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h, which systemd knows
EXIT_UNAVAILABLE = 69  # EX_UNAVAILABLE

for command in (
    serving.serve,
    playing.qpu,
    playing.demo,
    playing.replay,
    serving.status,
    serving.doctor,
    install.install,
    playing.layout,
    chaos.chaos,
    measuring.gate,
    measuring.train,
    measuring.ler,
    measuring.tune,
):
    app.command()(command)
app.add_typer(keys.app, name="keys")
app.add_typer(models.app, name="model")
app.add_typer(engines.app, name="engine")
app.add_typer(priors.app, name="priors")


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


def main() -> None:
    """Entry point: errors that qdec raises on purpose become one line and an exit status."""
    try:
        app()
    except ConfigError as error:
        _fail(error, EXIT_CONFIG)
    except ServiceUnavailable as error:
        _fail(error, EXIT_UNAVAILABLE)
    except QdecError as error:
        _fail(error, EXIT_USAGE)


def _fail(error: Exception, status: int) -> None:
    sys.stderr.write(f"qdec: {error}\n")
    raise SystemExit(status)
