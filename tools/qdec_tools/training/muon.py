"""The Muon optimiser, for convolution kernels (Jordan et al. 2024, kellerjordan.github.io).

Momentum, made orthogonal: each kernel, as a matrix (outputs, inputs times taps), moves along the
nearest semi-orthogonal matrix to its momentum, found by a quintic Newton-Schulz iteration.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


class Muon:
    """Steps kernels of two or more dimensions.

    Attributes:
        momenta: one per kernel, in the order given; a checkpoint holds them.
    """

    def __init__(self, kernels: Iterable[Any], momentum: float = 0.95) -> None:
        """Start at rest."""
        self._kernels = list(kernels)
        self._momentum = momentum
        self.momenta = [torch.zeros_like(kernel) for kernel in self._kernels]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move by `rate` along the orthogonalised (Nesterov) momentum of the present gradients."""
        for kernel, momentum in zip(self._kernels, self.momenta, strict=True):
            momentum.mul_(self._momentum).add_(kernel.grad)
            wanted = kernel.grad + self._momentum * momentum
            matrix = wanted.reshape(len(wanted), -1)
            scale = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
            kernel.add_(orthogonal(matrix).reshape(kernel.shape), alpha=-rate * scale)


def orthogonal(matrix: Any) -> Any:
    """Nearly the semi-orthogonal factor of a matrix; singular values come out near 1."""
    a, b, c = _COEFFICIENTS
    x = matrix.to(torch.bfloat16)
    x = x / (x.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if tall else x).to(matrix.dtype)
