"""The decoder as sinter wants it: whole sampled shots through the windows of the live service.

``sinter collect --custom_decoders_module_function qdec:sinter_decoders`` offers the decoders of
`decoders` by name. Each does to a batch of shots what the service does to a stream, with the same
code, windows and tiers. What a stream cannot be, but sinter samples all the same, has an answer:

- a model with nothing to decode (no detectors, no observables, no error that a detector sees)
  predicts no flips;
- a model whose detectors have no time coordinates has no rounds, so its shots are decoded whole;
- a shot that nothing explains gets the frame that the service would commit, flag aside.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
import sinter
import stim

from qdec.bits import Bytes, num_bytes
from qdec.codes import Code
from qdec.codes.code import DEFAULT_LIMITS, graphlike_distance
from qdec.errors import RoundsUnknown
from qdec.match.offline import OfflineDecoder
from qdec.match.tier import Tier
from qdec.match.unlikely import as_unlikely
from qdec.windows.geometry import UNKNOWN_DISTANCE, WHOLE, Geometry, choose_geometry

# Unrolled circuits make long models. They come from whoever runs sinter, not through a socket.
_LIMITS = replace(DEFAULT_LIMITS, text_bytes=1 << 30)
# Shots are converted to round records through one byte per bit: this many bytes at a time.
_BITS_AT_ONCE = 1 << 26


@dataclass(frozen=True, slots=True)
class DistanceWindows:
    """Window lengths in code distances; each model's own distance makes them rounds.

    Attributes:
        window: W / d.
        commit: C / d. The buffer W - C is never shorter than the model's longest mechanism.
    """

    window: int
    commit: int

    def geometry(self, code: Code, distance: int) -> Geometry:
        """These windows for a code of a distance."""
        commit = self.commit * distance
        buffer = max((self.window - self.commit) * distance, code.spacetime.span)
        return choose_geometry(Geometry(commit + buffer, commit), code, endless=False)


@dataclass(frozen=True)
class WindowDecoder(sinter.Decoder):
    """Sliding windows as a `sinter.Decoder`.

    Attributes:
        tier: what answers the windows.
        windows: their lengths; None for the service's ``auto``, which takes shots no longer than
            a window whole.
    """

    tier: Tier = Tier.MATCHING
    windows: DistanceWindows | None = None

    def compile_decoder_for_dem(self, *, dem: stim.DetectorErrorModel) -> sinter.CompiledDecoder:
        """Compile every window that a shot of this model has.

        Raises:
            CodeError: the model has undecomposed hyperedges, or is beyond a bound.
            GeometryError: its windows would be beyond a bound.
        """
        if not _has_something_to_decode(dem):
            return NothingToDecode(num_bytes(dem.num_observables))
        flips = None
        if self.tier is not Tier.MATCHING:
            dem, flips = as_unlikely(dem)
        text = str(dem)
        try:
            code = Code.parse("dem", text, limits=_LIMITS)
        except RoundsUnknown as error:
            if self.windows is not None:
                warnings.warn(f"shots are decoded whole, without windows: {error}", stacklevel=2)
            code = Code.parse("dem", text, round_map=[0] * dem.num_detectors, limits=_LIMITS)
            geometry = WHOLE
        else:
            geometry = self._geometry(code)
        decoder = OfflineDecoder(code, self.tier, geometry)
        return CompiledWindowDecoder(code, decoder, flips)

    def _geometry(self, code: Code) -> Geometry:
        distance = graphlike_distance(code.dem) or UNKNOWN_DISTANCE
        if self.windows is None:
            return choose_geometry("auto", code, endless=False, distance=distance)
        return self.windows.geometry(code, distance)


class CompiledWindowDecoder(sinter.CompiledDecoder):
    """The windows of one model, compiled."""

    def __init__(
        self, code: Code, decoder: OfflineDecoder, flips: tuple[Bytes, Bytes] | None = None
    ) -> None:
        """Compile now, so that the first batch takes no longer than the others.

        Args:
            code: the model's rounds.
            decoder: decodes their records.
            flips: packed detectors and observables that are flipped unless something happens.
        """
        self._layout = code.layout
        self._decoder = decoder
        self._flips = flips
        slots = 8 * self._layout.record_bytes * self._layout.num_rounds
        self._shots_at_once = max(1, _BITS_AT_ONCE // slots)
        width = num_bytes(self._layout.num_detectors)
        self.decode_shots_bit_packed(
            bit_packed_detection_event_data=np.zeros((1, width), dtype=np.uint8)
        )

    def decode_shots_bit_packed(self, *, bit_packed_detection_event_data: Bytes) -> Bytes:
        """``(B, ceil(detectors/8))`` uint8 events → ``(B, ceil(observables/8))`` uint8 flips.

        Raises:
            DataError: the events are not this model's.
        """
        shots = bit_packed_detection_event_data
        if self._flips is not None:
            shots = shots ^ self._flips[0]
        starts = range(0, max(1, len(shots)), self._shots_at_once)
        parts = [shots[i : i + self._shots_at_once] for i in starts]
        frames = np.concatenate(
            [self._decoder.decode(self._layout.to_records(part))[0] for part in parts]
        )
        return frames if self._flips is None else frames ^ self._flips[1]


class NothingToDecode(sinter.CompiledDecoder):
    """Predicts no flips, whatever the events."""

    def __init__(self, frame_bytes: int) -> None:
        """Remember the width of a prediction."""
        self._frame_bytes = frame_bytes

    def decode_shots_bit_packed(self, *, bit_packed_detection_event_data: Bytes) -> Bytes:
        """``(B, ceil(observables/8))`` uint8 zeros."""
        return np.zeros((len(bit_packed_detection_event_data), self._frame_bytes), dtype=np.uint8)


def decoders() -> dict[str, sinter.Decoder]:
    """The decoders that sinter is offered, by name.

    ``qdec`` and ``qdec_correlated`` are the tiers under the service's default windows;
    ``…_w2d`` has W = 2d, C = d, and ``…_w3d`` a buffer twice as long: W = 3d, C = d.
    """
    short, long = DistanceWindows(2, 1), DistanceWindows(3, 1)
    return {
        "qdec": WindowDecoder(),
        "qdec_w2d": WindowDecoder(windows=short),
        "qdec_w3d": WindowDecoder(windows=long),
        "qdec_correlated": WindowDecoder(Tier.CORRELATED),
        "qdec_correlated_w2d": WindowDecoder(Tier.CORRELATED, short),
        "qdec_correlated_w3d": WindowDecoder(Tier.CORRELATED, long),
    }


def _has_something_to_decode(dem: stim.DetectorErrorModel) -> bool:
    return dem.num_observables > 0 and any(map(_detectors_see, dem))


def _detectors_see(item: stim.DemInstruction | stim.DemRepeatBlock) -> bool:
    if isinstance(item, stim.DemRepeatBlock):
        return any(map(_detectors_see, item.body_copy()))
    if item.type != "error" or item.args_copy()[0] <= 0:
        return False
    return any(target.is_relative_detector_id() for target in item.targets_copy())
