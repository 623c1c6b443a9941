"""What a device needs to answer a soft tier's windows, from the parts that answer them here."""

from __future__ import annotations

import numpy as np

from qdec.cuda.component_table import CUT, INSIDE, SIDE, ComponentTable
from qdec.match.soft import SoftWindow


def component_table(window: SoftWindow) -> ComponentTable | None:
    """Of `SoftWindow.decode`: an answer stands where the window would not be looked at again.

    How sure it is beyond that is not known then, so this is for decoders that do not say it.

    Returns:
        None for windows of several observables, each of which has a gap of its own.

    Raises:
        GeometryError: the window is too large.
    """
    matcher, gap, apart = window.matcher, window.gap, window.apart
    measured = [] if gap is None or not apart else gap.measured
    if len(measured) > 1:
        return None
    sides = np.full(matcher.num_edges, CUT, dtype=np.uint8)
    for edges, side in measured:
        sides[edges] = np.where(side, SIDE, INSIDE)
    id_ptr, ids = matcher.flips
    return ComponentTable(
        len(window.grid.node_at) // 8,
        matcher.answer_bytes,
        matcher.ends.astype(np.int32),
        id_ptr.astype(np.int32),
        ids.astype(np.int32),
        sides,
        apart,
    )
