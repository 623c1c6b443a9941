"""Which network a tier answers with."""

from __future__ import annotations

from qdec.errors import ModelError
from qdec.match.tier import Tier
from qdec.neural.folded_model import FAMILY, FoldedModel, from_stored, shipped_model
from qdec.neural.ising.model import IsingModel, compile_model, stored_weights
from qdec.neural.store import ISING, StoredModel

Model = IsingModel | FoldedModel


def served(stored: StoredModel) -> Model:
    """A loaded model, its architecture and weights checked.

    Raises:
        ModelError: it is not sound, or of no family that is served.
        EngineError: the engine cannot run it on this machine.
    """
    if stored.info.family == ISING:
        return compile_model(stored_weights(stored))
    if stored.info.family == FAMILY:
        return FoldedModel(from_stored(stored))
    raise ModelError(
        f"model '{stored.info.name}' is of the family '{stored.info.family}', which is not served"
    )


def ising_model(model: Model | None) -> IsingModel:
    """The model of the ising tier.

    Raises:
        ModelError: there is none, or it is another family's.
    """
    if model is None:
        raise ModelError("the ising tier needs a model: name one that `qdec model list` shows")
    if not isinstance(model, IsingModel):
        raise ModelError(f"the ising tier takes models of the family '{ISING}', not '{FAMILY}'")
    return model


def folded_model(tier: Tier, model: Model | None) -> FoldedModel:
    """The model of a soft tier: by default the one that comes with the package.

    Raises:
        ModelError: it is another family's, or the package's is missing or damaged.
    """
    if model is None:
        return shipped_model(tier.label)
    if not isinstance(model, FoldedModel):
        raise ModelError(
            f"the {tier.label} tier takes models of the family '{FAMILY}', not '{ISING}'"
        )
    return model
