"""What a stream may take of a lane's memory and of a message, whoever opens it."""

from __future__ import annotations

from qdec.bus.cursor import cursor_size
from qdec.bus.wire import MAX_CURSOR_BYTES
from qdec.codes import Code
from qdec.errors import WireCode, WireError
from qdec.windows import Geometry
from qdec.windows.cut import answer_bytes


def rounds_in_flight(code: Code, geometry: Geometry, *, raw: bool, wanted: int, limit: int) -> int:
    """Rounds of a stream that a lane holds at most: as many as wanted, and two windows at least.

    Args:
        code: the stream's code.
        geometry: its windows.
        raw: its rounds carry measurements.
        wanted: `ring_rounds` of the configuration.
        limit: `max_stream_bytes` of the configuration.

    Raises:
        WireError: LIMIT: their records, or the stream's resume cursor, would be too large.
    """
    window = geometry.longest or code.spacetime.rounds
    rounds = max(wanted, 2 * window)
    measured = code.measurements if raw else None
    # Detectors, measurements, and which bits of what came were lost.
    came = measured.record_bytes if measured else code.layout.record_bytes
    record_bytes = code.layout.record_bytes + (came if measured else 0) + came
    if (rounds + window) * record_bytes > limit:
        raise WireError(
            WireCode.LIMIT,
            f"{rounds:,} rounds in flight need more than max_stream_bytes = {limit:,}: raise it, "
            "or lower ring_rounds or the windows",
        )
    history = measured.lookback * measured.record_bytes if measured else 0
    sweep = measured.sweep_bytes if measured else 0
    if cursor_size(*answer_bytes(code.spacetime), history, sweep) > MAX_CURSOR_BYTES:
        raise WireError(
            WireCode.LIMIT,
            f"the stream's resume cursor would exceed {MAX_CURSOR_BYTES} bytes: its mechanisms "
            "span too many rounds, or its observables are too many",
        )
    return rounds
