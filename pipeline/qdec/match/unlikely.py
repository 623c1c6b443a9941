"""Models in which some mechanism is more likely than not, told the other way round.

A mechanism of probability p > 1/2 is the same as one that always happens and one of probability
1 - p that undoes it. What always happens flips the same bits of every shot, so it can be taken out
of the model and put into the data: correlated matching, which only knows p <= 1/2, then applies.
"""

from __future__ import annotations

import numpy as np
import stim

from qdec.bits import Bytes, pack


def as_unlikely(
    dem: stim.DetectorErrorModel,
) -> tuple[stim.DetectorErrorModel, tuple[Bytes, Bytes] | None]:
    """A model without p > 1/2 that says the same, and what it leaves out.

    Returns:
        The model, and ``(ceil(detectors/8),)`` and ``(ceil(observables/8),)`` uint8 to XOR into
        the events it is given and into the predictions made with it. Nothing is left out of a
        model that has no such mechanism, which comes back as it is.
    """
    if not any(map(_has_likely, dem)):
        return dem, None
    out = stim.DetectorErrorModel()
    detectors = np.zeros(dem.num_detectors, dtype=np.bool_)
    observables = np.zeros(dem.num_observables, dtype=np.bool_)
    for item in dem.flattened():
        if not _has_likely(item):
            out.append(item)
            continue
        targets = item.targets_copy()
        out.append("error", 1 - item.args_copy()[0], targets)
        for target in targets:
            if target.is_relative_detector_id():
                detectors[target.val] ^= True
            elif target.is_logical_observable_id():
                observables[target.val] ^= True
    return out, (pack(detectors), pack(observables))


def _has_likely(item: stim.DemInstruction | stim.DemRepeatBlock) -> bool:
    if isinstance(item, stim.DemRepeatBlock):
        return any(map(_has_likely, item.body_copy()))
    return bool(item.type == "error" and item.args_copy()[0] > 0.5)
