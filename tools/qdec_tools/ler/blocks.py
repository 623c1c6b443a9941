"""Finished blocks of shots, in an append-only file that later runs continue.

One JSON object per line. Which shots failed is kept, not only how many, so that tiers can be
compared shot by shot even where one was added in a later run. A line that a killed run left
unfinished is taken back.
"""

from __future__ import annotations

import fcntl
import os
from bisect import bisect_left
from collections.abc import Iterable
from itertools import count, pairwise
from pathlib import Path
from typing import Annotated, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from qdec.errors import DataError

# Shots of a block. Seeds belong to blocks, so that the shots of a file depend on it.
BLOCK_SHOTS = 4096
_HEAD = b'{"point":"'  # how every line begins
_MAX_LINE = 1 << 16
_Text = Annotated[str, Field(max_length=200)]
_Count = Annotated[int, Field(ge=0)]


class BlockKey(NamedTuple):
    """What makes a block's answers what they are.

    Attributes:
        circuit: digest of the circuit.
        tier: its label.
        model: identity of what the tier decodes with: a library's version, a network's hash.
        windows: as asked for, in rounds.
        seed: of the whole measurement.
        block: number of the block: with the seed, it fixes the shots.
    """

    circuit: str
    tier: str
    model: str
    windows: str
    seed: int
    block: int


class Block(BaseModel):
    """One tier's answers to the first shots of a block.

    Attributes:
        point: the experiment, for people.
        circuit, tier, model, windows, seed, block: see `BlockKey`.
        shots: how many of the block's were decoded.
        events: digest of the block's shots. The same seed gives others on another processor or
            with another version of Stim: such blocks count, but are not compared shot by shot.
        failed: which of them failed, in increasing order.
        cpu_ns: CPU time of the decode calls, warm.
        batch: most shots per call.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    point: _Text
    circuit: _Text
    tier: _Text
    model: _Text
    windows: _Text
    seed: _Count
    block: _Count
    shots: Annotated[int, Field(ge=1, le=BLOCK_SHOTS)]
    events: _Text
    failed: Annotated[list[_Count], Field(max_length=BLOCK_SHOTS)]
    cpu_ns: _Count
    batch: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if any(a >= b for a, b in pairwise([-1, *self.failed, self.shots])):
            raise ValueError("the shots that failed are not in increasing order below `shots`")
        return self

    @property
    def key(self) -> BlockKey:
        """What it is filed under."""
        return BlockKey(self.circuit, self.tier, self.model, self.windows, self.seed, self.block)

    def first(self, shots: int) -> Block:
        """The same block as if only its first `shots` had been decoded; all if there are fewer."""
        if shots >= self.shots:
            return self
        failed = self.failed[: bisect_left(self.failed, shots)]
        cpu_ns = self.cpu_ns * shots // self.shots
        return self.model_copy(update={"shots": shots, "failed": failed, "cpu_ns": cpu_ns})


class BlockStore:
    """Blocks by key; the one with the most shots where there are several.

    ::

        with BlockStore(path) as store:
            store.add(blocks)
    """

    def __init__(self, path: Path | None = None) -> None:
        """Read what is there, and keep other runs from writing to it; None: memory alone.

        Raises:
            DataError: the file cannot be used, holds something else, or another run writes to it.
        """
        self._blocks: dict[BlockKey, Block] = {}
        self._path = path
        self._fd = -1
        if path is None:
            return
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._load(path)
        except BlockingIOError:
            self.close()
            raise DataError(f"{path}: another run is writing to it") from None
        except OSError as error:
            self.close()
            raise DataError(f"cannot save to {path}: {error.strerror}") from None
        except DataError:
            self.close()
            raise

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let others write."""
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __len__(self) -> int:
        """Distinct blocks."""
        return len(self._blocks)

    def find(self, key: BlockKey, shots: int) -> Block | None:
        """The block's first `shots` shots, if so many are finished."""
        found = self._blocks.get(key)
        return None if found is None or found.shots < shots else found.first(shots)

    def add(self, blocks: Iterable[Block]) -> None:
        """Keep blocks, in the file first.

        Raises:
            DataError: the file cannot be written.
        """
        blocks = list(blocks)
        if self._fd >= 0:
            lines = "".join(block.model_dump_json() + "\n" for block in blocks)
            self._write(lines.encode())
        for block in blocks:
            self._keep(block)

    def _write(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError as error:
            raise DataError(f"cannot save to {self._path}: {error.strerror}") from None

    def _keep(self, block: Block) -> None:
        held = self._blocks.get(block.key)
        if held is None or held.shots < block.shots:
            self._blocks[block.key] = block

    def _load(self, path: Path) -> None:
        whole = 0  # bytes of finished lines
        with path.open("rb") as file:
            for number in count(1):
                line = file.readline(_MAX_LINE)
                torn = not line.endswith(b"\n") and len(line) < _MAX_LINE
                if torn and _HEAD.startswith(line[: len(_HEAD)]):
                    break  # the end, or cut off while it was written
                try:
                    self._keep(Block.model_validate_json(line))
                except ValidationError as error:
                    first = error.errors()[0]
                    where = ".".join(map(str, first["loc"]))
                    raise DataError(
                        f"{path}:{number}: not a block of qdec ler ({where} {first['msg']}): "
                        "give --save another file"
                    ) from None
                whole += len(line)
        os.ftruncate(self._fd, whole)
