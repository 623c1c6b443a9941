"""Windows of which a device has not only a network's opinion, but the answer."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qdec.bits import Bytes
from qdec.match.edge_odds import Floats


class Settled(NamedTuple):
    """What was found in B windows.

    An answer that stands is the least explanation of its window under the network's weights, and
    every other frame weighs at least `qdec.match.soft.SoftWindow.apart` more.

    Attributes:
        bits: ``(B, answer_bytes)`` uint8 answers; of windows in `rest`, anything.
        rest: ``(n,)`` int64, rising: windows that are not answered.
        odds: ``(n, E)`` float32 log-odds of their edges; NaN where the network's output is none.
    """

    bits: Bytes
    rest: NDArray[np.int64]
    odds: Floats
