"""What the accelerator has compiled before it says that it serves, and nothing after."""

from __future__ import annotations

import time

import numpy as np

from qdec.accelerator.exchange import SLOT_BYTES, most_windows
from qdec.accelerator.executor import Kind
from qdec.accelerator.kinds import kind_number
from qdec.commit.bank import WindowBank
from qdec.config import StreamConfig
from qdec.errors import ConfigError, DeviceError, GeometryError, QdecError
from qdec.lane.library import WARM_EFFORT, WARM_GATE_S, Library
from qdec.match import CompiledWindow
from qdec.windows.cut import answer_bytes
from qdec.windows.geometry import Window


def compile_kinds(library: Library, stream: StreamConfig, *, batch: int = 1) -> dict[int, Kind]:
    """Every kind of window of a configured stream, by its number, compiled and warmed up.

    Engines compile anew for a number of windows that they have not seen: what takes whole batches
    of another size may round it up to a power of two, for which its decoder has been called here.

    Args:
        library: what is compiled.
        stream: from the configuration.
        batch: most windows that will be decoded together.

    Raises:
        ConfigError: the tier cannot answer the stream's windows; the message names the stream.
        DeviceError: the device failed at it.
    """
    try:
        plan = library.plan(stream)
        model, switching = plan.model, plan.switching
        bank = library.bank(
            plan.code,
            plan.tier,
            plan.geometry,
            plan.length,
            model=model,
            switching=switching,
            effort=WARM_EFFORT,
        )
        _check_room(bank, plan.length)
        why = library.fence(bank, budget_s=WARM_GATE_S)
        networks = library.networks(plan.tier, model, switching)
        kinds = {}
        for window in bank.needed(plan.length):
            number = kind_number(bank, plan.tier, bank.key(window), networks, switching)
            if number not in kinds:
                decoder = bank.get(window)
                warm = _warm_up(decoder, _size(bank, window), batch)
                kinds[number] = Kind(decoder, bool(why), warm)
        return kinds
    except DeviceError:
        raise  # no configuration's fault
    except QdecError as error:
        raise ConfigError(f"stream '{stream.name}': {error}") from None


def _size(bank: WindowBank, window: Window) -> int:
    return (window.end - window.start) * bank.code.spacetime.layout.record_bytes


def _warm_up(decoder: CompiledWindow, syndrome_bytes: int, batch: int) -> dict[int, int]:
    """Call a decoder with as many windows as it may get: what its second calls took, ns."""
    took = {}
    size = 1
    while size < 2 * batch:
        nothing = np.zeros((size, syndrome_bytes), dtype=np.uint8)
        decoder.decode(nothing)
        started = time.monotonic_ns()
        decoder.decode(nothing)
        took[size] = time.monotonic_ns() - started
        size *= 2
    return took


def _check_room(bank: WindowBank, length: int | None) -> None:
    """Refuse windows that would never be handed over.

    Raises:
        GeometryError: they are too large.
    """
    space = bank.code.spacetime
    size = max(_size(bank, window) for window in bank.needed(length))
    if not most_windows(size, sum(answer_bytes(space))):
        raise GeometryError(
            f"its windows have up to {size:,} bytes, and the accelerator takes them "
            f"up to some {SLOT_BYTES:,}: choose smaller windows, or accelerated = false"
        )
