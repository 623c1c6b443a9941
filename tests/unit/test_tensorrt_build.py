"""Every model that ships becomes a plan; every name of TensorRT that is used is there.

Both need wheels that the service does without, and are skipped where they are not installed:
``pip install --no-deps tensorrt-rtx-cu13-libs==1.7.1.116 tensorrt-rtx-cu13-bindings==1.7.1.116``
builds plans without a GPU, and ``pip install --no-deps tensorrt-cu13-bindings`` has the interface.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import helper

from helpers.networks import convolutions, model
from helpers.plans import ising, shipped
from qdec.errors import EngineError
from qdec.neural import driver
from qdec.neural.tensorrt import api, build, runner
from qdec.neural.tensorrt.build import Recipe

RTX = "tensorrt_rtx_bindings"
needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec(RTX) is None,
    reason="needs TensorRT-RTX: pip install --no-deps tensorrt-rtx-cu13-libs==1.7.1.116 "
    "tensorrt-rtx-cu13-bindings==1.7.1.116",
)
# Libraries that TensorRT 11's bindings want to be linked with, and what they take from them.
LIBRARIES = ("libnvinfer.so.11", "libnvinfer_plugin.so.11", "libnvonnxparser.so.11")
SYMBOLS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)


@pytest.fixture
def rtx(monkeypatch: pytest.MonkeyPatch) -> api.Api:
    monkeypatch.setattr(api, "MODULES", (RTX,))
    api.tensorrt.cache_clear()
    found = api.tensorrt()
    monkeypatch.setattr(build, "tensorrt", lambda: found)
    return found


@needs_rtx
@pytest.mark.parametrize("kind", ["whole", "mid-stream"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("name", ["speed", "accuracy"])
def test_shipped_models_become_plans(rtx: api.Api, name: str, precision: Any, kind: str) -> None:
    content, size = shipped(name, kind, quantised=precision == "int8")
    plan = build.build(Recipe(content, size, (1, 8, 64), precision), (9, 0))
    assert len(plan) > 10_000


@needs_rtx
@pytest.mark.parametrize("io", ["fp32", "fp16"])
@pytest.mark.parametrize("size", [(4, 3, 3), (9, 5, 5)])
def test_an_ising_network_becomes_a_plan(rtx: api.Api, size: Any, io: Any) -> None:
    assert build.build(Recipe(ising(), size, (1, 8), "fp16", io), (9, 0))


@needs_rtx
def test_what_it_cannot_build_for_is_said(rtx: api.Api, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(convolutions(), (2, 3, 3))
    assert build.build(recipe, (12, 0))
    with pytest.raises(EngineError, match=r"cannot build for compute capability 7\.0: it knows 7"):
        build.build(recipe, (7, 0))

    def no_driver() -> None:
        raise EngineError("no NVIDIA driver")

    monkeypatch.setattr(driver, "devices", no_driver)
    with pytest.raises(EngineError, match="no NVIDIA driver"):
        build.build(recipe)


@needs_rtx
def test_a_model_that_is_refused_is_said_with_the_reason(rtx: api.Api) -> None:
    arrays = {"scale": np.float32(0.1), "three": np.int8(3)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "three"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "three"], ["y"]),
    ]
    content = model(nodes, arrays).SerializeToString()
    with pytest.raises(EngineError, match=r"tensorrt-rtx 1\.\S+ cannot read the model: .*zero"):
        build.build(Recipe(content, (2, 3, 3), precision="fp32"), (9, 0))


def test_every_name_that_is_used_is_in_tensorrt_11(tmp_path: Path) -> None:
    """In a process of its own, whose loader is given empty libraries."""
    if importlib.util.find_spec("tensorrt_bindings") is None or shutil.which("gcc") is None:
        pytest.skip("needs gcc and: pip install --no-deps tensorrt-cu13-bindings")
    source = tmp_path / "stub.c"
    source.write_text("".join(f"int {name}(void) {{ return 0; }}\n" for name in SYMBOLS))
    for name in LIBRARIES:
        command = ["gcc", "-w", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", name, "stub.c"]
        subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    script = (
        "import json, tensorrt_bindings as trt; from qdec.neural.tensorrt.api import missing; "
        "print(json.dumps([trt.__version__, missing(trt)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    version, lacking = json.loads(done.stdout)
    assert int(version.split(".")[0]) >= 11
    assert lacking == []


# Variables that hold TensorRT's objects, and what TensorRT-RTX alone has.
HOLDERS = {"trt", "builder", "parser", "config", "profile", "engine", "context"}
HOLDERS |= {"_engine", "_runtime"}
EXTRAS = {"num_compute_capabilities", "set_compute_capability"}


def test_the_list_of_names_is_that_of_the_names_that_are_used() -> None:
    listed = {name for names in api.USED.values() for name in names}
    used = set()
    for module in (build, runner):
        for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
            if isinstance(node, ast.Attribute):
                holder = node.value
                name = getattr(holder, "id", getattr(holder, "attr", ""))
                of_the_module = isinstance(holder, ast.Attribute) and (
                    getattr(holder.value, "id", "") == "trt"
                )
                if name in HOLDERS or of_the_module:
                    used.add(node.attr)
    assert {"execute_async_v3", "parse", "STRONGLY_TYPED", "INPUT"} <= used
    assert used - listed == EXTRAS


def test_a_tensorrt_of_another_age_is_told_by_what_it_lacks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = SimpleNamespace(__version__="8.6.0", Builder=object)
    monkeypatch.setattr(api, "MODULES", ("old_trt", "no_such_tensorrt"))
    monkeypatch.setitem(sys.modules, "old_trt", old)
    api.tensorrt.cache_clear()
    with pytest.raises(EngineError, match=r"old_trt 8\.6\.0 is too old or too new: it has no "):
        api.tensorrt()
    monkeypatch.setattr(api, "MODULES", ("no_such_tensorrt",))
    api.tensorrt.cache_clear()
    with pytest.raises(EngineError, match=r"not installed: pip install 'qdec\[gpu\]'"):
        api.tensorrt()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"batches": ()}, "ascending"),
        ({"batches": (8, 1)}, "ascending"),
        ({"batches": (0, 1)}, "from 1 to"),
        ({"batches": tuple(range(1, 30))}, "at most 16"),
        ({"size": (0, 3, 3)}, "are none"),
        ({"precision": "fp32", "io": "fp16"}, "inputs in fp32"),
    ],
)
def test_recipes_that_do_not_hold_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(EngineError, match=says):
        Recipe(**{"content": b"", "size": (2, 3, 3), **changes})
