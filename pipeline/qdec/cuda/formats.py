"""Numbers as a network's input has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qdec.errors import GeometryError

Format = Literal["fp32", "fp16", "bf16", "int8"]
ITEMSIZES: dict[Format, int] = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}


def encoded(constants: Sequence[float], form: Format, *, scale: float = 1.0) -> NDArray[np.uint32]:
    """Numbers as the elements of a network's input: ``(n,)`` uint32, low bits first.

    Args:
        constants: the numbers.
        form: the network's format.
        scale: of int8: what its 1 stands for.

    Raises:
        GeometryError: the format does not have a number exactly.
    """
    exact = np.array(constants, dtype=np.float64) / (scale if form == "int8" else 1.0)
    bits: NDArray[np.unsignedinteger]
    if form == "int8":
        whole = np.clip(np.rint(exact), -127, 127).astype(np.int8)
        bits, kept = whole.view(np.uint8), whole.astype(np.float64)
    elif form == "fp16":
        half = exact.astype(np.float16)
        bits, kept = half.view(np.uint16), half.astype(np.float64)
    else:
        single = exact.astype(np.float32).view(np.uint32)
        dropped = np.uint32(0 if form == "fp32" else 16)  # bfloat16 is the upper half
        bits = single >> dropped
        kept = (bits << dropped).view(np.float32).astype(np.float64)
    if not np.allclose(exact, kept, rtol=1e-6, atol=0):
        raise GeometryError(f"a network's {form} input has no {constants} (scale {scale})")
    return bits.astype(np.uint32)
