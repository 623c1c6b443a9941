"""Whole shots in Ising's own order: detectors to tensors, logits to the residual.

A shot of T rounds has 2 T half detectors, half = (D² - 1) / 2: those of the memory basis in the
first round; X, then Z, in rounds 1 to T - 1; and the boundary detectors, which compare the last
round with the data's readout. The last round is taken to be perfect.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qdec.bits import Bits, Bytes
from qdec.errors import DataError
from qdec.neural.engine import Floats
from qdec.neural.ising.patch import KINDS, Basis, Patch


def syndromes(patch: Patch, basis: Basis, detectors: Bytes) -> tuple[Bytes, Bytes]:
    """Detectors in Ising's order → syndrome differences by type and round.

    Args:
        patch: the code.
        basis: of the memory experiment.
        detectors: ``(B, 2 T half)`` uint8 of 0/1.

    Returns:
        ``(B, 2, T, half)`` uint8, zero where the other basis has no detector or is masked (first
        and last round); and ``(B, half)`` boundary detectors.

    Raises:
        DataError: the width is no whole number of rounds.
    """
    half = patch.half
    shots, width = detectors.shape
    if width % (2 * half) or width == 0:
        raise DataError(
            f"{width} detectors are not 2 T x {half} of a distance-{patch.distance} shot"
        )
    rounds = width // (2 * half)
    out = np.zeros((shots, 2, rounds, half), dtype=np.uint8)
    memory = KINDS.index(basis)
    out[:, memory, 0] = detectors[:, :half]
    middle = detectors[:, half:-half].reshape(shots, rounds - 1, 2, half)
    out[:, :, 1:] = middle.transpose(0, 2, 1, 3)
    out[:, 1 - memory, -1] = 0
    return out, detectors[:, -half:]


def network_input(patch: Patch, basis: Basis, detectors: Bytes) -> Floats:
    """``(B, 2 T half)`` detectors → ``(B, 4, T, D, D)`` float32: X, Z, X presence, Z presence.

    Raises:
        DataError: as `syndromes`.
    """
    differences, _ = syndromes(patch, basis, detectors)
    shots, _, rounds, _ = differences.shape
    size = patch.distance
    out = np.zeros((shots, 4, rounds, size * size), dtype=np.float32)
    for kind in range(2):
        out[:, kind, :, patch.cells[kind]] = differences[:, kind].transpose(2, 0, 1)
        out[:, 2 + kind] = patch.presence[kind].reshape(-1)
    other = 3 - KINDS.index(basis)
    out[:, other, [0, -1]] = 0
    return out.reshape(shots, 4, rounds, size, size)


def decide(logits: Floats) -> Bits:
    """``(B, 4, T, D, D)`` logits → corrections of the same shape, bool: c_Z, c_X, m_X, m_Z."""
    return np.asarray(logits >= 0)


def residual(patch: Patch, basis: Basis, detectors: Bytes, corrections: Bits) -> Bytes:
    """What corrections leave of a shot, with their logical flip in front, as Ising writes it.

    It follows the published formulas to the letter. So where a network flips a measurement of the
    last round, which is perfect, the boundary detectors do not follow; and the other basis'
    detectors of that round are dropped. (The ``ising`` tier does neither.)

    Args:
        patch: the code.
        basis: of the memory experiment.
        detectors: ``(B, 2 T half)`` uint8 of 0/1.
        corrections: ``(B, 4, T, D, D)`` bool.

    Returns:
        ``(B, 1 + 2 T half)`` uint8 of 0/1: the logical flip, then detectors in Ising's order.

    Raises:
        DataError: as `syndromes`, or the corrections have another shape.
    """
    differences, boundary = syndromes(patch, basis, detectors)
    shots, _, rounds, _ = differences.shape
    size = patch.distance
    if corrections.shape != (shots, 4, rounds, size, size):
        raise DataError(f"corrections of shape {corrections.shape} for {rounds} rounds")
    flat = corrections.reshape(shots, 4, rounds, size * size)
    left = differences
    for kind in range(2):
        left[:, kind] ^= parity(flat[:, kind], patch.checks[kind])
        timelike = flat[:, 2 + kind][..., patch.cells[kind]].astype(np.uint8)
        left[:, kind] ^= timelike
        left[:, kind, 1:] ^= timelike[:, :-1]
    memory = KINDS.index(basis)
    flips = parity(flat[:, memory], patch.logicals[memory][None]).sum(axis=(1, 2)) % 2
    middle = left[:, :, 1:].transpose(0, 2, 1, 3).reshape(shots, -1)
    first = left[:, memory, 0]
    parts = [flips[:, None].astype(np.uint8), first, middle, boundary]
    return np.concatenate(parts, axis=1)


def parity(bits: Bits, checks: Bits) -> NDArray[np.uint8]:
    """``(..., n)`` bits, ``(m, n)`` checks → ``(..., m)`` uint8: H·bits modulo 2."""
    # Counts stay exact in single precision, whose products are fast.
    product = bits.astype(np.float32) @ checks.T.astype(np.float32)
    return (product.astype(np.int32) & 1).astype(np.uint8)
