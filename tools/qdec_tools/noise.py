"""Noise models: what fails how often, and circuits in which it does.

A model says how often each kind of operation fails; `with_noise` walks through a noiseless circuit,
layer by layer (TICK to TICK), and puts the faults where the operations are, and where qubits wait.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import stim
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from qdec.errors import CodeError, ConfigError

# Beyond these a channel is no longer the noise it is named after: at 3/4 and 15/16 a depolarised
# state is fully mixed, at 1/2 a bit is random.
_Flip = Annotated[float, Field(ge=0, le=0.5, allow_inf_nan=False)]
_Depolarise1 = Annotated[float, Field(ge=0, le=0.75, allow_inf_nan=False)]
_Depolarise2 = Annotated[float, Field(ge=0, le=0.9375, allow_inf_nan=False)]


class NoiseModel(BaseModel):
    """Probabilities of faults, one for each kind of operation.

    As a table of a configuration, any channel can be given; ``model`` and ``p`` name a model to
    start from, of which the given channels replace what they name::

        [noise]
        model = "si1000"
        p = 0.002
        measure_flip = 0.015

    Attributes:
        after_clifford2: depolarising a pair of qubits after a two-qubit gate.
        after_clifford1: depolarising a qubit after a one-qubit gate.
        before_round_idle: depolarising every data qubit before each round's first gate.
        measure_flip: flip of a qubit, in the basis measured, before its measurement.
        reset_flip: flip of a qubit, out of the state it is reset to, after its reset.
        idle: depolarising a qubit that a layer with operations leaves alone.
        idle_readout: depolarising it once more where others are measured or reset meanwhile.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    after_clifford2: _Depolarise2 = 0.0
    after_clifford1: _Depolarise1 = 0.0
    before_round_idle: _Depolarise1 = 0.0
    measure_flip: _Flip = 0.0
    reset_flip: _Flip = 0.0
    idle: _Depolarise1 = 0.0
    idle_readout: _Depolarise1 = 0.0

    @model_validator(mode="before")
    @classmethod
    def _start_from_a_named_model(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or not ("model" in given or "p" in given):
            return given
        own = dict(given)
        name, p = own.pop("model", None), own.pop("p", None)
        if name is None or p is None:
            raise ValueError(f"model and p go together: {_names()}, and a probability")
        if not isinstance(name, str) or name not in NOISE_MODELS:
            raise ValueError(f"there is no noise model {name!r}: there are {_names()}")
        if isinstance(p, bool) or not isinstance(p, int | float):
            raise ValueError(f"p = {p!r} is not a number")
        return {**_CHANNELS[name](p), **own}

    @property
    def largest(self) -> float:
        """The most frequent channel's probability."""
        channels: dict[str, float] = self.model_dump()
        return max(channels.values())

    def scaled_to(self, largest: float) -> NoiseModel:
        """All channels multiplied by the same factor, so that the most frequent has `largest`.

        Raises:
            ConfigError: a channel leaves its bounds, or there is no noise to scale.
        """
        if not self.largest:
            raise ConfigError("a model without noise cannot be scaled: give it a channel")
        factor = largest / self.largest
        return parse_noise({k: v * factor for k, v in self.model_dump().items()})


def _uniform(p: float) -> dict[str, float]:
    names = "after_clifford2", "after_clifford1", "before_round_idle", "measure_flip", "reset_flip"
    return dict.fromkeys(names, p)


def _si1000(p: float) -> dict[str, float]:
    return {
        "after_clifford2": p,
        "after_clifford1": p / 10,
        "measure_flip": 5 * p,
        "reset_flip": 2 * p,
        "idle": p / 10,
        "idle_readout": 2 * p,
    }


_CHANNELS: dict[str, Callable[[float], dict[str, float]]] = {
    "uniform": _uniform,
    "si1000": _si1000,
}


def uniform(p: float) -> NoiseModel:
    """Everything fails with probability `p`: gates, measurements, resets, data before each round.

    What Stim's generated circuits have when all four of their parameters are `p`.

    Raises:
        CodeError: `p` is no probability that all channels can have.
    """
    return named_noise("uniform", p)


def si1000(p: float) -> NoiseModel:
    """Superconducting-inspired noise, for a cycle of 1000 ns.

    Two-qubit gates fail with `p`, one-qubit gates and idle qubits with p/10, measurements with 5p,
    resets with 2p; qubits that wait for measurements or resets of others suffer 2p more.

    Source: Gidney, Newman, Fowler, Broughton, "A fault-tolerant honeycomb memory", Quantum 5, 605
    (2021), table 1. There the two-qubit gate is CZ; here it is the circuit's own, whichever that
    is, and a measurement with reset (MR) is one layer's wait.

    Raises:
        CodeError: `p` is no probability that all channels can have.
    """
    return named_noise("si1000", p)


NOISE_MODELS: dict[str, Callable[[float], NoiseModel]] = {"uniform": uniform, "si1000": si1000}


def named_noise(name: str, p: float) -> NoiseModel:
    """The model of that name.

    Raises:
        CodeError: there is none, or `p` is no probability that all its channels can have.
    """
    try:
        return NoiseModel.model_validate({"model": name, "p": p})
    except ValidationError as error:
        raise CodeError(_explain(error)) from None


def parse_noise(table: Mapping[str, Any], *, path: str | None = None) -> NoiseModel:
    """The model that a configuration's table describes; see `NoiseModel`.

    Args:
        table: as TOML or JSON has it.
        path: of the configuration, for messages.

    Raises:
        ConfigError: it describes none; the message names the key and what to write.
    """
    try:
        return NoiseModel.model_validate(table)
    except ValidationError as error:
        raise ConfigError(_explain(error), path=path) from None


def _names() -> str:
    return " or ".join(f'"{name}"' for name in _CHANNELS)


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        known = ["model", "p", *NoiseModel.model_fields]
        close = difflib.get_close_matches(key, known, 1)
        hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(known)}"
        return f"noise: {key} is unknown: {hint}"
    message = first["msg"].removeprefix("Value error, ")
    return f"noise: {key} = {first['input']!r}: {message}" if key else f"noise: {message}"


