"""The service, and a look at it: `serve`, `status`, `doctor`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from qdec.cli.options import DEFAULT_ENDPOINT, KeyFile, ServerKeyFile
from qdec.errors import ConfigError, EngineError


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
    json: Annotated[bool, typer.Option("--json", help="With --check: one JSON object.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Run the service in the foreground: supervisor, lanes, a warm spare.

    Without a configuration it takes guests (clients that bring their own code) over plain TCP on
    loopback, which every user of this machine can reach. With one, TCP endpoints speak CURVE and
    need keys ([bold]qdec keys --help[/bold]).

    SIGTERM drains and exits. SIGHUP reads again the configuration, the authorised keys and the
    files of codes, priors and networks: what is good takes over at the next boundary of each
    stream's windows, and what is not is refused, with the reason in the log.
    """
    from json import dumps

    from qdec import logs
    from qdec.accelerator.compiled import compile_kinds
    from qdec.bus.endpoints import check_endpoint
    from qdec.config import AUTO, Config, LaneConfig, ServiceSection, load_config, stream_error
    from qdec.doctor.security import insecure
    from qdec.lane.library import Library
    from qdec.neural.engine import check_engine
    from qdec.supervisor.auto import settle
    from qdec.supervisor.keys import curve_secret
    from qdec.supervisor.notify import notify
    from qdec.supervisor.policy import WARM_UP_S
    from qdec.supervisor.run import Supervisor
    from qdec.supervisor.telling import extension

    logs.set_up("supervisor", logging.DEBUG if verbose else logging.INFO)
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
    if any(stream.tier == AUTO for stream in settings.stream):
        notify("STATUS=measuring how to answer streams", extension(WARM_UP_S))
    settings = settle(settings, config)
    if check:
        if settings.accelerated:
            wanted = settings.accelerator
            try:
                why = check_engine(wanted.engine, fallback=wanted.fallback)
            except EngineError as error:
                raise ConfigError(str(error)) from None
            warnings += [f"networks run on the processor: {why}"] if why else []
        library = Library()
        makings = {}
        for index, stream in enumerate(settings.stream):
            try:
                library.warm(stream, settings.service.max_stream_bytes)
                if stream in settings.accelerated:
                    compile_kinds(library, stream)
            except ConfigError as error:
                assert config is not None  # there are no streams without one
                raise stream_error(str(error), config, index) from None
            makings[stream.name] = library.making(stream)
            if not json:
                identity = f"{makings[stream.name].identity:016x}"
                typer.echo(f"stream {stream.name}: ok, identity {identity}")
        if json:
            told = {name: making._asdict() for name, making in makings.items()}
            typer.echo(dumps({"streams": told, "warnings": warnings}))
            return
        for warning in warnings:
            typer.echo(f"warning: {warning}", err=True)
        typer.echo(f"{len(settings.lane)} lanes, {len(settings.stream)} streams: ok")
        return
    for warning in warnings:
        logging.getLogger("qdec.security").warning("%s", warning)
    raise typer.Exit(Supervisor(settings, config).run())


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
