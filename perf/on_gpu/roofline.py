"""Section `roofline`: what the networks must take by the card's rates, and what they do.

*least*: multiply-accumulates over the tensor cores' rate or bytes (weights, input and output once)
over the memory's, whichever is more; *layered*: with every layer's activations through memory, as
engines do that fuse nothing. Rates are the data sheet's; of an unknown card, and beside, those of a
large product and a copy as measured here.
"""

from __future__ import annotations

import dataclasses
import math
import statistics

from on_gpu.cards import Rates, data_sheet
from on_gpu.cases import ACCURATE, FAST, Case, Models
from on_gpu.figures import Budget, Load, ratio, stack_load
from on_gpu.latency import Bare
from on_gpu.plans import content_of
from on_gpu.section import Given
from qdec.neural.ising.network import CHANNELS

CASES = tuple(
    Case(model, d, rounds)
    for model in (FAST, ACCURATE)
    for d, rounds in ((13, 104), (13, 13), (31, 31), (21, 21), (7, 7))
)
_HALF = 2


def run(given: Given) -> None:
    """See the module."""
    measured = Rates(given.lab.macs_rate() or float("nan"), given.lab.rates()[0], "measured here")
    given.emit(
        {
            "note": f"measured: {2e-12 * measured.macs:.0f} TFLOP/s fp16, "
            f"{1e-12 * measured.bytes:.2f} TB/s"
        }
    )
    rates = data_sheet(given.lab.card) or measured
    for case, budget in given.each(CASES):
        given.tried(case, lambda case=case, budget=budget: measure(given, case, budget, rates))


def loads(models: Models, case: Case, batch: int) -> Load:
    """Of a case's stack in fp16."""
    return stack_load(models.weights(case.model).architecture, case.cells, batch, _HALF)


def measure(given: Given, case: Case, budget: Budget, rates: Rates) -> None:
    """One case, a row for the smallest and the largest batch."""
    lab = given.lab
    content, size = content_of(given, case)
    shape = (CHANNELS, *size)
    bare = Bare(lab, lab.program(content, size), shape, math.prod(shape))
    for batch in (lab.batches[0], lab.batches[-1]):
        load = loads(given.models, case, batch)
        least = load.roofline_us(rates.macs, rates.bytes)
        layered = dataclasses.replace(load, bytes=load.layered)
        took = None
        if budget.left > 0:
            bare.enqueue(batch)
            lab.runtime.wait(bare.stream)
            took = statistics.median(lab.timed(bare.stream, lambda n=batch: bare.enqueue(n)))
        given.emit(
            {
                **case.columns,
                "by": lab.ran[content, size],
                "batch": batch,
                "GMAC": load.macs / 1e9,
                "MB": load.bytes / 1e6,
                "least us": least,
                "layered us": layered.roofline_us(rates.macs, rates.bytes),
                "network us": took,
                "of least": ratio(took, least),
                "rates": rates.source,
            }
        )