def with_noise(circuit: stim.Circuit, noise: NoiseModel) -> stim.Circuit:
    """The same circuit with faults.

    Repeated blocks stay blocks: their first turns are written out until the layers around them
    look the same in every further one.

    The data qubits, for `before_round_idle`, are those that the last measurement reads. A round
    begins with the first gate after measurements or resets. After the last layer nobody waits.

    Args:
        circuit: one- and two-qubit gates, measurements and resets, in layers that TICKs divide;
            annotations; no noise.
        noise: what fails how often.

    Raises:
        CodeError: the circuit has noise already, or operations that the models say nothing of.
    """
    walk = _Walk(noise, frozenset(_qubits(circuit)), _last_measured(circuit))
    return walk.block(circuit, _Layer())[0]


@dataclass(frozen=True, slots=True)
class _Layer:
    """What the layer so far, and those before, say about the noise to come.

    Attributes:
        used: qubits that the layer has operated on.
        collapsed: those measured or reset.
        resting: no gate has come since the last measurement or reset.
    """

    used: frozenset[int] = frozenset()
    collapsed: frozenset[int] = frozenset()
    resting: bool = False


class _Walk:
    def __init__(self, noise: NoiseModel, qubits: frozenset[int], data: list[int]) -> None:
        self._noise = noise
        self._qubits = qubits
        self._data = data

    def block(self, circuit: stim.Circuit, layer: _Layer) -> tuple[stim.Circuit, _Layer]:
        out = stim.Circuit()
        for item in circuit:
            if isinstance(item, stim.CircuitRepeatBlock):
                layer = self._repeat(out, item, layer)
            else:
                layer = self._instruction(out, item, layer)
        return out, layer

    def _repeat(self, out: stim.Circuit, item: stim.CircuitRepeatBlock, layer: _Layer) -> _Layer:
        body = item.body_copy()
        for turn in range(item.repeat_count):
            noisy, after = self.block(body, layer)
            if after == layer:
                out.append(stim.CircuitRepeatBlock(item.repeat_count - turn, noisy, tag=item.tag))
                return after
            out += noisy
            layer = after
        return layer

    def _instruction(
        self, out: stim.Circuit, item: stim.CircuitInstruction, layer: _Layer
    ) -> _Layer:
        gate = stim.gate_data(item.name)
        if item.name == "TICK":
            self._wait(out, layer)
            out.append(item)
            return _Layer(resting=layer.resting)
        if not (gate.is_unitary or gate.is_reset or gate.produces_measurements):
            if gate.is_noisy_gate:
                raise CodeError(f"the circuit has noise already: {_short(item)}")
            out.append(item)
            return layer
        if gate.takes_pauli_targets or not (gate.is_single_qubit_gate or gate.is_two_qubit_gate):
            raise CodeError(f"no noise model covers {_short(item)}")
        if gate.is_unitary:
            return self._gate(out, item, layer, two=gate.is_two_qubit_gate)
        if item.gate_args_copy() or item.name.startswith("HERALDED"):
            raise CodeError(f"the circuit has noise already: {_short(item)}")
        if gate.is_two_qubit_gate:
            raise CodeError(f"no noise model covers {_short(item)}")
        return self._collapse(out, item, layer, gate)

    def _gate(
        self, out: stim.Circuit, item: stim.CircuitInstruction, layer: _Layer, *, two: bool
    ) -> _Layer:
        # What classical bits control is done in software, and takes no time.
        groups = [g for g in item.target_groups() if all(t.is_qubit_target for t in g)]
        targets = [t.value for group in groups for t in group]
        if not targets:
            out.append(item)
            return layer
        if layer.resting:
            _append(out, "DEPOLARIZE1", self._data, self._noise.before_round_idle)
        out.append(item)
        if two:
            _append(out, "DEPOLARIZE2", targets, self._noise.after_clifford2)
        else:
            _append(out, "DEPOLARIZE1", targets, self._noise.after_clifford1)
        return _Layer(layer.used.union(targets), layer.collapsed)

    def _collapse(
        self, out: stim.Circuit, item: stim.CircuitInstruction, layer: _Layer, gate: stim.GateData
    ) -> _Layer:
        targets = [t.value for t in item.targets_copy()]
        flip = "Z_ERROR" if item.name.endswith("X") else "X_ERROR"
        if gate.produces_measurements:
            _append(out, flip, targets, self._noise.measure_flip)
        out.append(item)
        if gate.is_reset:
            _append(out, flip, targets, self._noise.reset_flip)
        return _Layer(layer.used.union(targets), layer.collapsed.union(targets), resting=True)

    def _wait(self, out: stim.Circuit, layer: _Layer) -> None:
        """The noise of those that the layer, now over, has left alone."""
        if layer.used:
            _append(out, "DEPOLARIZE1", sorted(self._qubits - layer.used), self._noise.idle)
        if layer.collapsed:
            waiting = sorted(self._qubits - layer.collapsed)
            _append(out, "DEPOLARIZE1", waiting, self._noise.idle_readout)


def _append(out: stim.Circuit, channel: str, targets: list[int], p: float) -> None:
    if p and targets:
        out.append(channel, targets, p)


def _short(item: stim.CircuitInstruction) -> str:
    text = str(item)
    return text if len(text) <= 40 else text[:37] + "..."


def _qubits(circuit: stim.Circuit) -> set[int]:
    """Qubits that anything is done to."""
    found: set[int] = set()
    for item in circuit:
        if isinstance(item, stim.CircuitRepeatBlock):
            found |= _qubits(item.body_copy())
        elif item.name != "QUBIT_COORDS":
            found.update(t.value for t in item.targets_copy() if t.is_qubit_target)
    return found


def _last_measured(circuit: stim.Circuit) -> list[int]:
    """Qubits that the last measurement reads, in its order."""
    for item in reversed(circuit):
        if isinstance(item, stim.CircuitRepeatBlock):
            found = _last_measured(item.body_copy())
        elif stim.gate_data(item.name).produces_measurements:
            found = [t.value for t in item.targets_copy() if t.is_qubit_target]
        else:
            continue
        if found:
            return found
    return []
