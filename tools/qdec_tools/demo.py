"""What `qdec demo` does: a service and two patches as separate processes over TCP, watched live."""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from qdec.client import service_status
from qdec.errors import QdecError, ServiceUnavailable
from qdec.security.keys import forget_environment
from qdec_tools.circuits import memory
from qdec_tools.qpu_command import parse_cycle
from qdec_tools.service import Service, exit_on_sigterm, running_service
from qdec_tools.view import dashboard

_REFRESH_S = 0.5
_TEMPLATE_ROUNDS = 12
_LEAST_S = 1.0
# Late windows of our own making that the summary accepts, as a share of all.
_LATE_SHARE = 0.001


@dataclass(frozen=True, slots=True)
class Patch:
    """One simulated patch."""

    name: str
    distance: int
    noise: float
    cycle_us: str


@dataclass(slots=True)
class _Running:
    patch: Patch
    process: subprocess.Popen[bytes]
    last: dict[str, Any] = field(default_factory=dict)
    buffer: bytes = b""

    @property
    def settled(self) -> bool:
        """Whether it streams at its cycle time, or is gone."""
        return bool(self.last.get("cycle_us")) or self.process.poll() is not None


def run(seconds: float, cycle_us: str, *, as_json: bool) -> int:
    """Run the demo. Returns 0 if every window was answered, else 1; lateness is reported."""
    exit_on_sigterm()
    parse_cycle(cycle_us)  # before anything is started
    patches = (
        Patch("patch-d5", 5, 0.003, cycle_us),
        Patch("patch-d3", 3, 0.003, "20"),
    )
    forget_environment()  # our own service is plain, and does not know them
    console = Console(stderr=as_json)
    console.print("starting a service with one lane and a warm spare …")
    try:
        with (
            tempfile.TemporaryDirectory(prefix="qdec-demo-") as folder,
            running_service(
                transport="tcp", spare_lanes=1, tables=_tables(patches, Path(folder))
            ) as service,
        ):
            results, status = _watch(service, patches, Path(folder), seconds, console)
    except KeyboardInterrupt:
        return 130
    return _summary(results, status, console, as_json=as_json)


def _tables(patches: tuple[Patch, ...], folder: Path) -> str:
    """Streams of the configuration, so that nothing is compiled while the other one runs."""
    tables = []
    for patch in patches:
        circuit = _circuit(patch, folder)
        circuit.write_text(str(memory(patch.distance, _TEMPLATE_ROUNDS, patch.noise)))
        names = json.dumps(patch.name), json.dumps(str(circuit))
        tables.append("[[stream]]\nname = {}\ncode = {}\nendless = true\n".format(*names))
    return "".join(tables)


def _circuit(patch: Patch, folder: Path) -> Path:
    return folder / f"{patch.name}.stim"


def _watch(
    service: Service,
    patches: tuple[Patch, ...],
    folder: Path,
    seconds: float,
    console: Console,
) -> tuple[list[_Running], dict[str, Any]]:
    waiting = list(patches)
    until = time.monotonic() + seconds
    runs: list[_Running] = []
    title = (
        f"qdec demo: lane at {service.endpoint}, endless rotated surface codes, "
        "uniform circuit noise p = 0.003"
    )
    status: dict[str, Any] | None = None
    with (
        selectors.DefaultSelector() as selector,
        Live(console=console, auto_refresh=False, transient=True) as live,
    ):
        next_view = 0.0
        try:
            while waiting or selector.get_map():
                # The first patch floods the lane to find its cycle time; the others come after.
                if waiting and (not runs or runs[0].settled):
                    rest_s = max(_LEAST_S, until - time.monotonic())
                    one = _start(waiting.pop(0), folder, service.endpoint, rest_s)
                    runs.append(one)
                    assert one.process.stdout is not None
                    selector.register(one.process.stdout, selectors.EVENT_READ, one)
                for key, _ in selector.select(_REFRESH_S):
                    if not _read(key.data):
                        selector.unregister(key.fileobj)
                if console.is_terminal and time.monotonic() >= next_view:
                    next_view = time.monotonic() + _REFRESH_S
                    status = _ask(service.endpoint) or status
                    live.update(dashboard(title, _rows(runs), status), refresh=True)
        finally:
            for one in runs:
                one.process.terminate()
                one.process.wait()
    final = _ask(service.endpoint)
    if final is None:
        raise ServiceUnavailable("the lane does not answer any more")
    return runs, final


def _start(patch: Patch, folder: Path, endpoint: str, seconds: float) -> _Running:
    options = {
        "--endpoint": endpoint,
        "--stream": patch.name,
        "--circuit": str(_circuit(patch, folder)),
        "--cycle-us": patch.cycle_us,
        "--seconds": str(seconds),
    }
    command = [sys.executable, "-m", "qdec", "qpu", "--json-lines", "--configured"]
    for name, value in options.items():
        command += [name, value]
    return _Running(
        patch, subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    )


def _read(one: _Running) -> bool:
    """Take a patch's reports. False at the end of its output."""
    assert one.process.stdout is not None
    data = one.process.stdout.read1(1 << 16)  # type: ignore[attr-defined]
    *lines, one.buffer = (one.buffer + data).split(b"\n")
    for line in lines:
        one.last = json.loads(line)
    if not data:
        one.process.wait()
    return bool(data)


def _ask(endpoint: str) -> dict[str, Any] | None:
    try:
        return service_status(endpoint, 1.0)
    except QdecError:
        return None


def _rows(runs: list[_Running]) -> list[dict[str, Any]]:
    return [{**one.last, "stream": one.patch.name} for one in runs if one.last]


def _summary(
    runs: list[_Running], status: dict[str, Any], console: Console, *, as_json: bool
) -> int:
    rows = _rows(runs)
    console.print(dashboard("summary", rows, status))
    problems, warnings = [], []
    for one in runs:
        if one.process.returncode or not one.last.get("final"):
            problems.append(f"{one.patch.name}: the simulator failed ({one.process.returncode})")
            continue
        r = one.last
        if r["late_share"] > _LATE_SHARE:
            warnings.append(
                f"{one.patch.name}: {r['late_share']:.2%} of its windows were late beyond the "
                "scheduler's own delays: is this machine busy with something else?"
            )
        if r["backlog"]:
            problems.append(f"{one.patch.name}: {r['backlog']} rounds were never committed")
    first, patch = runs[0].last, runs[0].patch
    if first.get("windows"):
        console.print(
            f"d={patch.distance} ran at {first['cycle_us']:g} µs per round for "
            f"{first['seconds']:.1f} s: {first['rounds']:,} rounds, every window answered in "
            f"order, {first['late_share']:.3%} of them late beyond the scheduler's own delays, "
            f"{first['errors']:,} logical errors against the truth."
        )
    for warning in warnings:
        console.print(f"[yellow]{warning}[/]")
    for problem in problems:
        console.print(f"[red]{problem}[/]")
    if as_json:
        print(json.dumps({"patches": rows, "warnings": warnings, "problems": problems}))
    return 1 if problems else 0
