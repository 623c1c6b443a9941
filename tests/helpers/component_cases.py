"""The kernel `components` held to its reference, whatever runs it: the emulation, or a GPU."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from helpers.kernel_cases import JUNK, Batch, Runner, scattered
from helpers.offsets import check_record_offsets
from qdec.bits import Bytes
from qdec.cuda.component_plan import ComponentPlan
from qdec.cuda.component_reference import components
from qdec.cuda.component_table import BOUNDARY, CUT, INSIDE, SIDE, ComponentTable
from qdec.cuda.record import OddsRecord

Floats = NDArray[np.float32]


def judged(odds: Floats, sick: NDArray[np.bool_] | None = None) -> Bytes:
    """Log-odds as `edges` leaves them."""
    record = OddsRecord(odds.shape[1])
    records = np.zeros((len(odds), record.size), dtype=np.uint8)
    heads, to = record.read(records)
    heads["doubt"], heads["count"] = 1.5, (odds > 0).sum(axis=1)
    to[:] = odds
    if sick is not None:
        heads["sick"] = sick
        to[sick] = np.nan
    return records


def check_components(
    run: Runner, table: ComponentTable, batch: Batch, odds: Floats, sick: NDArray[np.bool_]
) -> Bytes:
    """Returns the records, without gaps; those of empty places are `JUNK`."""
    plan = ComponentPlan(table)
    record = plan.record
    count, step = len(odds), record.size + 16
    launch = plan.launch(count)
    offsets = np.where(batch.there, np.arange(count, dtype=np.int64)[::-1] * step, -1)
    check_record_offsets(offsets, record.size, count * step)
    given = judged(odds, sick)
    device = np.full(count * step, JUNK, dtype=np.uint8)
    for at, row in zip(offsets.tolist(), given, strict=True):
        if at >= 0:
            device[at : at + given.shape[1]] = row
    results = np.full(count * step, JUNK, dtype=np.uint8)
    arguments = (batch.arena, batch.offsets, device, results, offsets)
    run(launch, plan.arguments(launch, plan.tables, *arguments))
    rows = results.reshape(count, step)[::-1]
    assert (rows[:, record.size :] == JUNK).all(), "nothing is written between records"
    assert (rows[~batch.there] == JUNK).all(), "empty places have no record"
    found = np.ascontiguousarray(rows[:, : record.size])
    ours = found[batch.there]
    theirs = components(table, batch.windows[batch.there], given[batch.there])
    np.testing.assert_array_equal(ours[:, : record.short], theirs[:, : record.short])
    head, said, _, _ = record.read(ours)
    short = (said["settled"] == 1) | (head["sick"] == 1)
    assert (ours[short, record.short :] == JUNK).all(), "no log-odds that nobody needs"
    np.testing.assert_array_equal(record.read(ours[~short])[3], record.read(theirs[~short])[3])
    return found


def random_table(
    rng: np.random.Generator, window_bytes: int, degree: float, answer_bytes: int, apart: float
) -> ComponentTable:
    """Nodes on a line, edges to others near by and out at either end; some cut off."""
    nodes = 8 * window_bytes
    u = rng.integers(0, nodes, int(degree * nodes))
    v = np.clip(u + rng.integers(-6, 7, len(u)), 0, nodes - 1)
    ends = np.unique(np.sort(np.stack([u, v], axis=1), axis=1)[u != v], axis=0)
    out = np.flatnonzero(rng.random(nodes) < 0.2)
    ends = np.concatenate([ends, np.stack([out, np.full(len(out), BOUNDARY)], axis=1)])
    ends = np.concatenate([ends, [[0, 1]]]) if not len(ends) else ends
    ends = rng.permutation(ends).astype(np.int32)
    near = (ends[:, 1] == BOUNDARY) & (ends[:, 0] < nodes / 2)
    sides = np.where(near, SIDE, INSIDE)
    sides[rng.random(len(ends)) < rng.choice([0.0, 0.1])] = CUT
    counts = rng.integers(0, 3, len(ends))
    ptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    ids = rng.integers(0, 8 * answer_bytes, int(ptr[-1])).astype(np.int32)
    return ComponentTable(window_bytes, answer_bytes, ends, ptr, ids, sides.astype(np.uint8), apart)


def random_case(
    rng: np.random.Generator, table: ComponentTable, count: int, density: float
) -> tuple[Batch, Floats, NDArray[np.bool_]]:
    """Windows whose events mostly come of likely edges; and some that do not."""
    odds = rng.normal(-6, 2.5, (count, table.edges)).astype(np.float32)
    likely = rng.random(odds.shape) < density
    odds[likely] = rng.normal(1, 2, int(likely.sum()))
    taken = (odds > 0) ^ (rng.random(odds.shape) < density / 3)
    bits = np.zeros((count, table.nodes + 1), dtype=np.uint8)
    for row, edges in zip(bits, taken, strict=True):
        np.bitwise_xor.at(row, table.ends[edges].reshape(-1), 1)
    windows = np.packbits(bits[:, :-1], axis=1, bitorder="little")
    sick = rng.random(count) < 0.1
    return scattered(windows, rng), odds, sick
