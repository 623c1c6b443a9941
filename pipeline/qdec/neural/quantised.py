"""Eight-bit convolutions of the own family: which there may be, and their arithmetic.

What a quantised convolution is given are numbers from 0 on (they come out of a ReLU), rounded to
multiples of one *scale* of the layer and clipped at 255 of them; its kernel is rounded to multiples
of one scale per output channel, 127 of which are the channel's largest weight. Sums are exact, in
32 bits. Kernels' scales follow from the kernels; the layers' were measured (`qdec model quantise`)
and are kept with the weights as ``scale.LAYER``. A layer without one stays in floating point.

Only the 3x3x3 convolutions inside blocks can be quantised. They are five sixths of the arithmetic;
with the 1x1x1 ones in 8 bits as well, networks were measured to run no faster and less exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qdec.errors import ModelError
from qdec.neural.folded import Architecture

SCALE = "scale."
ACTIVATION_STEPS = 255
WEIGHT_STEPS = 127
# What a network that learned anything is far from; scales beyond are damage.
SMALLEST, LARGEST = 1e-6, 1e6
# A channel whose weights are all smaller is nothing.
_NOTHING = np.float32(1e-30)

Floats = NDArray[np.float32]


def quantisable(arch: Architecture) -> tuple[str, ...]:
    """The layers of an architecture that may run in 8 bits, in their order."""
    return tuple(f"look.{k}" for k in range(arch.blocks))


def check_scales(arch: Architecture, scales: Mapping[str, float]) -> None:
    """Make sure that scales are some.

    Raises:
        ModelError: one is of another layer, not finite, not above zero, or absurdly small or large.
    """
    layers = quantisable(arch)
    for layer, scale in scales.items():
        if layer not in layers:
            raise ModelError(f"the model has a scale of '{layer[:60]}', which is not quantised")
        if not SMALLEST <= scale <= LARGEST:  # NaN is neither
            raise ModelError(
                f"the model's scale of '{layer}' is {scale:g}: it must be from {SMALLEST:g} to "
                f"{LARGEST:g}; measure it again with `qdec model quantise`"
            )


def scales_of(tensors: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """The scales among a file's tensors, by layer. `check_scales` says whether they are sound.

    Raises:
        ModelError: one is not a single float32.
    """
    found = {}
    for name in sorted(tensors):  # files have no order
        if name.startswith(SCALE):
            value = tensors[name]
            if value.dtype != np.float32 or value.shape != (1,):
                raise ModelError(
                    f"the tensor {name[:60]} is {value.dtype} {value.shape}, not float32 (1,)"
                )
            found[name.removeprefix(SCALE)] = float(value[0])
    return found


def as_tensors(scales: Mapping[str, float]) -> dict[str, Floats]:
    """Scales as a file has them; see `scales_of`."""
    return {f"{SCALE}{name}": np.array([one], dtype=np.float32) for name, one in scales.items()}


def quantise_kernel(kernel: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Round a kernel, symmetrically about zero.

    Args:
        kernel: float32 ``(out, in, ...)``, finite.

    Returns:
        int8 of the same shape, from -127 to 127, and float32 ``(out,)`` scales above zero: the
        kernel is near their product.
    """
    peak = np.abs(kernel).reshape(len(kernel), -1).max(axis=1)
    scale = np.where(peak > _NOTHING, peak / np.float32(WEIGHT_STEPS), np.float32(1))
    steps = np.rint(kernel / scale.reshape(-1, *[1] * (kernel.ndim - 1)))
    return np.clip(steps, -WEIGHT_STEPS, WEIGHT_STEPS).astype(np.int8), scale
