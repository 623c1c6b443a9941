"""The shipped networks in fp32, bf16 and int8: time, what changes in their words, and failures.

    .venv/bin/python perf/quantised.py [--save]

Times of one thread, µs per window, alternating between precisions (medians of rounds, and of the
rounds' ratios). int8 is the 3x3x3 convolutions of the blocks in 8 bits and the rest in bf16. Then,
against fp32 on the same windows: the change of the edges' log-odds, how many keep their sign (of
those beyond half a nat), and the loss; and failures and time of the whole tier on the same shots.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np
from common import print_table, show

from qdec.codes import Code
from qdec.errors import EngineError
from qdec.match import Tier
from qdec.match.offline import OfflineDecoder
from qdec.neural.engine import CompiledNetwork, Floats, Precision, precisions
from qdec.neural.folded_model import FoldedModel, from_stored
from qdec.neural.network import Network
from qdec.neural.openvino_engine import OpenVinoNetwork
from qdec.neural.store import load_model
from qdec.windows import WHOLE
from qdec_tools.circuits import memory
from qdec_tools.quantisation import Examples, draw, losses

TIERS = (Tier.SPEED, Tier.ACCURACY)
AWAY = 0.5  # nats
SEED = 11


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=2000, help="of each kind, to compare on")
    parser.add_argument("--shots", type=int, default=20_000, help="of d=5, p=.006, both bases")
    parser.add_argument("--rounds", type=int, default=25, help="of timing")
    parser.add_argument("--save", action="store_true", help="keep results/quantised.json")
    options = parser.parse_args()
    if "int8" not in precisions():
        raise EngineError("this processor has no 8 bits to measure")
    times, words, failures = [], [], []
    for tier in TIERS:
        network = from_stored(load_model(tier.label))
        examples = draw(network.arch, options.windows, check=True)
        times += [row for some in examples for row in timed(tier, network, some, options.rounds)]
        words += compared(tier, network, examples)
        failures += failed(tier, network, options.shots)
    print_table("Beside fp32 on the same windows", words)
    print_table("Failures of the tier on the same shots, d=5, 5 rounds, p=.006", failures)
    show(
        "Networks by precision, one thread, us per window",
        times,
        save="quantised" if options.save else "",
        words=words,
        failures=failures,
    )


def timed(tier: Tier, network: Network, some: Examples, rounds: int) -> list[dict[str, Any]]:
    """One row per batch size."""
    compiled = {one: _compiled(network, some, one) for one in precisions()}
    int8 = compiled["int8"]
    assert isinstance(int8, OpenVinoNetwork)
    given = [kind for _, kind in int8.convolutions]
    rows = []
    for batch in (1, 64):
        x = np.ascontiguousarray(some.events[:batch].astype(np.float32))
        per_round = max(2, 40 // batch)
        taken = _alternating(compiled, x, rounds, per_round)
        us = {
            one: round(statistics.median(seconds) / batch * 1e6, 1)
            for one, seconds in taken.items()
        }
        pairs = zip(taken[precisions()[-2]], taken["int8"], strict=True)
        ratio = round(statistics.median(before / after for before, after in pairs), 2)
        rows.append(
            {
                "model": tier.label,
                "d": some.wish.distance,
                "rounds": some.wish.rounds,
                "batch": batch,
                **us,
                "int8 quicker": ratio,
                "8-bit convolutions": f"{given.count('u8')} of {len(given)}",
            }
        )
    return rows


def compared(tier: Tier, network: Network, examples: tuple[Examples, ...]) -> list[dict[str, Any]]:
    """One row per kind of window and precision."""
    rows = []
    found = {one: losses(FoldedModel(network, one), examples) for one in precisions()}
    for i, some in enumerate(examples):
        exact = _log_odds(network, some, "fp32")
        away = np.abs(exact) > AWAY
        for one in precisions():
            odds = _log_odds(network, some, one)
            rows.append(
                {
                    "model": tier.label,
                    "d": some.wish.distance,
                    "rounds": some.wish.rounds,
                    "p": some.wish.noise,
                    "precision": one,
                    "mean |change|": round(float(np.abs(odds - exact).mean()), 4),
                    "signs kept": round(float(((odds > 0) == (exact > 0))[away].mean()), 7),
                    "loss": round(found[one][i], 4),
                }
            )
    return rows


def failed(tier: Tier, network: Network, shots: int) -> list[dict[str, Any]]:
    """One row per precision; half of the shots of each basis."""
    wrong: dict[Precision, list[Any]] = {one: [] for one in precisions()}
    seconds = dict.fromkeys(wrong, 0.0)
    for basis in "xz":
        circuit = memory(5, 5, 0.006, f"surface_code:rotated_memory_{basis}")
        code = Code.from_circuit(circuit)
        sampler = circuit.compile_detector_sampler(seed=SEED)
        events, flips = sampler.sample(shots // 2, separate_observables=True, bit_packed=True)
        records = code.layout.to_records(events)
        for one in wrong:
            decoder = OfflineDecoder(code, tier, WHOLE, model=FoldedModel(network, one))
            decoder.decode(records[:64])
            began = time.perf_counter()
            frames, _ = decoder.decode(records)
            seconds[one] += time.perf_counter() - began
            wrong[one].append((frames != flips).any(axis=1))
    failures = {one: np.concatenate(found) for one, found in wrong.items()}
    base = failures[precisions()[-2]]
    return [
        {
            "tier": tier.label,
            "precision": one,
            "shots": len(found),
            "failures": int(found.sum()),
            "only it fails": int((found & ~base).sum()),
            f"only {precisions()[-2]} fails": int((base & ~found).sum()),
            "us per shot": round(seconds[one] / len(found) * 1e6, 1),
        }
        for one, found in failures.items()
    ]


def _compiled(network: Network, some: Examples, precision: Precision) -> CompiledNetwork:
    return FoldedModel(network, precision, threads=1).compile(some.grid)


def _log_odds(network: Network, some: Examples, precision: Precision) -> Any:
    said = some.through(_compiled(network, some, precision))
    places = some.grid.places
    change = np.concatenate([one.reshape(len(one), -1)[:, places] for _, one in said])
    return change + some.grid.prior


def _alternating(
    networks: dict[Precision, CompiledNetwork], x: Floats, rounds: int, per_round: int
) -> dict[Precision, list[float]]:
    """Seconds of one call of each, round by round."""
    taken: dict[Precision, list[float]] = {one: [] for one in networks}
    for network in networks.values():
        network(x)
    for _ in range(rounds):
        for one, network in networks.items():
            began = time.perf_counter()
            for _ in range(per_round):
                network(x)
            taken[one].append((time.perf_counter() - began) / per_round)
    return taken


if __name__ == "__main__":
    main()
