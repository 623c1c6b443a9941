"""Networks compiled once and run many times; ONNX files that are refused."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from helpers.networks import SHAPE, convolutions, model, reference, value, weights
from qdec.errors import EngineError, ModelError
from qdec.neural import engine, onnx_model
from qdec.neural.collect import Wanted, collecting
from qdec.neural.engine import compile_network, precisions
from qdec.neural.fallback import that_runs
from qdec.neural.onnx_model import parse_model
from qdec.neural.openvino_engine import OpenVinoNetwork


def events(shape: tuple[int, ...], seed: int = 1) -> np.ndarray:
    return (np.random.default_rng(seed).random(shape) < 0.2).astype(np.float32)


def residual_network() -> bytes:
    """Two inputs, a bottleneck, a skip, a mask: what networks of later stages are made of."""
    arrays = {
        "w0": weights((8, 4, 3, 3, 3), 1),
        "b0": weights((8,), 2, 0.1),
        "w1": weights((8, 8, 3, 1, 1), 3),
        "w2": weights((5, 8, 1, 1, 1), 4),
        "half": np.float32(0.5),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["h"], pads=[1] * 6),
        helper.make_node("Gelu", ["h"], ["g"], approximate="tanh"),
        helper.make_node("Conv", ["g", "w1"], ["u"], pads=[1, 0, 0, 1, 0, 0]),
        helper.make_node("Mul", ["u", "half"], ["s"]),
        helper.make_node("Add", ["g", "s"], ["r"]),
        helper.make_node("Mul", ["r", "mask"], ["m"]),
        helper.make_node("Conv", ["m", "w2"], ["y"]),
    ]
    inputs = [value("x"), value("mask", ("batch", 1, *SHAPE[2:]))]
    outputs = [value("y", ("batch", 5, *SHAPE[2:]))]
    return model(nodes, arrays, inputs=inputs, outputs=outputs).SerializeToString()


@pytest.mark.parametrize("threads", [1, 2])
def test_any_batch_and_size_equals_the_reference(threads: int) -> None:
    content = convolutions()
    network = compile_network(content, threads=threads)
    assert network.channels == ((4,), 4)
    for shape in [(1, 4, 5, 3, 3), (7, 4, 2, 5, 4), (2, 4, 1, 1, 1), (1, 4, 5, 3, 3)]:
        x = events(shape)
        np.testing.assert_allclose(network(x), reference(content, x), atol=1e-5)
    assert network(np.zeros((0, 4, 5, 3, 3), dtype=np.float32)).shape == (0, 4, 5, 3, 3)


def test_several_inputs_skips_and_gelu_equal_the_reference() -> None:
    content = residual_network()
    network = compile_network(content)
    assert network.channels == ((4, 1), 5)
    x, mask = events((3, 4, 4, 6, 5)), events((3, 1, 4, 6, 5), 2)
    np.testing.assert_allclose(network(x, mask), reference(content, x, mask), atol=1e-5)


def test_answers_are_the_callers_own_and_inputs_need_not_be_contiguous() -> None:
    content = convolutions()
    network = compile_network(content)
    x = events((4, 4, 3, 3, 5)).transpose(0, 1, 2, 4, 3)
    first = network(x)
    kept = first.copy()
    network(1 - x)
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_allclose(first, reference(content, x), atol=1e-5)


def test_half_precision_is_near_or_refused() -> None:
    content = convolutions((4, 16, 4))
    if "bf16" not in precisions():
        with pytest.raises(EngineError, match="bf16"):
            compile_network(content, precision="bf16")
        return
    x = events((2, 4, 5, 5, 5))
    near = compile_network(content, precision="bf16")(x)
    exact = reference(content, x)
    assert np.abs(near - exact).max() < 0.05 * np.abs(exact).max()


@pytest.mark.parametrize(
    "inputs",
    [
        (np.zeros((1, 3, 5, 3, 3), dtype=np.float32),),
        (np.zeros((4, 5, 3, 3), dtype=np.float32),),
        (np.zeros((1, 4, 0, 3, 3), dtype=np.float32),),
        (np.zeros((1, 4, 5, 3, 3)),),
        (),
        (np.zeros((1, 4, 5, 3, 3), dtype=np.float32),) * 2,
    ],
    ids=["channels", "rank", "no rounds", "float64", "none", "two"],
)
def test_inputs_of_another_layout_are_refused(inputs: tuple[np.ndarray, ...]) -> None:
    with pytest.raises(EngineError, match=r"takes float32|inputs, not"):
        compile_network(convolutions())(*inputs)


def test_an_engine_that_is_not_there_is_refused() -> None:
    with pytest.raises(EngineError, match="abacus"):
        compile_network(convolutions(), engine=cast(Any, "abacus"))
    with pytest.raises(EngineError, match="thread"):
        compile_network(convolutions(), threads=0)
    with pytest.raises(EngineError, match="fp7"):
        compile_network(convolutions(), precision=cast(Any, "fp7"))


def test_networks_that_overflow_say_so_in_their_answer() -> None:
    arrays = {"w0": np.full((4, 4, 1, 1, 1), 3e38, dtype=np.float32)}
    content = model([helper.make_node("Conv", ["x", "w0"], ["y"])], arrays).SerializeToString()
    assert not np.isfinite(compile_network(content)(np.ones((1, 4, 1, 1, 1), np.float32))).any()


def changed(change: Callable[[onnx.ModelProto], object]) -> bytes:
    proto = onnx.load_model_from_string(convolutions())
    change(proto)
    return proto.SerializeToString()


def external(proto: onnx.ModelProto) -> None:
    tensor = proto.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def external_constant(proto: onnx.ModelProto) -> None:
    external(proto)
    tensor = TensorProto()
    tensor.CopyFrom(proto.graph.initializer[0])
    del proto.graph.initializer[0]
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["w0"], value=tensor))


def nan(proto: onnx.ModelProto) -> None:
    old = numpy_helper.to_array(proto.graph.initializer[1]).copy()
    old[0] = np.nan
    proto.graph.initializer[1].CopyFrom(numpy_helper.from_array(old, "b0"))


def copied(graph: onnx.GraphProto) -> onnx.GraphProto:
    other = onnx.GraphProto()
    other.CopyFrom(graph)
    return other


def branch(proto: onnx.ModelProto) -> None:
    body = copied(proto.graph)
    proto.graph.node.append(
        helper.make_node("If", ["x"], ["z"], then_branch=body, else_branch=body)
    )


def hidden_graph(proto: onnx.ModelProto) -> None:
    body = copied(proto.graph)
    attribute = proto.graph.node[1].attribute.add(name="body", type=onnx.AttributeProto.GRAPH)
    attribute.g.CopyFrom(body)


def set_pads(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].attribute[0].ints[:] = [1 << 40] * 6


def set_batch(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3


def open_channels(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "c"


def set_input_channels(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 7


def drop_a_dimension(proto: onnx.ModelProto) -> None:
    del proto.graph.input[0].type.tensor_type.shape.dim[4]


def integers(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64


def claim_a_huge_weight(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].dims[:] = [1 << 40, 1 << 40]


def no_padding(proto: onnx.ModelProto) -> None:
    del proto.graph.node[0].attribute[:]


def second_output(proto: onnx.ModelProto) -> None:
    proto.graph.output.add(name="c0")


def old_operators(proto: onnx.ModelProto) -> None:
    proto.opset_import[0].version = 7


def foreign(proto: onnx.ModelProto) -> None:
    proto.graph.node[1].domain = "com.example"


def dangling(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].input[0] = "nowhere"


def grows(proto: onnx.ModelProto) -> None:
    wide = np.zeros((1, 4, 1, 1, 1 << 20), dtype=np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(wide, "wide"))
    tall = np.zeros((1, 4, 1 << 20, 1, 1), dtype=np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(tall, "tall"))
    proto.graph.node.append(helper.make_node("Mul", ["wide", "tall"], ["huge"]))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (external, "another file"),
        (external_constant, "another file"),
        (nan, "finite"),
        (branch, "operator 'If'"),
        (hidden_graph, "holds a graph"),
        (set_pads, "shapes do not fit|has size"),
        (set_batch, "fixed batch of 3"),
        (open_channels, "how many channels"),
        (set_input_channels, "shapes do not fit"),
        (drop_a_dimension, "is not float32"),
        (integers, "is not float32"),
        (claim_a_huge_weight, "impossible shape"),
        (no_padding, "output is not"),
        (second_output, "2 outputs"),
        (old_operators, "operator set"),
        (foreign, "com.example.Relu"),
        (dangling, "shapes do not fit|is not known"),
        (grows, "has size"),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_models_that_could_do_harm_are_refused(
    change: Callable[[onnx.ModelProto], object], reason: str
) -> None:
    with pytest.raises(ModelError, match=reason):
        compile_network(changed(change))


def test_a_model_beyond_the_limit_is_refused_before_it_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = convolutions()
    monkeypatch.setattr(onnx_model, "MAX_MODEL_BYTES", len(content) - 1)
    with pytest.raises(ModelError, match="limit"):
        parse_model(content)


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"not onnx at all", b"\x0a\xff\xff\xff"])
def test_bytes_that_are_no_model_are_refused(content: bytes) -> None:
    with pytest.raises(ModelError, match="not an ONNX model"):
        parse_model(content)


@settings(max_examples=200)
@given(st.data())
def test_damaged_models_are_refused_or_still_run(data: st.DataObject) -> None:
    """Whatever the damage, nothing but an error of ours comes out."""
    content = bytearray(convolutions())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    with contextlib.suppress(ModelError):
        parse_model(bytes(content))


# -- which engine ----------------------------------------------------------------------------------


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Whatever is settled in a test is forgotten behind it."""
    for name in ("_engine", "_batches", "_asked", "_fallback", "_may_build"):
        monkeypatch.setattr(engine, name, getattr(engine, name))
    return monkeypatch


