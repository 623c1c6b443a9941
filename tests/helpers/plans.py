"""Models that plans are built from, of every kind that ships or is served."""

from __future__ import annotations

import numpy as np
import onnx

from helpers.circuits import memory
from helpers.folded import grid_of
from helpers.networks import reference
from helpers.weights import random_stack
from qdec.codes import Code
from qdec.neural.folded_model import shipped_model
from qdec.neural.ising.network import PUBLISHED, to_onnx, weights_of
from qdec.neural.network import Network
from qdec.windows.geometry import Window

DISTANCE = ROUNDS = 3


def windows() -> dict[str, Window]:
    """A whole shot, and a window in mid-stream."""
    return {"whole": Window(0, 4, 4, 4), "mid-stream": Window(4, 8, 2, None)}


def code() -> Code:
    return Code.from_circuit(memory(d=DISTANCE, rounds=ROUNDS, p=0.003))


def endless() -> Code:
    return Code.from_circuit(memory(d=DISTANCE, rounds=12, p=0.003))


def scaled(network: Network) -> Network:
    """With scales for every layer that may have one, if it has none."""
    from qdec.neural.quantised import quantisable

    scales = dict(network.scales) or dict.fromkeys(quantisable(network.arch), 0.02)
    return Network(network.arch, network.weights, scales)


def shipped(name: str, kind: str, *, quantised: bool) -> tuple[bytes, tuple[int, int, int]]:
    """A shipped model as ONNX for one kind of window, and the window's size."""
    grid = grid_of(code() if kind == "whole" else endless(), windows()[kind])
    content = scaled(shipped_model(name).network).onnx(grid, quantised=quantised)
    rounds, height, width = grid.shape
    return content, (rounds, height, width)


def ising(number: int = 1, seed: int = 0) -> bytes:
    """A published architecture with random weights."""
    architecture = PUBLISHED[number]
    return to_onnx(weights_of(architecture, random_stack(architecture, seed, np.float32)))


def exact(content: bytes, *inputs: np.ndarray) -> np.ndarray:
    """What a model computes, by ONNX's reference evaluator, which knows quantisation from 19 on."""
    proto = onnx.load_model_from_string(content)
    for one in proto.opset_import:
        one.version = max(one.version, 19)
    return reference(proto.SerializeToString(), *inputs)


def events(batch: int, size: tuple[int, int, int], seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.random((batch, 4, *size)) < 0.05).astype(np.float32)
