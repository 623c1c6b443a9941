"""A network of Ising's kind, ready for the windows of any code that it suits."""

from __future__ import annotations

from dataclasses import dataclass

from qdec.errors import ModelError
from qdec.neural.engine import CompiledNetwork, Precision, compile_network, floating
from qdec.neural.ising.network import Architecture, Weights, to_onnx, weights_of
from qdec.neural.ising.patch import Basis
from qdec.neural.store import ISING, StoredModel


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


def stored_weights(stored: StoredModel) -> Weights:
    """The weights of a model of this family in the store.

    Raises:
        ModelError: it is of another family, or its tensors are not those of its architecture.
    """
    info = stored.info
    if info.family != ISING:
        raise ModelError(
            f"the model '{info.name}' is of the family '{info.family}', and the ising tier takes "
            f"those of '{ISING}'"
        )
    try:
        sizes = info.architecture
        architecture = Architecture(tuple(sizes["filters"]), tuple(sizes["kernels"]))
    except (KeyError, TypeError):
        raise ModelError(f"{info.path}: the architecture has another form") from None
    return weights_of(architecture, stored.file.tensors)


def compile_model(
    weights: Weights,
    *,
    precision: Precision | None = None,
    threads: int | None = None,
    basis: Basis | None = None,
) -> IsingModel:
    """Compile a network from its weights.

    Args:
        weights: of it.
        precision: of its arithmetic; None: as `qdec.neural.engine.floating` has it.
        threads: of the engine; None: as `qdec.neural.engine.use_threads` has it.
        basis: see `IsingModel`.

    Raises:
        EngineError: the engine cannot, on this machine.
    """
    network = compile_network(to_onnx(weights), precision=precision or floating(), threads=threads)
    return IsingModel(weights.architecture, network, basis)
