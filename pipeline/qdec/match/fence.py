"""Does what answers a stream keep its code's distance? A short run of the fault-distance gate.

What is tried is what is served: the stream's own windows, over shots as long as the code's text. So
nothing larger is compiled for it than the stream needs, and faults at the seams are among those
tried. Windows lose distance by themselves where the buffer is short; what plain matching loses in
the same windows is not held against another tier.
"""

from __future__ import annotations

import time

from qdec.codes import Code
from qdec.match.escalate import NO_SWITCHING, Switching
from qdec.match.gate import GateReport, try_faults
from qdec.match.offline import OfflineDecoder
from qdec.match.tier import RecordDecoder, Tier
from qdec.windows.geometry import Geometry

# Faults tried; a sample of them where there are more.
_FAULTS = 5000
_PAIRS = 50_000
_PROBED_FAULTS = 64


def is_beyond_doubt(tier: Tier, switching: Switching = NO_SWITCHING) -> bool:
    """Whether there is nothing to try: plain matching corrects what its windows allow."""
    return tier is Tier.MATCHING and not switching.tiers


def why_fenced(
    code: Code,
    geometry: Geometry,
    decoder: RecordDecoder,
    tier: Tier,
    switching: Switching = NO_SWITCHING,
    *,
    budget_s: float,
) -> str:
    """Why a tier (with those it escalates to) loses a code's distance, or an empty string.

    Single faults are tried, and from distance 5 on pairs along shortest logical errors, which are
    the hardest to tell apart; where that takes longer than about `budget_s`, a sample of them.

    Args:
        code: the code.
        geometry: of the windows it is served in.
        decoder: decodes the code's shots in those windows.
        tier, switching: what the decoder answers with.
        budget_s: for decoding, in seconds of wall time.

    Raises:
        QdecError: what the decoder raises.
    """
    if is_beyond_doubt(tier, switching):
        return ""
    name = ", then ".join(one.label for one in (tier, *switching.tiers))

    def tried(weight: int, most: int, by: RecordDecoder = decoder) -> GateReport:
        return try_faults(code, by, weight, name=name, limit=most, near=weight > 1)

    tried(1, 1)  # compiles
    started = time.monotonic()
    report = tried(1, _PROBED_FAULTS)
    each_s = (time.monotonic() - started) / report.tried
    most = max(_PROBED_FAULTS, int(budget_s / each_s))
    tries = [(1, min(most, _FAULTS), "single faults")]
    if (code.distance or 0) >= 5:
        tries.append((2, min(most, _PAIRS), "pairs of faults along shortest logical errors"))
    for weight, limit, what in tries:
        report = tried(weight, limit)
        if report.passed:
            continue
        # The same faults again.
        lost = tried(weight, limit, OfflineDecoder(code, Tier.MATCHING, geometry)).failed
        if report.failed > lost:
            safer = f"fails on {lost} and is" if lost else "is"
            return (
                f"{name} answers {report.failed} of {report.tried} {what} wrongly on this code "
                f"(plain matching {safer} safer at low noise)"
            )
    return ""
