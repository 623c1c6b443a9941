"""Without a device: what would be launched, checked and counted; then a clear end."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from common import show

from on_gpu import cudaq
from on_gpu.cases import (
    ACCURATE,
    BATCHES,
    FAST,
    SPEED,
    Case,
    Compiled,
    Models,
    compile_case,
    write_weights,
)
from on_gpu.figures import arrivals, settle_traffic, then_traffic, unpack_traffic
from on_gpu.plans import nothing
from on_gpu.roofline import loads
from on_gpu.section import Row
from qdec.config import load_config
from qdec.cuda.plan import Device

_HALF = 2


def dry_run(models: Models, distances: Sequence[int]) -> None:
    """Compile cases, shape launches, write the service's configuration; print what came of it."""
    rows: list[Row] = []
    for d in distances:
        for model in (FAST, ACCURATE, SPEED):
            rows += launches(compile_case(Case(model, d, d), models, nothing), models)
    show("what would be launched, for a GPU with 132 multiprocessors", rows)
    case = cudaq.CASE
    every_us, seconds = cudaq.PACES[-1]
    due = arrivals(1e6 / every_us, seconds)
    with tempfile.TemporaryDirectory() as folder:
        code, model = Path(folder) / "code.stim", Path(folder) / "fast.safetensors"
        code.write_text(str(cudaq.circuit(case)))
        write_weights(model, models.weights(case.model))
        config = Path(folder) / "qdec.toml"
        lane = '[service]\nplain_tcp = true\n[[lane]]\nendpoints = ["tcp://127.0.0.1:5555"]\n'
        config.write_text(lane + cudaq.tables(case, code, model, "auto"))
        load_config(config)
    print(f"cudaq: the configuration holds; {len(due):,} requests in {due[-1] / 1e9:.1f} s")
    print("dry run: everything up to the device holds; nothing was measured")


def launches(compiled: Compiled, models: Models) -> list[Row]:
    """A row for the smallest and the largest batch."""
    kind, device = compiled.kind, Device()
    rows = []
    for batch in (BATCHES[0], BATCHES[-1]):
        unpack = kind.unpack.launch(batch, _HALF, device)
        then = kind.then.launch(batch, "f16", device)
        macs = (
            "" if compiled.case.model == SPEED else loads(models, compiled.case, batch).macs / 1e9
        )
        rows.append(
            {
                **compiled.case.columns,
                "batch": batch,
                "input": "x".join(map(str, kind.shape)),
                "window B": kind.unpack.window_bytes,
                "record B": kind.record.size,
                "unpack grid": "x".join(map(str, unpack.grid)),
                "each": unpack.windows_each,
                "shared B": unpack.shared,
                "then": then.kernel,
                "its grid": "x".join(map(str, then.grid)),
                "unpack MB": unpack_traffic(kind.unpack, batch, _HALF).device / 1e6,
                "settle shared B": kind.settle.shared if kind.settle else "",
                "settle MB": settle_traffic(kind, batch, 0).device / 1e6,
                "back B": kind.settle.record.short * batch if kind.settle else "",
                "then MB": then_traffic(kind, batch, _HALF).device / 1e6,
                "GMAC": macs,
            }
        )
    return rows
