"""Which windows are measured, with which networks."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from qdec.accelerator.gpu_kinds import GpuKind, gpu_kind
from qdec.bits import Bytes
from qdec.codes import Code
from qdec.cuda.runtime import Program
from qdec.match import CompiledWindow, Tier, compile_window
from qdec.match.ahead import innermost
from qdec.match.ising import IsingWindow
from qdec.match.soft import SoftWindow
from qdec.neural.collect import collecting
from qdec.neural.engine import compile_network, precisions
from qdec.neural.folded_model import FoldedModel, shipped_model
from qdec.neural.ising.model import compile_model, stored_weights
from qdec.neural.ising.network import PUBLISHED, Architecture, Weights, to_onnx
from qdec.neural.onnx_model import parse_model
from qdec.neural.store import ISING, load_model
from qdec.neural.tensor_file import tensors_sha256, write_tensors
from qdec.windows import WHOLE, Window
from qdec_tools.circuits import memory

BATCHES = (1, 4, 16, 64)  # what the service builds for `batch = 64`
NOISE = 0.003
FAST, ACCURATE, SPEED = "fast", "accurate", "speed"
NUMBERS = {FAST: 1, ACCURATE: 4}  # of the published architectures
# A bias that no logit overcomes: a network of random weights that corrects nothing.
_QUIET = -1000.0
_THREADS = 8  # of the processor, at most
Size = tuple[int, int, int]
Programs = Callable[[bytes, Size], Program]


@dataclass(frozen=True, slots=True)
class Case:
    """A whole shot of a memory experiment, as one window.

    Attributes:
        model: `FAST`, `ACCURATE` (stacks as NVIDIA's) or `SPEED` (the shipped network).
        distance: of the rotated surface code.
        rounds: T; a window has one more, the readout's.
        noise: of everything.
    """

    model: str
    distance: int
    rounds: int
    noise: float = NOISE

    @property
    def columns(self) -> dict[str, Any]:
        """What a row of results begins with."""
        return {"network": self.model, "d": self.distance, "T": self.rounds}

    @property
    def window(self) -> Window:
        """All of the shot."""
        n = self.rounds + 1
        return Window(0, n, n, n)

    @property
    def cells(self) -> int:
        """Of a stack's input: rounds x rows x columns."""
        return (self.rounds + 1) * self.distance**2


@dataclass(frozen=True, slots=True)
class Models:
    """Where the stacks' weights come from.

    Attributes:
        files: the name (`qdec model list`) or file of each that has one.
    """

    files: dict[str, str]

    def weights(self, name: str, *, quiet: bool = True) -> Weights:
        """Of a file; or random ones that correct nothing (`quiet`), or anything."""
        if name in self.files:
            return stored_weights(load_model(self.files[name]))
        return random_weights(PUBLISHED[NUMBERS[name]], quiet=quiet)

    def said(self, name: str) -> str:
        """In words."""
        if name == SPEED:
            return "shipped"
        return Path(self.files[name]).name if name in self.files else "random, corrects nothing"


def random_weights(architecture: Architecture, *, quiet: bool, seed: int = 0) -> Weights:
    """Weights that keep activations near one, as fp16 has them."""
    rng = np.random.default_rng(seed)
    kernels, biases = [], []
    for shape in architecture.shapes:
        scale = math.sqrt(2 / math.prod(shape[1:]))
        kernels.append((scale * rng.standard_normal(shape)).astype(np.float16).astype(np.float32))
        biases.append((0.1 * rng.standard_normal(shape[0])).astype(np.float16).astype(np.float32))
    if quiet:
        biases[-1][:] = _QUIET
    return Weights(architecture, tuple(kernels), tuple(biases))


def write_weights(path: Path, weights: Weights) -> Path:
    """A stack as a file that a service can be given."""
    tensors = {}
    for i, (kernel, bias) in enumerate(zip(weights.kernels, weights.biases, strict=True)):
        tensors |= {f"net.{i}.weight": kernel, f"net.{i}.bias": bias}
    sizes = {"filters": weights.architecture.filters, "kernels": weights.architecture.kernels}
    metadata = {
        "family": ISING,
        "sha256": tensors_sha256(tensors),
        "architecture": json.dumps(sizes),
    }
    write_tensors(path, tensors, metadata)
    return path


@dataclass(frozen=True, eq=False)
class Compiled:
    """A case, ready.

    Attributes:
        case: which.
        code: of its circuit.
        decoder: the window's; its network is a stand-in until `put` gives it one.
        kind: what a GPU does of it.
        content: the network as ONNX.
        size: (T, H, W) of it.
    """

    case: Case
    code: Code
    decoder: CompiledWindow
    kind: GpuKind
    content: bytes
    size: Size

    def put(self, network: Any) -> None:
        """Have the decoder run this network (a `CompiledNetwork`)."""
        inner = innermost(self.decoder)
        assert isinstance(inner, SoftWindow | IsingWindow)
        inner.network = network

    def on_processor(self) -> str:
        """Have the decoder run its network in OpenVINO, as quickly as it does: in words."""
        precision = [one for one in precisions("openvino") if one != "int8"][-1]
        threads = min(_THREADS, len(os.sched_getaffinity(0)))
        self.put(
            compile_network(self.content, engine="openvino", precision=precision, threads=threads)
        )
        return f"openvino {precision}, {threads} threads"

    def sample(self, shots: int, seed: int = 5) -> tuple[Bytes, Bytes]:
        """Packed windows ``(shots, bytes)`` and what their observables are, packed."""
        return samples(self.case, self.code, shots, seed)


def samples(case: Case, code: Code, shots: int, seed: int = 5) -> tuple[Bytes, Bytes]:
    """See `Compiled.sample`."""
    sampler = circuit(case).compile_detector_sampler(seed=seed)
    events, truth = sampler.sample(shots, separate_observables=True, bit_packed=True)
    records = code.layout.to_records(events)
    return np.ascontiguousarray(records).reshape(shots, -1), truth


def circuit(case: Case) -> Any:
    return memory(case.distance, case.rounds, case.noise)


@cache
def code_of(distance: int, rounds: int, noise: float) -> Code:
    """Of a memory experiment; the largest take ten seconds."""
    return Code.from_circuit(memory(distance, rounds, noise))


def compile_case(case: Case, models: Models, programs: Programs, *, quiet: bool = True) -> Compiled:
    """Compile a case's window, with a stand-in where its network runs on the processor."""
    code = code_of(case.distance, case.rounds, case.noise)
    model: Any
    content = b""
    with collecting("openvino", "fp32"):
        if case.model == SPEED:
            tier, model = Tier.SPEED, FoldedModel(shipped_model(SPEED).network, precision="fp32")
        else:
            weights = models.weights(case.model, quiet=quiet)
            tier, model, content = Tier.ISING, compile_model(weights), to_onnx(weights)
        decoder = compile_window(code, tier, WHOLE, case.window, model=model)
    if case.model == SPEED:
        content = model.network.onnx(innermost(decoder).grid, quantised=False)
    kind = gpu_kind(decoder, lambda _network, size: programs(content, size))
    assert kind is not None, "it has a network"
    _, rounds, height, width = kind.shape
    return Compiled(case, code, decoder, kind, content, (rounds, height, width))


def input_name(content: bytes) -> str:
    """What a network's only input is called."""
    (name,) = parse_model(content).names
    return name


def latency_cases(distances: Iterable[int]) -> list[Case]:
    """In the order of how much they are asked for: what runs out of time is the end."""
    square = [Case(model, d, d) for model in (FAST, ACCURATE) for d in distances]
    deep = [Case(model, 13, 104) for model in (FAST, ACCURATE)]
    return [*deep, *square, Case(SPEED, 7, 7), Case(SPEED, 13, 13)]
