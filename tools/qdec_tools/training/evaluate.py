"""An early look at what a network is worth: failures beside correlated matching, shot by shot."""

from __future__ import annotations

from typing import Any

import numpy as np

from qdec.codes import Code
from qdec.match import Tier
from qdec.match.offline import OfflineDecoder
from qdec.windows.geometry import WHOLE
from qdec_tools.circuits import memory
from qdec_tools.training.trained import Trained

# Few, cheap, and those that targets are set for: (distance, noise).
POINTS = ((5, 0.006), (5, 0.003), (7, 0.006))
_SEED = 7


def error_rates(network: Trained, shots: int) -> dict[str, Any]:
    """Failures of a network's tier, both bases together.

    Args:
        network: the network.
        shots: per point; the same ones every time, so that a run's points can be compared.

    Returns:
        By point: shots, failures with it (``failures``), of correlated matching, and their ratio.
    """
    model = network.model()
    found: dict[str, Any] = {}
    for distance, noise in POINTS:
        ours = correlated = 0
        for basis in "xz":
            task = f"surface_code:rotated_memory_{basis}"
            circuit = memory(distance, distance, noise, task)
            code = Code.from_circuit(circuit)
            sampler = circuit.compile_detector_sampler(seed=_SEED)
            events, flips = sampler.sample(shots // 2, separate_observables=True, bit_packed=True)
            records = code.layout.to_records(events)
            for tier in (network.tier, Tier.CORRELATED):
                own = model if tier is network.tier else None
                frames, _ = OfflineDecoder(code, tier, WHOLE, model=own).decode(records)
                failures = int(np.count_nonzero((frames != flips).any(axis=1)))
                if tier is network.tier:
                    ours += failures
                else:
                    correlated += failures
        found[f"d={distance} p={noise:g}"] = {
            "shots": shots // 2 * 2,
            "failures": ours,
            "correlated": correlated,
            "against_correlated": round(ours / max(1, correlated), 4),
        }
    return found