def there(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    def look(name: str) -> Callable[[], None]:
        def found() -> None:
            if name not in names:
                raise EngineError(f"{name} is not here: install it")

        return found

    monkeypatch.setattr(engine, "_LOOKS", {name: look(name) for name in engine.ENGINES})


@pytest.mark.parametrize(
    ("have", "taken"),
    [
        (("openvino",), "openvino"),
        (("openvino", "torch"), "torch"),
        (("openvino", "torch", "tensorrt"), "tensorrt"),
    ],
)
def test_auto_takes_a_gpus_engine_where_there_is_one(
    settled: pytest.MonkeyPatch, have: tuple[str, ...], taken: str
) -> None:
    there(settled, *have)
    assert engine.use_engine("auto", fallback=False) == taken
    assert engine.floating() == ("fp32" if taken == "openvino" else "fp16")
    assert [one for one, why in engine.engines().items() if not why] == [
        one for one in engine.ENGINES if one in have
    ]


def test_an_engine_that_cannot_be_had_is_replaced_or_refused(
    settled: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    there(settled, "openvino")
    with pytest.raises(EngineError, match=r"tensorrt is not here: install it; .*fallback = true"):
        engine.use_engine("tensorrt", fallback=False)
    assert engine.use_engine("tensorrt", fallback=True) == "openvino"
    assert "tensorrt is not here: install it" in caplog.text
    compile_network(convolutions())


class Refuses:
    """A GPU's network that fails when it is called."""

    channels = ((4,), 4)

    def __call__(self, *inputs: np.ndarray) -> np.ndarray:
        raise EngineError("no memory for batches of 64")


@pytest.mark.parametrize("when", ["compiled", "called"])
def test_a_network_that_the_gpu_cannot_run_moves_to_the_processor(
    settled: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    there(settled, "openvino", "tensorrt")

    def make(*_: object) -> Refuses:
        if when == "compiled":
            raise EngineError("no memory for batches of 64")
        return Refuses()

    settled.setitem(engine._MAKERS, "tensorrt", make)
    x = np.ones((1, 4, 2, 3, 3), dtype=np.float32)
    engine.use_engine("auto", fallback=False)
    with pytest.raises(EngineError, match="no memory"):
        compile_network(convolutions(), precision="fp16")(x)
    engine.use_engine("auto", fallback=True)
    network = compile_network(convolutions(), precision="fp16")
    np.testing.assert_allclose(network(x), reference(convolutions(), x), atol=1e-5)
    assert network.channels == ((4,), 4)
    assert isinstance(that_runs(network), OpenVinoNetwork)
    assert that_runs(that_runs(network)) is that_runs(network)
    assert "on the processor, since on the GPU it cannot: no memory" in caplog.text
    with pytest.raises(EngineError, match="takes float32"):
        network(x[0])


def test_a_network_that_fails_while_the_process_serves_is_a_failure(
    settled: pytest.MonkeyPatch,
) -> None:
    there(settled, "openvino", "tensorrt")
    settled.setitem(engine._MAKERS, "tensorrt", lambda *_: Refuses())
    engine.use_engine("tensorrt", fallback=True)
    network = compile_network(convolutions(), precision="fp16")
    engine.stop_building()
    with pytest.raises(EngineError, match="no memory"):
        network(np.ones((1, 4, 2, 3, 3), dtype=np.float32))


@pytest.mark.parametrize(
    ("have", "asked", "runs", "plain"),
    [
        (("openvino", "tensorrt"), "auto", "fp16", "fp16"),
        (("openvino", "tensorrt"), "int8", "int8", "fp16"),
        (("openvino", "tensorrt"), "fp32", "fp32", "fp32"),
        (("openvino",), "fp32", "fp32", "fp32"),
        (("openvino",), "fp16", precisions()[-1], "fp32"),
    ],
)
def test_a_precision_is_taken_where_it_can_be_had(
    settled: pytest.MonkeyPatch, have: tuple[str, ...], asked: Any, runs: str, plain: str
) -> None:
    there(settled, *have)
    engine.use_engine("auto", precision=asked)
    assert precisions()[-1] == runs
    assert engine.floating() == plain
    assert set(precisions("openvino")) >= {"fp32"}


def test_gpu_engines_say_what_is_missing_here() -> None:
    for name, why in engine.engines().items():
        if name == "openvino":
            assert not why
        elif why:  # on a machine without a GPU
            assert re.search(r"pip install|driver|no GPU", why), why


@pytest.mark.parametrize(
    ("most", "sizes"), [(1, (1,)), (2, (1, 2)), (64, (1, 4, 16, 64)), (100, (1, 4, 16, 64, 100))]
)
def test_buckets_reach_the_largest_batch(most: int, sizes: tuple[int, ...]) -> None:
    assert engine.buckets(most) == sizes


def test_what_will_be_run_is_found_out_without_running_it() -> None:
    content = convolutions()
    with collecting("tensorrt") as found:
        assert precisions()[-1] == "fp16"
        network = compile_network(content, precision="fp16")
        for size in ((2, 3, 3), (2, 3, 3), (4, 3, 3)):
            answer = network(np.ones((2, 4, *size), dtype=np.float32))
            assert answer.shape == (2, 4, *size)
            assert not answer.any()
        with pytest.raises(EngineError, match="takes float32"):
            network(np.ones((2, 3, 2, 3, 3), dtype=np.float32))
    assert list(found.wanted) == [
        Wanted(content, "fp16", (2, 3, 3)),
        Wanted(content, "fp16", (4, 3, 3)),
    ]
    assert compile_network(content)(np.ones((1, 4, 2, 3, 3), dtype=np.float32)).any()
