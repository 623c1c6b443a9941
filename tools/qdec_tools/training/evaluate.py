"""An early look at what a network is worth: failures beside correlated matching, shot by shot."""

from __future__ import annotations

from typing import Any

import numpy as np

from qdec.codes import Code
from qdec.match import Tier
from qdec.match.offline import OfflineDecoder
from qdec.neural.folded_model import FoldedModel
from qdec.neural.network import Network
from qdec.windows.geometry import WHOLE
from qdec_tools.circuits import memory

# Few, cheap, and those that targets are set for: (distance, noise).
POINTS = ((5, 0.006), (5, 0.003), (7, 0.006))
_SEED = 7


def error_rates(network: Network, shots: int) -> dict[str, Any]:
    """Failures of soft decoding with a network, both bases together.

    Args:
        network: the network.
        shots: per point; the same ones every time, so that a run's points can be compared.

    Returns:
        By point: shots, failures with it (``soft``), of correlated matching, and their ratio.
    """
    model = FoldedModel(network)
    found: dict[str, Any] = {}
    for distance, noise in POINTS:
        soft = correlated = 0
        for basis in "xz":
            task = f"surface_code:rotated_memory_{basis}"
            circuit = memory(distance, distance, noise, task)
            code = Code.from_circuit(circuit)
            sampler = circuit.compile_detector_sampler(seed=_SEED)
            events, flips = sampler.sample(shots // 2, separate_observables=True, bit_packed=True)
            records = code.layout.to_records(events)
            for tier in (Tier.ACCURACY, Tier.CORRELATED):
                own = model if tier is Tier.ACCURACY else None
                frames, _ = OfflineDecoder(code, tier, WHOLE, model=own).decode(records)
                failures = int(np.count_nonzero((frames != flips).any(axis=1)))
                if tier is Tier.ACCURACY:
                    soft += failures
                else:
                    correlated += failures
        found[f"d={distance} p={noise:g}"] = {
            "shots": shots // 2 * 2,
            "soft": soft,
            "correlated": correlated,
            "against_correlated": round(soft / max(1, correlated), 4),
        }
    return found
