"""Which executor an accelerator gets where something of a GPU's is missing."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
import pytest

import qdec.accelerator.start as start
from helpers.executed import matching, soft
from qdec.accelerator.executor import CallingExecutor, Kind
from qdec.accelerator.start import start_executor
from qdec.errors import DeviceError, DeviceFault, EngineError

MEMORY = np.zeros(4096, dtype=np.uint8)


def test_without_networks_in_tensorrt_decoders_are_called() -> None:
    kinds = {1: Kind(matching(), fenced=False), 2: Kind(soft(), fenced=False)}
    assert isinstance(start_executor(kinds, MEMORY, 8, fallback=False), CallingExecutor)


@pytest.mark.parametrize(
    ("error", "fault", "falls_back"),
    [
        (EngineError("no CuPy"), DeviceFault.START, True),
        (DeviceError(DeviceFault.MEMORY, "full"), DeviceFault.MEMORY, True),
        (DeviceError(DeviceFault.LOST, "gone"), DeviceFault.LOST, False),
        (AttributeError("a name of another version"), DeviceFault.START, False),
    ],
)
def test_what_is_missing_is_done_without_or_said(
    monkeypatch: pytest.MonkeyPatch, error: Exception, fault: DeviceFault, falls_back: bool
) -> None:
    def fails(*_: Any) -> NoReturn:
        raise error

    monkeypatch.setattr(start, "_on_gpu", fails)
    kinds = {1: Kind(matching(), fenced=False)}
    with pytest.raises(DeviceError) as caught:
        start_executor(kinds, MEMORY, 8, fallback=False)
    assert caught.value.kind is fault
    if falls_back:
        assert isinstance(start_executor(kinds, MEMORY, 8), CallingExecutor)
    else:
        with pytest.raises(DeviceError):
            start_executor(kinds, MEMORY, 8)
