"""Engines on a GPU: TensorRT, PyTorch and OpenVINO say the same. Skipped where there is no GPU."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.plans import events, ising, shipped
from qdec.errors import EngineError
from qdec.neural import driver
from qdec.neural.engine import compile_network, engines
from qdec.neural.onnx_model import parse_model
from qdec.neural.tensorrt import cache
from qdec.neural.tensorrt.half import signed
from qdec.neural.tensorrt.runner import TensorRTNetwork
from qdec.neural.torch_engine import TorchNetwork

try:
    driver.devices()
except EngineError as error:
    pytest.skip(f"needs a GPU: {error}", allow_module_level=True)

BATCHES = (1, 8, 64)
SAME = 0.999


def model(name: str, kind: str, quantised: bool = False) -> tuple[bytes, tuple[int, int, int]]:
    return (ising(), (7, 7, 7)) if name == "ising" else shipped(name, kind, quantised=quantised)


def in_tensorrt(content: bytes, precision: Any, folder: Path) -> TensorRTNetwork:
    if why := engines()["tensorrt"]:
        pytest.skip(why)
    parsed = parse_model(content)
    return TensorRTNetwork(parsed, precision=precision, batches=BATCHES, folder=folder)


def in_torch(content: bytes, precision: Any) -> TorchNetwork:
    if why := engines()["torch"]:
        pytest.skip(why)
    return TorchNetwork(parse_model(content), precision=precision, threads=1, device="cuda")


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    return float((np.sign(a) == np.sign(b)).mean())


@pytest.mark.parametrize("kind", ["whole", "mid-stream"])
@pytest.mark.parametrize("name", ["speed", "accuracy", "ising"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_tensorrt_agrees_with_the_processor(
    tmp_path: Path, precision: Any, name: str, kind: str
) -> None:
    content, size = model(name, kind)
    network, exact = in_tensorrt(content, precision, tmp_path / "plans"), compile_network(content)
    for batch in (1, 5, 64, 130):
        x = events(batch, size, seed=batch)
        assert agreement(network(x), exact(x)) >= SAME


@pytest.mark.parametrize("name", ["speed", "accuracy", "ising"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_torch_agrees_with_the_processor(precision: Any, name: str) -> None:
    content, size = model(name, "whole")
    x = events(64, size)
    assert agreement(in_torch(content, precision)(x), compile_network(content)(x)) >= SAME


def test_tensorrt_agrees_with_torch(tmp_path: Path) -> None:
    content, size = model("speed", "whole")
    x = events(64, size)
    found = in_tensorrt(content, "fp16", tmp_path / "plans")(x)
    assert agreement(found, in_torch(content, "fp16")(x)) >= SAME


@pytest.mark.parametrize("name", ["speed", "accuracy"])
def test_eight_bits_are_those_that_were_meant(tmp_path: Path, name: str) -> None:
    content, size = model(name, "whole", quantised=True)
    meant = parse_model(signed(content))
    x = events(64, size)
    found = in_tensorrt(content, "int8", tmp_path / "plans")(x)
    pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
    same = TorchNetwork(meant, precision="int8", threads=1, device="cpu")(x)
    assert agreement(found, same) >= SAME


def test_a_corrupt_plan_is_built_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "plans"
    content, size = model("speed", "whole")
    x = events(8, size)
    before = in_tensorrt(content, "fp16", folder)(x)
    (entry,) = cache.entries(folder)
    damaged = bytearray(entry.path.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    entry.path.write_bytes(bytes(damaged))
    with caplog.at_level(logging.WARNING):
        again = in_tensorrt(content, "fp16", folder)(x)
    assert "damaged or changed" in caplog.text
    assert not next(cache.entries(folder)).problem
    assert agreement(before, again) >= SAME


def test_a_plan_of_garbage_with_a_sound_header_is_built_again(tmp_path: Path) -> None:
    """What only TensorRT itself can find out."""
    folder = tmp_path / "plans"
    content, size = model("speed", "whole")
    in_tensorrt(content, "fp16", folder)
    (entry,) = cache.entries(folder)
    cache.write(folder, entry.key, bytes(1 << 16))
    assert in_tensorrt(content, "fp16", folder)(events(1, size)).shape[0] == 1


def test_a_captured_graph_says_what_the_network_says(tmp_path: Path) -> None:
    cupy = pytest.importorskip("cupy", reason="needs CuPy: pip install 'qdec[gpu]'")
    content, size = model("speed", "whole")
    network = in_tensorrt(content, "fp16", tmp_path / "plans")
    program = network.program(size, may_build=True)
    bucket = program.bucket(8)
    x = events(8, size)
    stream = cupy.cuda.Stream(non_blocking=True, priority=-1)
    (output,) = program.outputs
    with stream:
        given = cupy.asarray(x)
        result = cupy.empty((8, network.channels[1], *size), program.dtypes[output])
        addresses = {parse_model(content).names[0]: given.data.ptr, output: result.data.ptr}
        program.enqueue(bucket, addresses, stream.ptr)  # the first call may allocate
        stream.synchronize()
        stream.begin_capture()
        program.enqueue(bucket, addresses, stream.ptr)
        graph = stream.end_capture()
        result.fill(0)
        graph.launch(stream)
        stream.synchronize()
    np.testing.assert_array_equal(cupy.asnumpy(result), network(x))
