"""`qdec install`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def install(
    instance: Annotated[
        str, typer.Option(help="Name of the QPU: the service is qdec@NAME, its file NAME.toml.")
    ] = "default",
    root: Annotated[
        Path, typer.Option(help="Install below this folder, for packages and images.")
    ] = Path("/"),
    user: Annotated[str, typer.Option(help="Whom the service runs as; made if missing.")] = "qdec",
    executable: Annotated[
        str | None,
        typer.Option(help="qdec, as the unit is to call it.", show_default="the one that runs"),
    ] = None,
    realtime: Annotated[
        bool, typer.Option(help="Have the drop-in that lets lanes take SCHED_FIFO.")
    ] = True,
    gpu: Annotated[
        bool | None,
        typer.Option(
            "--gpu/--no-gpu",
            help="Have the drop-in that lets the accelerator use NVIDIA GPUs.",
            show_default="if there is one",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    uninstall: Annotated[
        bool, typer.Option("--uninstall", help="Remove what was installed.")
    ] = False,
) -> None:
    """Install the service: a systemd unit for each QPU, a user, folders, a first configuration.

    It says each thing that it does, may be run again (after an upgrade, or with another
    --instance), and leaves alone what you have changed: configurations always, units that differ
    from what it wrote. Your changes to units belong into drop-ins ([bold]systemctl edit
    qdec@.service[/bold]). It starts nothing, and prints the commands that do.

    --uninstall removes units, drop-ins and the lists of users and folders, and leaves
    configurations, keys and state.

    Exit status: 1 if a file was kept because it was changed.
    """
    from qdec_tools import install as tool

    wishes = tool.Wishes(
        root,
        instance,
        user,
        executable or (tool.UNIT_EXECUTABLE if uninstall else tool.find_executable()),
        realtime,
        Path("/dev/nvidiactl").exists() if gpu is None else gpu,
    )
    work = tool.uninstall if uninstall else tool.install
    raise typer.Exit(work(wishes, dry_run=dry_run))
