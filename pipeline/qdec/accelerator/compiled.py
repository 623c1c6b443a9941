"""What the accelerator has compiled before it says that it serves, and nothing after."""

from __future__ import annotations

from qdec.accelerator.exchange import SLOT_BYTES, most_windows
from qdec.accelerator.kinds import kind_number
from qdec.accelerator.worker import Kind
from qdec.commit.bank import WindowBank
from qdec.config import StreamConfig
from qdec.errors import ConfigError, GeometryError, QdecError
from qdec.lane.library import WARM_GATE_S, Library
from qdec.windows.cut import answer_bytes


def compile_kinds(library: Library, stream: StreamConfig) -> dict[int, Kind]:
    """Every kind of window of a configured stream, by its number.

    Raises:
        ConfigError: the tier cannot answer the stream's windows; the message names the stream.
    """
    try:
        plan = library.plan(stream)
        bank = library.bank(plan.code, plan.tier, plan.geometry, plan.length)
        _check_room(bank, plan.length)
        fenced = bool(library.fence(plan.code, plan.tier, budget_s=WARM_GATE_S))
        return {
            kind_number(bank, plan.tier, bank.key(window)): Kind(bank.get(window), fenced)
            for window in bank.needed(plan.length)
        }
    except QdecError as error:
        raise ConfigError(f"stream '{stream.name}': {error}") from None


def _check_room(bank: WindowBank, length: int | None) -> None:
    """Refuse windows that would never be handed over.

    Raises:
        GeometryError: they are too large.
    """
    space = bank.code.spacetime
    rounds = max(window.end - window.start for window in bank.needed(length))
    size = rounds * space.layout.record_bytes
    if not most_windows(size, sum(answer_bytes(space))):
        raise GeometryError(
            f"its windows of {rounds} rounds have {size:,} bytes, and the accelerator takes them "
            f"up to some {SLOT_BYTES:,}: choose smaller windows, or accelerated = false"
        )
