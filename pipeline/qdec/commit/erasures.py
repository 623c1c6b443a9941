"""What a window's decoder has to be told about bits that were lost."""

from __future__ import annotations

from qdec.commit.bank import WindowBank
from qdec.ingest import Intake, LossLog
from qdec.windows.cut import Erasure
from qdec.windows.geometry import Window

# Lost bits that a window's decoder is compiled with; more than this are taken as they came.
_MAX_LOST = 4096


def erasures_of(
    losses: LossLog, intake: Intake, bank: WindowBank, base: int, window: Window
) -> tuple[tuple[Erasure, ...], bool]:
    """The erasures of a window of the shot that started at stream round `base`.

    Where the bank is for a part of the code, those of its detectors only.

    Returns:
        The erasures, and whether bits were lost that they do not stand for.
    """
    space, part = bank.code.spacetime, bank.part
    first = max(0, window.start - intake.lookback)
    length = space.seen_length(window.end, window.length)
    # A seam has no room for what reaches further than the code's own mechanisms, and only the
    # untouched model of a whole shot has no seam.
    reach = space.rounds if bank.geometry.is_whole and part is None else space.span
    lost = [
        (round_ - base, bit)
        for round_, plane in losses.between(base + first, base + window.end)
        for bit in intake.lost_bits(plane, round_ - base, length)
    ]
    found = []
    ignored = len(lost) > _MAX_LOST
    for round_, bit in lost[:_MAX_LOST]:
        erasure = intake.erasure(round_, bit, length)
        rounds = [r for r, _ in erasure.detectors] if erasure else []
        if erasure is None or max(rounds) - min(rounds) > reach:
            ignored = True
        elif window.start <= min(rounds) < window.end:
            held = [part is None or part.holds(r, b, length) for r, b in erasure.detectors]
            if all(held):
                found.append(erasure)
            elif any(held):  # no part can match across to another
                ignored = True
    return tuple(found), ignored
