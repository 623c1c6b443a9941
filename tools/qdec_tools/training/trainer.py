"""One training run: its state, a step of it, and its checkpoints.

Checkpoints are safetensors files: every weight, its average, the optimisers' moments, and how many
steps they have seen. Nothing else is needed to go on.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from qdec.errors import ConfigError
from qdec.neural.store import StoredModel
from qdec_tools.training.data import Batch, FedData
from qdec_tools.training.family import family_of
from qdec_tools.training.muon import Muon
from qdec_tools.training.recipe import Recipe
from qdec_tools.training.trained import Trained

_EMA_WARMUP = 10


class Trainer:
    """Trains a network.

    Attributes:
        recipe: what is trained on what.
        data: its batches.
        net: the network.
        step: steps made.
        windows: windows seen.
    """

    def __init__(
        self, recipe: Recipe, device: str = "cpu", precision: str = "auto", workers: int = 0
    ) -> None:
        """Start from the recipe's seed.

        Args:
            recipe: the run.
            device: ``cpu`` or ``cuda``.
            precision: ``fp32``, ``bf16``, or ``auto`` (bf16 where the processor multiplies it).
            workers: processes that draw data ahead; 0: none.
        """
        self.recipe = recipe
        self._family = family_of(recipe)
        self.data = FedData(recipe, workers)
        self._device = torch.device(device)
        self._autocast = precision == "bf16" or (precision == "auto" and _multiplies_bf16(device))
        torch.manual_seed(recipe.seed)
        self.net = self._family.net().to(self._device)
        self._named = dict(self.net.named_parameters())
        self.average = {name: p.detach().clone() for name, p in self._named.items()}
        kernels = {name for name, p in self._named.items() if p.ndim == 5} - self._family.fixed
        self._kernels = [name for name in self._named if name in kernels]
        self._others = [name for name in self._named if name not in kernels]
        self._muon = Muon(self._named[name] for name in self._kernels)
        self._adam = torch.optim.AdamW(
            [self._named[name] for name in self._others], betas=(0.9, 0.95), weight_decay=0.0
        )
        self.step = 0
        self.windows = 0

    def advance(self) -> float:
        """Make one step; returns its loss, in nats per window of d = 5 and 6 rounds."""
        batch = self.data.batch(self.step)
        self.net.zero_grad(set_to_none=True)
        loss = self._loss(batch)
        loss.backward()
        rate = self.recipe.rate(self.step)
        for group in self._adam.param_groups:
            group["lr"] = rate * self.recipe.adam_rate
        self._muon.step(rate * self.recipe.muon_rate)
        self._adam.step()
        self.step += 1
        self.windows += len(batch.events)
        self._follow()
        return float(loss.detach())

    @torch.no_grad()
    def _follow(self) -> None:
        decay = min(self.recipe.ema, (1 + self.step) / (_EMA_WARMUP + self.step))
        names = list(self.average)
        torch._foreach_lerp_(
            [self.average[n] for n in names], [self._named[n] for n in names], 1 - decay
        )

    def _loss(self, batch: Batch) -> Any:
        device = self._device
        inputs = self._family.inputs(batch, device)
        with torch.autocast(device.type, torch.bfloat16, enabled=self._autocast):
            output = self.net(*inputs)
        nats = self._family.nats(output.float(), batch)
        return nats / (len(batch.events) * batch.kind.cells / self._family.usual_cells)

    @torch.no_grad()
    def check(self, first: int, batches: int) -> float:
        """Mean loss of the averaged weights on batches that are never trained on."""
        self._swap()
        try:
            losses = [
                float(self._loss(self.data.batch(i, stream=1)))
                for i in range(first, first + batches)
            ]
        finally:
            self._swap()
        return sum(losses) / len(losses)

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self._named.items():
            kept = parameter.detach().clone()
            parameter.copy_(self.average[name])
            self.average[name] = kept

    def trained(self) -> Trained:
        """The averaged weights, as the service uses them."""
        weights = {name: p.detach().cpu().numpy().copy() for name, p in self.average.items()}
        return self._family.trained(weights)

    @torch.no_grad()
    def start_from(self, stored: StoredModel) -> None:
        """Begin with a model's weights instead of random ones.

        Raises:
            ConfigError: it has another architecture.
            ModelError: it is of another family, or not sound.
        """
        weights = self._family.weights(stored)
        for name, parameter in self._named.items():
            parameter.copy_(torch.from_numpy(weights[name]))
            self.average[name] = parameter.detach().clone()

    # -- checkpoints ---------------------------------------------------------------------------

    def _tensors(self) -> dict[str, Any]:
        out = {f"net.{name}": p.detach() for name, p in self._named.items()}
        out |= {f"average.{name}": p for name, p in self.average.items()}
        pairs = zip(self._kernels, self._muon.momenta, strict=True)
        out |= {f"muon.{name}": momentum for name, momentum in pairs}
        for name in self._others:
            state = self._adam.state.get(self._named[name], {})
            out |= {f"adam.{name}.{key}": state[key] for key in sorted(state)}
        return {key: value.contiguous().cpu() for key, value in out.items()}

    def save(self, path: Path) -> None:
        """Write a checkpoint; whoever dies in between leaves the old one."""
        meta = {
            "step": str(self.step),
            "windows": str(self.windows),
            "recipe": json.dumps(self.recipe.model_dump(mode="json"), sort_keys=True),
        }
        part = path.with_suffix(".part")
        save_file(self._tensors(), part, metadata=meta)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)

    @torch.no_grad()
    def load(self, path: Path) -> None:
        """Go on from a checkpoint, on whatever device it was made.

        Raises:
            ConfigError: it is none, or of another network.
        """
        try:
            with safe_open(path, framework="pt", device=str(self._device)) as file:
                meta = file.metadata() or {}
                found = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            self.step, self.windows = int(meta["step"]), int(meta["windows"])
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise ConfigError(f"{path} is no checkpoint: {error}") from None
        wanted = {name: p.shape for name, p in self._named.items()}
        stored = {k[4:]: v.shape for k, v in found.items() if k.startswith("net.")}
        if wanted != stored:
            raise ConfigError(f"{path} is a checkpoint of a network of another shape")
        for name, parameter in self._named.items():
            parameter.copy_(found[f"net.{name}"])
            self.average[name] = found[f"average.{name}"].clone()
        self._muon.momenta[:] = [found[f"muon.{name}"].clone() for name in self._kernels]
        for name in self._others:
            keys = [k for k in found if k.startswith(f"adam.{name}.")]
            state = {k.rsplit(".", 1)[1]: found[k].clone() for k in keys}
            if state:
                state["step"] = state["step"].cpu()
                self._adam.state[self._named[name]] = state


def _multiplies_bf16(device: str) -> bool:
    if device != "cpu":
        return True
    flags = Path("/proc/cpuinfo")
    return flags.exists() and any(
        flag in flags.read_text() for flag in (" avx512_bf16", " amx_bf16", " bf16 ")
    )
