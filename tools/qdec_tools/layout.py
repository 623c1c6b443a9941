"""What `qdec layout` does: the records of a code, bit by bit."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from qdec.codes import Code
from qdec.errors import CodeError


def run(path: Path, round_: int | None, *, raw: bool, round_map: Path | None = None) -> int:
    """Print the record layout of a code. Returns the exit status.

    Raises:
        CodeError: the code cannot be served, has no such round, or (raw) is not a circuit.
    """
    code = Code.from_file(path, round_map=round_map).streamed(raw=raw)
    space, console = code.spacetime, Console()
    console.print(
        f"{path.name}: {space.rounds} rounds of detectors, {code.layout.num_detectors} detectors, "
        f"{code.num_observables} observables, distance {code.distance or 'unknown'}"
    )
    if space.period:
        repeats = space.rounds - space.head - space.tail
        console.print(
            f"rounds {space.head}...{space.head + repeats - 1} repeat with period {space.period}: "
            "the code can be streamed endlessly"
        )
    elif code.detector_spacetime.period:
        console.print(
            "the rounds repeat, but not how they are measured: detectors can be streamed "
            "endlessly, measurements only as shots"
        )
    else:
        console.print("no round repeats: the code can only be streamed as shots")
    console.print(
        f"mechanisms span at most {space.span} rounds: windows need W - C >= {space.span}"
    )
    rounds = range(space.rounds)
    if round_ is not None:
        if not -space.rounds <= round_ < space.rounds:
            raise CodeError(f"there is no round {round_}: the code has {space.rounds}")
        rounds = range(round_ % space.rounds, round_ % space.rounds + 1)
    table = _measurements(code, rounds) if raw else _detectors(code, rounds)
    console.print(table)
    return 0


def _detectors(code: Code, rounds: range) -> Table:
    layout = code.layout
    where = code.dem.get_detector_coordinates()
    table = Table(title=f"detector records: {layout.record_bytes} bytes per round, LSB first")
    for name in ("round", "byte", "bit", "detector", "coordinates"):
        table.add_column(name, justify="right")
    for detector in sorted(
        range(layout.num_detectors), key=lambda d: (layout.round_of[d], layout.bit_of[d])
    ):
        at = int(layout.round_of[detector])
        if at in rounds:
            bit = int(layout.bit_of[detector])
            place = ", ".join(f"{x:g}" for x in where.get(detector, []))
            table.add_row(str(at), str(bit >> 3), str(bit & 7), f"D{detector}", place)
    return table


def _measurements(code: Code, rounds: range) -> Table:
    measured = code.measurements
    if measured is None:
        raise CodeError("a DEM does not say what is measured: give the circuit")
    table = Table(title=f"measurement records: {measured.record_bytes} bytes per round, LSB first")
    for name in ("round", "bytes", "holds"):
        table.add_column(name)
    first = 0
    for r in range(code.spacetime.rounds):
        n = measured.used_bits(r, code.spacetime.rounds)
        if r in rounds:
            if n:
                table.add_row(
                    str(r), f"0...{(n - 1) // 8}", f"rec[{first}] ... rec[{first + n - 1}]"
                )
            else:
                table.add_row(str(r), "–", "no measurement")
            if r == 0 and measured.num_sweep_bits:
                at, end = measured.sweep_offset, measured.sweep_offset + measured.sweep_bytes - 1
                table.add_row(
                    "0", f"{at}...{end}", f"sweep[0] ... sweep[{measured.num_sweep_bits - 1}]"
                )
        first += n
    return table
