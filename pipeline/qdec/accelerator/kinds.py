"""What a lane and the accelerator both call a kind of window, without having to agree on anything.

The number is a digest of all that the compiled window follows from, so that processes which read
different configurations (one of them a moment ago) never mean different things by it: a kind that
only the lane knows is refused.
"""

from __future__ import annotations

import hashlib
import struct

from qdec.commit.bank import WindowBank, WindowKey
from qdec.match import Tier
from qdec.match.escalate import NO_SWITCHING, Switching

NO_NETWORKS = bytes(8)
_SAYS = struct.Struct("<32s3qqqq4q")


def kind_number(
    bank: WindowBank,
    tier: Tier,
    key: WindowKey,
    networks: bytes = NO_NETWORKS,
    switching: Switching = NO_SWITCHING,
) -> int:
    """The 64-bit number of a kind of window of a bank's code and geometry, answered by a tier.

    Networks count by what is in them (see `qdec.lane.library.Library.networks`), so that an
    accelerator which found another file under the name answers nothing that was meant for the one
    before. What is wanted beyond the tier's answers counts as well.
    """
    repetition = bank.code.spacetime.repetition
    geometry = bank.geometry
    said = _SAYS.pack(bank.code.digest, *repetition, tier, geometry.window, geometry.commit, *key)
    said += networks
    if switching:
        tiers = bytes(switching.tiers)
        said += struct.pack("<?d", switching.confidence, switching.below) + tiers
    return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), "little")


def kinds_needed(
    bank: WindowBank,
    tier: Tier,
    length: int | None,
    networks: bytes = NO_NETWORKS,
    switching: Switching = NO_SWITCHING,
) -> dict[WindowKey, int]:
    """Numbers of all kinds that shots of `length` rounds (None: endless) will need, by their keys.

    The bank may be one of another tier: nothing is compiled.
    """
    keys = map(bank.key, bank.needed(length))
    return {key: kind_number(bank, tier, key, networks, switching) for key in keys}
