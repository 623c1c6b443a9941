"""Makers of blocks for feeds, which worker processes can import; and a reader to be killed."""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qdec.errors import DataError
from qdec_tools.training.feed import Feed, block_rng

SLOT_BYTES = 4096


class Noted:
    """Random blocks of shapes that vary; notes in a folder which have been made."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def block(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        rng = block_rng(1, number)
        shape = int(rng.integers(1, 20)), int(rng.integers(0, 5))
        if self._folder is not None:
            (self._folder / str(number)).touch()
        return rng.random(shape, dtype=np.float32), rng.integers(0, 2, shape, dtype=np.uint8)


class Failing(Noted):
    """Fails at block 3: in a way that it should, or not."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self._how = how

    def block(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        if number == 3:
            if self._how == "too large":
                return np.zeros(2 * SLOT_BYTES, dtype=np.float32), np.zeros(1, dtype=np.uint8)
            raise DataError("no more data") if self._how == "refused" else ZeroDivisionError
        return super().block(number)


if __name__ == "__main__":  # read blocks until killed, from workers whose ids are printed
    with Feed(partial(Noted, Path(sys.argv[1])), workers=2, slot_bytes=SLOT_BYTES) as feed:
        next(feed)
        print(*(process.pid for process in feed.processes), flush=True)
        for _ in feed:
            time.sleep(0.01)
