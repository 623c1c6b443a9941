"""DEMs read the slow and obvious way, from Stim's flattened text: an oracle for the fast one."""

from __future__ import annotations

from collections import Counter

import stim

from qdec.codes import RoundLayout

Place = tuple[int, int]  # round, bit
Component = tuple[frozenset, frozenset]  # detectors (numbers or places), observables
Instruction = frozenset  # of (component, how often it is listed)


def merged_instructions(dem: stim.DetectorErrorModel) -> tuple[dict[Instruction, float], int]:
    """Instructions with their probabilities, alike ones merged, in order of first appearance.

    Also how many instructions and components no detector sees; they are left out.
    """
    merged: dict[Instruction, float] = {}
    undetectable = 0
    for item in dem.flattened():
        if item.type != "error" or item.args_copy()[0] == 0:
            continue
        components: Counter[Component] = Counter()
        for group in item.target_groups():
            odd = {t for t, n in Counter(map(str, group)).items() if n % 2}
            detectors = frozenset(int(t[1:]) for t in odd if t[0] == "D")
            if detectors:
                components[detectors, frozenset(int(t[1:]) for t in odd if t[0] == "L")] += 1
            else:
                undetectable += 1
        if components:
            key = frozenset(components.items())
            p, q = item.args_copy()[0], merged.get(key, 0.0)
            merged[key] = p * (1 - q) + q * (1 - p)
    return merged, undetectable


def instructions_in_rounds(
    dem: stim.DetectorErrorModel, layout: RoundLayout
) -> dict[Instruction, float]:
    """`merged_instructions`, each detector called by its place (round, bit)."""

    def place(detector: int) -> Place:
        return int(layout.round_of[detector]), int(layout.bit_of[detector])

    return {
        frozenset(((frozenset(map(place, ds)), obs), n) for (ds, obs), n in key): p
        for key, p in merged_instructions(dem)[0].items()
    }
