"""Files of recorded shots in Stim's formats ``b8``, ``01`` and ``dets``: checked, then read.

What a file should hold follows from the code, so a file of another code, or a truncated one, is
refused with a sentence before its bits are used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import stim

from qdec.bits import Bytes, num_bytes, padding_mask
from qdec.errors import DataError

# What a file's bits are; the letter that `dets` writes in front of each number.
Kind = Literal["measurements", "sweep bits", "detectors", "observables"]
_STIM_NAME: dict[Kind, str] = {
    "measurements": "num_measurements",
    "sweep bits": "num_measurements",
    "detectors": "num_detectors",
    "observables": "num_observables",
}
FORMATS = (".b8", ".01", ".dets")
# Text is read in one piece, by Stim; `b8` is mapped, so it may have any size.
_MAX_TEXT_BYTES = 1 << 30
_SCAN_BYTES = 1 << 24


class ShotFile:
    """Shots of packed bits.

    Attributes:
        path: where they came from.
        kind: what the bits are.
        bits: per shot.
        flips: observables that a ``dets`` file of detectors holds beside them, if it does.
    """

    def __init__(
        self, path: Path, kind: Kind, bits: int, rows: Bytes, flips: ShotFile | None = None
    ) -> None:
        """Take rows over, ``(shots, ceil(bits/8))`` uint8; see `open_shots`."""
        self.path = path
        self.kind = kind
        self.bits = bits
        self.flips = flips
        self._rows = rows
        self._padding = padding_mask(bits, rows.shape[1])

    def __len__(self) -> int:
        """Shots."""
        return len(self._rows)

    def read(self, start: int, stop: int) -> Bytes:
        """Shots `start` to `stop` (exclusive), ``(n, ceil(bits/8))`` uint8.

        Raises:
            DataError: bits are set where there should be none.
        """
        rows = np.array(self._rows[start:stop])
        wrong = (rows & self._padding).any(axis=1)
        if wrong.any():
            raise DataError(
                f"{self.path}: shot {start + int(np.argmax(wrong))} has bits set beyond its "
                f"{self.bits} {self.kind}: the file belongs to another code"
            )
        return rows


def open_shots(path: Path, kind: Kind, bits: int, *, observables: int = 0) -> ShotFile:
    """Open a file of shots; the suffix names its format.

    Args:
        path: ``*.b8``, ``*.01`` or ``*.dets``.
        kind: what it should hold.
        bits: how many of them per shot.
        observables: observables that a ``dets`` file of detectors may hold as well.

    Raises:
        DataError: it cannot be read, is empty, truncated, or does not fit.
    """
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise DataError(f"{path} is not a file")
        if not bits:
            raise DataError(f"{path}: the code has no {kind}")
        if not size:
            raise DataError(f"{path} is empty: it holds no shots")
        match path.suffix:
            case ".b8":
                return ShotFile(path, kind, bits, _map_b8(path, size, kind, bits))
            case ".01":
                _check_01(path, size, kind, bits)
                rows = _parse(path, "01", {_STIM_NAME[kind]: bits})
                return ShotFile(path, kind, bits, rows)
            case ".dets":
                return _read_dets(path, size, kind, bits, observables)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    raise DataError(
        f"{path}: the format is told by the suffix, one of {', '.join(FORMATS)} "
        "('stim convert' makes them from others)"
    )


def _map_b8(path: Path, size: int, kind: Kind, bits: int) -> Bytes:
    width = num_bytes(bits)
    if size % width:
        raise DataError(
            f"{path}: {size:,} bytes are not whole shots of {width} bytes ({bits} {kind}), "
            f"{size % width} are left over: the file is truncated or belongs to another code"
        )
    return np.memmap(path, dtype=np.uint8, mode="r").reshape(-1, width)


def _check_01(path: Path, size: int, kind: Kind, bits: int) -> None:
    _check_text_size(path, size)
    with path.open("rb") as file:
        line = file.readline(bits + 3)
    found = len(line.rstrip(b"\r\n"))
    if found != bits or not line.endswith(b"\n"):
        more = " or more" if found > bits else ""
        raise DataError(
            f"{path}: the first line has {found}{more} characters and the code {bits} {kind}: "
            "the file is truncated or belongs to another code"
        )
    if size % len(line):
        raise DataError(
            f"{path}: {size:,} bytes are not whole lines of {len(line)}, "
            f"{size % len(line)} are left over: the file is truncated"
        )


def _read_dets(path: Path, size: int, kind: Kind, bits: int, observables: int) -> ShotFile:
    _check_text_size(path, size)
    with path.open("rb") as file:
        file.seek(-1, 2)
        if file.read(1) != b"\n":  # half a number would read as another one
            raise DataError(f"{path} ends in the middle of a line: the file is truncated")
    with_flips = kind == "detectors" and observables > 0 and _mentions(path, b"L")
    if not with_flips:
        return ShotFile(path, kind, bits, _parse(path, "dets", {_STIM_NAME[kind]: bits}))
    rows, flips = _parse(
        path,
        "dets",
        {"num_detectors": bits, "num_observables": observables, "separate_observables": True},
    )
    return ShotFile(path, kind, bits, rows, ShotFile(path, "observables", observables, flips))


def _check_text_size(path: Path, size: int) -> None:
    if size > _MAX_TEXT_BYTES:
        raise DataError(
            f"{path}: {size:,} bytes of text are more than {_MAX_TEXT_BYTES:,}; "
            "'stim convert --out_format b8' makes a file that can be replayed piece by piece"
        )


def _mentions(path: Path, letter: bytes) -> bool:
    with path.open("rb") as file:
        return any(letter in part for part in iter(lambda: file.read(_SCAN_BYTES), b""))


def _parse(path: Path, format_: str, sizes: dict[str, Any]) -> Any:
    try:
        return stim.read_shot_data_file(path=str(path), format=format_, bit_packed=True, **sizes)
    except (ValueError, RuntimeError) as error:
        problem = " ".join(str(error).split())
        raise DataError(f"{path} cannot be read as {format_}: {problem}") from None
