"""Kernels on ragged sizes, in an emulation that checks every address: run as a module."""

from __future__ import annotations

import os

import numpy as np

from helpers.component_cases import check_components, random_case, random_table
from helpers.emulated import SANITISE, emulation
from helpers.kernel_cases import (
    check_edges,
    check_residual,
    check_unpack,
    logits_like,
    make_sick,
    random_batch,
    random_edge_table,
    random_residual_table,
    random_unpack_table,
)
from qdec.cuda.formats import ITEMSIZES
from qdec.cuda.plan import Device


def main() -> None:
    """Raise, or be ended by the sanitiser, at the first thing that is wrong."""
    assert SANITISE in os.environ
    rng = np.random.default_rng(1)
    run, device = emulation(), Device(1)
    for count, quads, window_bytes in [(1, 1, 1), (3, 257, 33), (9, 300, 71)]:
        batch = random_batch(count, window_bytes, rng)
        for form in ITEMSIZES:
            table = random_unpack_table(rng, quads, window_bytes)
            check_unpack(run, table, batch, form, device)
        residual = random_residual_table(rng, quads, window_bytes, 5)
        logits = logits_like((count, residual.elements), rng, "f16")
        check_residual(run, residual, batch, logits, "f16", device)
        make_sick(logits, rng)
        check_residual(run, residual, batch, logits, "f16", device)
        edges = random_edge_table(rng, quads, quads + 3)
        for apart in (0.0, 2.0):
            components = random_table(rng, window_bytes, 3.0, 5, apart)
            check_components(run, components, *random_case(rng, components, count, 0.1))
        check_edges(run, edges, logits_like((count, 4 * quads), rng, "f32"), "f32", True, device)
    print("clean")


if __name__ == "__main__":
    main()
