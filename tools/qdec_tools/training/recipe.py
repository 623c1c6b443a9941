"""What to train on what: one TOML file per model, checked before anything starts."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from qdec.errors import ConfigError, QdecError
from qdec.neural.folded import Architecture
from qdec.neural.grid import ROTATED
from qdec.neural.ising import network as ising
from qdec.neural.ising.patch import Basis, Orientation
from qdec_tools.noise import NoiseModel, named_noise
from qdec_tools.training import ising_data

Positive = Annotated[int, Field(ge=1)]
Probability = Annotated[float, Field(gt=0, lt=0.5)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FoldedSizes(_Strict):
    """``[network]`` of the own family: see `qdec.neural.folded.Architecture`."""

    family: Literal["folded"] = "folded"
    width: Annotated[int, Field(ge=8, le=1024)]
    inner: Annotated[int, Field(ge=8, le=1024)]
    blocks: Annotated[int, Field(ge=1, le=32)]

    @property
    def architecture(self) -> Architecture:
        """With the classes of rotated surface codes."""
        return Architecture(ROTATED, self.width, self.inner, self.blocks)

    def cells(self, mix: Mix) -> int:
        """Of a mix's largest window."""
        return max(mix.rounds) * ((mix.distance + 2) // 2) ** 2


class IsingSizes(_Strict):
    """``[network]`` with ``family = "ising"``: a plain stack of convolutions.

    Attributes:
        model: 1 to 5: a stack as published.
        filters, kernels: or one of your own: see `qdec.neural.ising.network.Architecture`.
    """

    family: Literal["ising"]
    model: Annotated[int, Field(ge=1, le=max(ising.PUBLISHED))] | None = None
    filters: tuple[int, ...] | None = None
    kernels: tuple[int, ...] | None = None

    @model_validator(mode="after")
    def _is_a_stack(self) -> IsingSizes:
        own = self.filters is not None and self.kernels is not None
        if own == (self.model is not None) or (self.filters is None) != (self.kernels is None):
            raise ValueError("write model, or filters and kernels, one for each layer")
        try:
            self.architecture  # noqa: B018 - checks the layers
        except QdecError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def architecture(self) -> ising.Architecture:
        """Of the stack."""
        if self.filters is not None and self.kernels is not None:
            return ising.Architecture(self.filters, self.kernels)
        return ising.PUBLISHED[self.model or 1]

    def cells(self, mix: Mix) -> int:
        """Of a mix's largest window, with what a network that opens in mid-stream looks back."""
        past = 0 if mix.starts else self.architecture.halo
        return (max(mix.rounds) + past) * mix.distance**2


def _family(value: Any) -> str:
    named = value.get("family") if isinstance(value, dict) else getattr(value, "family", None)
    return str(named or "folded")


Network = Annotated[
    Annotated[FoldedSizes, Tag("folded")] | Annotated[IsingSizes, Tag("ising")],
    Discriminator(
        _family,
        custom_error_type="family",
        custom_error_message="there are the families 'folded' (the default) and 'ising'",
    ),
]


class Mix(_Strict):
    """``[[data]]``: one kind of window among those trained on.

    Attributes:
        distance: of the rotated surface code.
        kind: ``whole`` shots, or windows of a longer one: its ``first``, one from its ``middle``
            (open at both ends), its ``last``.
        rounds: rounds of detectors, one of these at random.
        noise: p of the noise model, one of these at random.
        model: of the noise; what p means to it is said there.
        channels: a model of your own instead: a table of `qdec_tools.noise.NoiseModel`, scaled so
            that its most frequent channel has p.
        share: of the computing time, relative to the others.
        closed_by: the last round of windows that close, of the ising family: the data's
            ``readout``, as experiments have it, or one that is ``perfect``, as Ising's own are.
    """

    distance: Annotated[int, Field(ge=2, le=63)]
    kind: Literal["whole", "first", "middle", "last"] = "whole"
    rounds: Annotated[tuple[Annotated[int, Field(ge=2, le=512)], ...], Field(min_length=1)]
    noise: Annotated[tuple[Probability, ...], Field(min_length=1)]
    model: Literal["uniform", "si1000"] = "uniform"
    channels: NoiseModel | None = None
    share: Annotated[float, Field(gt=0)] = 1.0
    closed_by: Literal["readout", "perfect"] = "readout"

    @model_validator(mode="after")
    def _is_noise(self) -> Mix:
        if self.channels is not None and "model" in self.model_fields_set:
            raise ValueError("model and channels both say what the noise is: keep one")
        try:
            for p in self.noise:
                self.noise_model(p)
        except QdecError as error:
            raise ValueError(str(error)) from None
        return self

    def noise_model(self, p: float) -> NoiseModel:
        """The noise at one of its strengths."""
        return named_noise(self.model, p) if self.channels is None else self.channels.scaled_to(p)

    @property
    def starts(self) -> bool:
        """Whether its windows begin with the experiment."""
        return self.kind in ("whole", "first")

    def ising_kind(
        self,
        rounds: int,
        noise: float,
        basis: Basis = "Z",
        orientation: Orientation = Orientation.XV,
    ) -> ising_data.Kind:
        """What `IsingSampler` draws for a choice among its rounds and strengths of noise.

        Raises:
            ConfigError: the Ising layout has no such patch or window.
        """
        return ising_data.Kind(
            self.distance,
            rounds,
            self.noise_model(noise),
            basis,
            orientation,
            self.starts,
            self.closed_by if self.kind in ("whole", "last") else "middle",
        )


class Recipe(_Strict):
    """A training run.

    Attributes:
        name: of the model.
        tier: what it is meant for.
        seed: of the initial weights and of all data.
        steps: how many there are; raising it later goes on with the run.
        cooldown: last share of the steps, over which the learning rates fall to zero.
        warmup: first steps, over which they rise.
        cells: cells of the grid per step (windows times rounds times cells), so that every step
            costs the same whatever the distance.
        muon_rate, adam_rate: learning rates of kernels and of everything else.
        ema: decay of the averaged weights, which are what is exported.
        network, data: see there.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    tier: Literal["speed", "accuracy", "ising"]
    seed: Annotated[int, Field(ge=0)] = 0
    steps: Positive
    cooldown: Annotated[float, Field(ge=0, le=1)] = 0.3
    warmup: Annotated[int, Field(ge=0)] = 200
    cells: Positive = 27_648
    muon_rate: Annotated[float, Field(gt=0, lt=1)] = 0.03
    adam_rate: Annotated[float, Field(gt=0, lt=1)] = 2e-3
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.998
    network: Network
    data: Annotated[tuple[Mix, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _fits(self) -> Recipe:
        if (self.tier == "ising") != isinstance(self.network, IsingSizes):
            raise ValueError(
                f"tier '{self.tier}' is not answered by networks of family '{self.network.family}'"
            )
        for one in self.data:
            if isinstance(self.network, IsingSizes):
                _check_ising(one)
            elif one.closed_by != "readout":
                raise ValueError(f"closed_by = '{one.closed_by}' is for the family 'ising'")
            cells = self.network.cells(one)
            if cells > self.cells:
                raise ValueError(
                    f"a window of distance {one.distance} and {max(one.rounds)} rounds has {cells} "
                    f"cells, more than a step ({self.cells})"
                )
        return self

    def rate(self, step: int) -> float:
        """Factor of both learning rates at a step: up, level, down to zero."""
        up = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        left = (self.steps - step) / self.steps
        return min(up, left / self.cooldown if self.cooldown else 1.0, 1.0)


def _check_ising(mix: Mix) -> None:
    try:
        for rounds in mix.rounds:
            mix.ising_kind(rounds, mix.noise[0])
    except QdecError as error:
        raise ValueError(str(error)) from None


def read_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        ConfigError: it cannot be read, or something in it is wrong; says what and where.
    """
    try:
        return Recipe.model_validate(tomllib.loads(path.read_text()))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    except ValidationError as error:
        problems = [f"{_place(one['loc'])}: {one['msg']}" for one in error.errors()]
        raise ConfigError(f"{path}: {'; '.join(problems)}") from None


def _place(loc: tuple[int | str, ...]) -> str:
    """Where in the file: without the tag that tells families apart."""
    names = loc[:1] + loc[2:] if loc[0:1] == ("network",) and len(loc) > 2 else loc
    return ".".join(map(str, names)) or "recipe"
