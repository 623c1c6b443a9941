"""What the service does when things go wrong: `chaos`."""

from __future__ import annotations

from typing import Annotated

import typer

_FAULTS = (
    "kill-lane, kill-lanes, kill-spare, kill-accelerator, kill-gateway, restart, stop-lane, "
    "hang-lane, stop-accelerator, hang-accelerator, stop-gateway, stop-supervisor, stop-client, "
    "engine-stalls, engine-slow, engine-nan, engine-garbage, engine-fails, net-cut, net-torn, "
    "net-stalls, net-slow, messages-lost, messages-twice, disk-full, clock-step, cpu-starved, "
    "memory-hog, flood, deaf, reconnects"
)


def chaos(
    seconds: Annotated[
        float, typer.Option("--seconds", "-s", min=1, help="How long faults are injected.")
    ] = 60.0,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the noise, and of what goes wrong when.")
    ] = 1,
    faults: Annotated[
        str | None, typer.Option(help=f"Only these: {_FAULTS}.", show_default="all")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object last.")] = False,
) -> None:
    """Run a service with streams of its own, have things go wrong, check every single answer.

    A real service (supervisor, two lanes, a warm spare, accelerator, gateway) decodes patches of
    mixed distances and tiers for clients in processes of their own, while processes are killed
    and stopped, connections cut, engines made to fail, disks filled. Every answer is compared
    with an offline replay that uses the tier on record for it. docs/faults.md says what each
    fault does, and what was seen.

    Exit status: 1 if a window was lost, delivered twice or answered wrongly.

    Example: [bold]qdec chaos --seconds 30 --faults kill-lane,net-cut[/bold]
    """
    from qdec_tools.chaos.command import run

    raise typer.Exit(run(seconds, seed, faults, as_json=json))
