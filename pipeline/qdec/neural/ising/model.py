"""A network of Ising's kind, ready for the windows of any code that it suits."""

from __future__ import annotations

from dataclasses import dataclass

from qdec.neural.engine import CompiledNetwork, Precision, compile_network
from qdec.neural.ising.network import Architecture, Weights, to_onnx
from qdec.neural.ising.patch import Basis


@dataclass(frozen=True, eq=False)
class IsingModel:
    """What the ``ising`` tier answers with.

    Attributes:
        architecture: the stack, for its halo.
        network: ``(B, 4, T, D, D)`` → logits of the same shape, for any B, T and D.
        basis: what the codes' memory experiments are taken to store; None for what each circuit
            says (see `qdec.neural.ising.placement.place`).
    """

    architecture: Architecture
    network: CompiledNetwork
    basis: Basis | None = None


def compile_model(
    weights: Weights,
    *,
    precision: Precision = "fp32",
    threads: int = 1,
    basis: Basis | None = None,
) -> IsingModel:
    """Compile a network from its weights.

    Raises:
        EngineError: the engine cannot, on this machine.
    """
    network = compile_network(to_onnx(weights), precision=precision, threads=threads)
    return IsingModel(weights.architecture, network, basis)
