"""What to train on what: one TOML file per model, checked before anything starts."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from qdec.errors import ConfigError, QdecError
from qdec.neural.folded import Architecture
from qdec.neural.grid import ROTATED
from qdec_tools.noise import NoiseModel, named_noise

Positive = Annotated[int, Field(ge=1)]
Probability = Annotated[float, Field(gt=0, lt=0.5)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Sizes(_Strict):
    """``[network]``: see `qdec.neural.folded.Architecture`."""

    width: Annotated[int, Field(ge=8, le=1024)]
    inner: Annotated[int, Field(ge=8, le=1024)]
    blocks: Annotated[int, Field(ge=1, le=32)]

    @property
    def architecture(self) -> Architecture:
        """With the classes of rotated surface codes."""
        return Architecture(ROTATED, self.width, self.inner, self.blocks)


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
    """

    distance: Annotated[int, Field(ge=2, le=63)]
    kind: Literal["whole", "first", "middle", "last"] = "whole"
    rounds: Annotated[tuple[Annotated[int, Field(ge=2, le=512)], ...], Field(min_length=1)]
    noise: Annotated[tuple[Probability, ...], Field(min_length=1)]
    model: Literal["uniform", "si1000"] = "uniform"
    channels: NoiseModel | None = None
    share: Annotated[float, Field(gt=0)] = 1.0

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


class Recipe(_Strict):
    """A training run.

    Attributes:
        name: of the model.
        tier: what it is meant for.
        seed: of the initial weights and of all data.
        steps: how many there are; raising it later goes on with the run.
        cooldown: last share of the steps, over which the learning rates fall to zero.
        warmup: first steps, over which they rise.
        cells: cells of the folded grid per step (windows times rounds times cells), so that every
            step costs the same whatever the distance.
        muon_rate, adam_rate: learning rates of kernels and of everything else.
        ema: decay of the averaged weights, which are what is exported.
        network, data: see there.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    tier: Literal["speed", "accuracy"]
    seed: Annotated[int, Field(ge=0)] = 0
    steps: Positive
    cooldown: Annotated[float, Field(ge=0, le=1)] = 0.3
    warmup: Annotated[int, Field(ge=0)] = 200
    cells: Positive = 27_648
    muon_rate: Annotated[float, Field(gt=0, lt=1)] = 0.03
    adam_rate: Annotated[float, Field(gt=0, lt=1)] = 2e-3
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.998
    network: Sizes
    data: Annotated[tuple[Mix, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _fits(self) -> Recipe:
        for one in self.data:
            cells = max(one.rounds) * ((one.distance + 2) // 2) ** 2
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
        problems = [
            f"{'.'.join(map(str, one['loc'])) or 'recipe'}: {one['msg']}" for one in error.errors()
        ]
        raise ConfigError(f"{path}: {'; '.join(problems)}") from None
