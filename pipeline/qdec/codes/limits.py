"""Bounds on what a code may ask of us, checked before anything is expanded.

Stim's own parsers are not a safe door for hostile text: nesting 200,000 blocks overflows the C
stack, a tag that the text's end cuts off (``H[``) is read on until memory is full, and detector
counts wrap modulo 2**64 under nested repeats. So the text is scanned before it is parsed, and sizes
are computed here in Python's unbounded integers before anything is flattened.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import stim

from qdec.errors import CodeError, CodeTooLarge


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds for a code that arrives from outside.

    Attributes:
        text_bytes: size of the circuit or DEM text.
        nesting: depth of REPEAT blocks.
        detectors: detectors after expansion.
        observables: logical observables.
        targets: targets of DEM instructions after expansion, one at least for each (bounds
            memory, and the time of whatever walks through the model).
        operations: circuit targets after expansion (bounds circuit → DEM time).
        instructions: circuit instructions after expansion, annotations included.
        qubits: highest qubit index + 1 (Stim's reference sample takes its square in memory:
            130 MB at the default).
        measurements: measurements after expansion.
        sweep_bits: highest sweep bit index + 1.
        sweep_table: sweep bits times detectors: bytes of the table of what each sweep bit flips.
        slots: bits of a shot's round records, padding included.
    """

    text_bytes: int = 16 << 20
    nesting: int = 16
    detectors: int = 1_000_000
    observables: int = 4_096
    targets: int = 16_000_000
    operations: int = 20_000_000
    instructions: int = 4_000_000
    qubits: int = 16_384
    measurements: int = 4_000_000
    sweep_bits: int = 50_000
    sweep_table: int = 256 << 20
    slots: int = 64_000_000


_TAG = re.compile(r"\[[^\]\n]*\]")


def check_bound(what: str, value: int, bound: int) -> None:
    """Refuse `value` beyond `bound`.

    Raises:
        CodeTooLarge: it is.
    """
    if value > bound:
        raise CodeTooLarge(f"{what}: {value:,} exceeds the limit of {bound:,}")


def check_text(text: str, limits: Limits) -> None:
    """Refuse text that is too long or nested too deeply to be parsed safely.

    Raises:
        CodeTooLarge: on either.
        CodeError: the text holds what no Stim file does: NUL, which ends the text to Stim but not
            to us, or half of a surrogate pair.
    """
    check_bound("size in characters", len(text), limits.text_bytes)
    if "\0" in text:
        raise CodeError("the text holds a NUL character: it is not Stim's text format")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise CodeError(f"the text is not valid Unicode: {error.reason}") from None
    depth = 0
    # Lines as Stim sees them: `splitlines` would also break at \v or \r, within a comment. Nothing
    # but a block's end can put '}' first on such a line (tags end on the line they start on), so
    # counting every '{' of the code and only leading '}' can overstate the depth, never understate
    # it. Tags go first: '#' and '{' within them mean nothing.
    for line in text.split("\n"):
        if "{" in line:
            depth += _TAG.sub("", line).split("#", 1)[0].count("{")
            check_bound("nesting of repeat blocks", depth, limits.nesting)
        elif line.lstrip().startswith("}"):
            depth -= 1


def parse_dem(text: str, limits: Limits) -> stim.DetectorErrorModel:
    """Parse a detector error model, bounded.

    Raises:
        CodeTooLarge: a bound of `limits` is exceeded.
        CodeError: the text is not a DEM.
    """
    check_text(text, limits)
    try:
        dem = stim.DetectorErrorModel(text + "\n")  # a newline ends even an open tag
    except (ValueError, IndexError) as error:
        raise CodeError(f"not a detector error model: {error}") from None
    check_dem(dem, limits)
    return dem


def parse_circuit(text: str, limits: Limits) -> stim.Circuit:
    """Parse a circuit, bounded.

    Raises:
        CodeTooLarge: a bound of `limits` is exceeded.
        CodeError: the text is not a circuit.
    """
    check_text(text, limits)
    try:
        circuit = stim.Circuit(text + "\n")  # a newline ends even an open tag
    except (ValueError, IndexError) as error:
        raise CodeError(f"not a Stim circuit: {error}") from None
    check_circuit(circuit, limits)
    return circuit


def check_dem(dem: stim.DetectorErrorModel, limits: Limits) -> None:
    """Check a DEM's expanded sizes without expanding it.

    Raises:
        CodeTooLarge: a bound is exceeded.
    """
    size = _dem_size(dem)
    check_bound("detectors", size.detectors, limits.detectors)
    check_bound("observables", size.observables, limits.observables)
    check_bound("instructions' targets", size.targets, limits.targets)


def check_circuit(circuit: stim.Circuit, limits: Limits) -> None:
    """Check a circuit's expanded sizes without expanding it.

    Raises:
        CodeTooLarge: a bound is exceeded.
    """
    size = _circuit_size(circuit)
    check_bound("operations", size.operations, limits.operations)
    check_bound("instructions", size.instructions, limits.instructions)
    check_bound("measurements", size.measurements, limits.measurements)
    check_bound("detectors", size.detectors, limits.detectors)
    check_bound("observables", size.observables, limits.observables)
    check_bound("qubits", circuit.num_qubits, limits.qubits)
    sweeps = circuit.num_sweep_bits
    check_bound("sweep bits", sweeps, limits.sweep_bits)
    check_bound("sweep bits times detectors", sweeps * size.detectors, limits.sweep_table)


@dataclass(slots=True)
class _DemSize:
    shift: int = 0
    detectors: int = 0
    observables: int = 0
    targets: int = 0


def _dem_size(dem: stim.DetectorErrorModel) -> _DemSize:
    size = _DemSize()
    for item in dem:
        if isinstance(item, stim.DemRepeatBlock):
            body = _dem_size(item.body_copy())
            times = item.repeat_count
            last_start = size.shift + body.shift * (times - 1)
            if body.detectors and times:
                size.detectors = max(size.detectors, last_start + body.detectors)
            size.observables = max(size.observables, body.observables)
            # An empty block, too, is walked through `times` times.
            size.targets += times * max(1, body.targets)
            size.shift += times * body.shift
            continue
        targets = item.targets_copy()
        size.targets += max(1, len(targets))
        if item.type == "shift_detectors":
            size.shift += int(targets[0])
            continue
        for target in targets:
            if target.is_relative_detector_id():
                size.detectors = max(size.detectors, size.shift + target.val + 1)
            elif target.is_logical_observable_id():
                size.observables = max(size.observables, target.val + 1)
    return size


@dataclass(slots=True)
class _CircuitSize:
    operations: int = 0
    instructions: int = 0
    measurements: int = 0
    detectors: int = 0
    observables: int = 0


def _circuit_size(circuit: stim.Circuit) -> _CircuitSize:
    size = _CircuitSize()
    for item in circuit:
        if isinstance(item, stim.CircuitRepeatBlock):
            body = _circuit_size(item.body_copy())
            times = item.repeat_count
            size.operations += times * max(1, body.operations)
            size.instructions += times * max(1, body.instructions)
            size.measurements += times * body.measurements
            size.detectors += times * body.detectors
            size.observables = max(size.observables, body.observables)
            continue
        size.operations += max(1, len(item.targets_copy()))
        size.instructions += 1
        size.measurements += item.num_measurements
        if item.name == "DETECTOR":
            size.detectors += 1
        elif item.name == "OBSERVABLE_INCLUDE":
            size.observables = max(size.observables, int(item.gate_args_copy()[0]) + 1)
    return size
