"""A service of one's own for as long as a block lasts: private, on free endpoints, cleaned up."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from qdec.client import (
    ClientKeys,
    CodeText,
    Patience,
    Stream,
    open_stream,
    service_status,
)
from qdec.errors import Refused, ServiceUnavailable, WireCode

Transport = Literal["ipc", "tcp"]
Setting = str | int | float | bool

# Its own session, so that a terminal's Ctrl-C is ours to handle; and it dies with us even where
# we are killed and can do nothing any more.
_CHILD = (
    "import sys; from qdec.lane.realtime import die_with_parent; "
    "die_with_parent(int(sys.argv.pop(1))); from {module} import main; main()"
)
COMMAND = "qdec.cli"
_MAX_DIRECTORY = 60  # leaves room for a socket's name in sockaddr_un
# Compiling a large guest's code takes a lane tens of seconds, in which it answers nobody.
COMPILE_S = 120.0
_ANSWERS_S = 5.0
_STOP_S = 20.0  # a drain takes at most 10 s by default, and the supervisor gives 5 more


@dataclass(frozen=True, slots=True)
class Service:
    """A running service.

    Attributes:
        endpoints: one per lane.
        pid: of its supervisor.
        folder: private; holds all of the below and goes when the service goes.
        config: its configuration; edit it and send SIGHUP to have it read again.
        log: what it writes to stderr.
    """

    endpoints: tuple[str, ...]
    pid: int
    folder: Path
    config: Path
    log: Path

    @property
    def endpoint(self) -> str:
        """Where lane 0 listens."""
        return self.endpoints[0]


@contextmanager
def running_service(
    lanes: int = 1,
    transport: Transport = "ipc",
    *,
    spare_lanes: int = 0,
    settings: Mapping[str, Setting] | None = None,
    tables: str = "",
    ready_s: float = 30.0,
    keys: ClientKeys | None = None,
    program: str = COMMAND,
) -> Iterator[Service]:
    """Start ``qdec serve``, wait until every lane answers, stop it when the block ends.

    ::

        with running_service() as service:
            stream = open_stream(service.endpoint, "mine", code=CodeText("circuit", text))

    However the block ends (an exception, Ctrl-C, even SIGKILL of this process), the service ends
    too. Call it from a thread that outlives the block.

    Args:
        lanes: how many; each gets an endpoint.
        transport: ``ipc`` for sockets in a private folder, ``tcp`` for free loopback ports.
        spare_lanes: warm spares; they cost start-up time, and only fault tests need them.
        settings: further keys of the configuration's ``[service]`` table.
        tables: further TOML behind it, such as ``[[stream]]`` tables (with absolute paths).
        ready_s: how long it may take to answer.
        keys: with which to ask whether it does; `tables` then begin with ``[security]``. Without,
            TCP is plain.
        program: the module whose `main` is run with ``serve``'s arguments; a test's own may change
            what the service is made of, which nobody outside can.

    Raises:
        ServiceUnavailable: it did not start; the message has its last words.
    """
    with ExitStack() as stack:
        crowded = len(tempfile.gettempdir()) > _MAX_DIRECTORY
        where = "/tmp" if crowded else None
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="qdec-", dir=where)))
        if transport == "ipc":
            endpoints = tuple(f"ipc://{folder}/lane{i}.ipc" for i in range(lanes))
        else:
            endpoints = tuple(f"tcp://127.0.0.1:{port}" for port in free_ports(lanes))
        config, log = folder / "qdec.toml", folder / "log"
        own: dict[str, Setting] = {
            "state_dir": str(folder / "state"),
            "spare_lanes": spare_lanes,
            "plain_tcp": keys is None,
            **(settings or {}),
        }
        config.write_text(as_toml(own, endpoints) + tables, encoding="utf-8")
        process = stack.enter_context(serving(config, log, program))
        await_ready(process, endpoints, log, ready_s, keys)
        yield Service(endpoints, process.pid, folder, config, log)


def open_patiently(
    endpoint: str,
    name: str,
    *,
    code: CodeText | None = None,
    patience: Patience | None = None,
    **options: Any,
) -> Stream:
    """Open a stream whose code may first have to be compiled, on a service that answers at all.

    Args:
        endpoint: of any lane of the service.
        name: of the stream.
        code: a guest's code.
        patience: timeouts, but for that of opening.
        options: as `open_stream` takes them.

    Raises:
        Refused: the service said no.
        ServiceUnavailable: nobody is there, or the stream is not open after `COMPILE_S`.
    """
    _is_there(endpoint, _ANSWERS_S, options.get("keys"))
    patience = replace(patience or Patience(), open_s=COMPILE_S)
    return open_stream(endpoint, name, code=code, patience=patience, **options)


def _is_there(endpoint: str, timeout_s: float, keys: ClientKeys | None) -> None:
    """See that a service answers, whether or not it tells us how it is.

    Raises:
        Refused, ServiceUnavailable: as `service_status`.
    """
    try:
        service_status(endpoint, timeout_s, keys=keys)
    except Refused as refused:
        if refused.wire is not WireCode.NOT_ALLOWED:
            raise


def exit_on_sigterm() -> None:
    """Have SIGTERM and SIGHUP unwind the stack, so that what was started is stopped."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda caught, _frame: sys.exit(128 + caught))


def as_toml(service: Mapping[str, Setting], endpoints: tuple[str, ...]) -> str:
    """A configuration's ``[service]`` table and lanes."""
    # JSON's scalars and lists of strings are TOML's, too.
    lines = ["[service]", *(f"{key} = {json.dumps(value)}" for key, value in service.items())]
    for endpoint in endpoints:
        lines += ["[[lane]]", f"endpoints = {json.dumps([endpoint])}"]
    return "\n".join(lines) + "\n"


@contextmanager
def serving(
    config: Path, log: Path, program: str = COMMAND, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """``qdec serve`` as a process of ours, which is stopped when the block ends; see above."""
    code = _CHILD.format(module=program)
    with log.open("ab") as sink:
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(os.getpid()), "serve", "--config", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
    try:
        yield process
    finally:
        try:
            process.terminate()
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            pass
        finally:  # a second Ctrl-C comes through here
            process.kill()
            process.wait()


def await_ready(
    process: subprocess.Popen[bytes],
    endpoints: tuple[str, ...],
    log: Path,
    ready_s: float,
    keys: ClientKeys | None = None,
) -> None:
    """Wait until every lane answers.

    Raises:
        ServiceUnavailable: the process ended, or they did not in time; with its last words.
    """
    give_up = time.monotonic() + ready_s
    for endpoint in endpoints:
        while True:
            try:
                _is_there(endpoint, 0.2, keys)
                break
            except ServiceUnavailable:
                ended = process.poll() is not None
                if ended or time.monotonic() > give_up:
                    why = "it ended" if ended else f"nobody answers after {ready_s:g} s"
                    raise ServiceUnavailable(
                        f"the service could not be started: {why}; its last words: "
                        f"{_last_line(log)}"
                    ) from None


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "(none)"


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago; all are held until the last is known."""
    with ExitStack() as stack:
        socks = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in socks:
            sock.bind(("127.0.0.1", 0))
        return [int(sock.getsockname()[1]) for sock in socks]
