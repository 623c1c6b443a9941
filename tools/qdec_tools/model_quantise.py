"""``qdec model quantise``: a model's file once more, with what it needs to run in 8 bits."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from qdec.errors import ModelError
from qdec.neural.folded_model import from_stored
from qdec.neural.quantised import SCALE, as_tensors, quantisable
from qdec.neural.store import SUFFIX, StoredModel, default_folder, load_model
from qdec.neural.tensor_file import tensors_sha256, write_tensors
from qdec_tools.quantisation import KINDS, Advance, Price, calibrate, control, draw


def run(
    name: str,
    output: Path | None,
    folder: Path | None,
    *,
    windows: int,
    tolerance: float,
    as_json: bool,
) -> int:
    """Quantise a model, write it and say what that costs; returns the exit status: 1 if too much.

    Raises:
        ModelError: there is no such model, it is damaged, of another family or silent, or the file
            cannot be written.
        EngineError: this processor does not have 8 bits to measure with.
        CodeError: the model was made for other codes.
    """
    stored = load_model(name, folder)
    network = from_stored(stored)
    path = output or (folder or default_folder()) / f"{stored.info.name}-int8{SUFFIX}"
    with _progress() as advance:
        scales = calibrate(network, draw(network.arch, windows, check=False), advance)
        checked = draw(network.arch, windows, check=True)
        if not scales:
            raise ModelError(
                f"'{stored.info.name}' is silent: no layer is given anything but zeros"
            )
        network, price = control(network, scales, checked, tolerance, advance)
    if not network.scales:
        sys.stderr.write(
            f"qdec: 8 bits cost '{stored.info.name}' too much, so nothing was written: even with "
            f"one layer of {len(scales)} the loss rises by {price.rise:.2%}, and {tolerance:.2%} "
            "are allowed\n"
        )
        return 1
    left = [layer for layer in quantisable(network.arch) if layer not in network.scales]
    said = _said(tuple(network.scales), left, price)
    sha256 = _write(stored, network.scales, said, path)
    if as_json:
        row = {"model": stored.info.name, "output": str(path), "sha256": sha256}
        print(json.dumps({**row, "windows": windows, **said}))
        return 0
    for one in said["loss"]:
        print(
            f"{one['window']}: {one['floating']:.4f} → {one['int8']:.4f} nats per window "
            f"({one['int8'] / one['floating'] - 1:+.2%})"
        )
    stays = f", {', '.join(left)} in floating point" if left else ""
    print(f"{path}: {', '.join(network.scales)} in 8 bits{stays}; sha256 {sha256[:16]}…")
    return 0


def _said(layers: tuple[str, ...], left: list[str], price: Price) -> dict[str, Any]:
    losses = zip(KINDS, price.floating, price.quantised, strict=True)
    return {
        "layers": list(layers),
        "left": left,
        "rise": round(price.rise, 6),
        "loss": [
            {
                "window": f"d={wish.distance}, {wish.rounds} rounds"
                f"{'' if wish.whole else ' in mid-stream'}, {wish.basis}, p={wish.noise:g}",
                "floating": round(before, 6),
                "int8": round(after, 6),
            }
            for wish, before, after in losses
        ],
    }


def _write(
    stored: StoredModel, scales: Mapping[str, float], said: dict[str, Any], path: Path
) -> str:
    """The file as it was, with other scales; returns the new hash."""
    kept = {k: v for k, v in stored.file.tensors.items() if not k.startswith(SCALE)}
    tensors = {**kept, **as_tensors(scales)}
    sha256 = tensors_sha256(tensors)
    told = f"{', '.join(said['layers'])}; loss {said['rise']:+.2%} at worst"
    write_tensors(path, tensors, {**stored.file.metadata, "sha256": sha256, "int8": told})
    return sha256


@contextmanager
def _progress() -> Iterator[Advance]:
    """A bar on a terminal's stderr. It gets longer where layers have to be looked at singly."""
    console = Console(stderr=True)
    columns = (TextColumn("kinds of windows"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        done, total = 0, 3 * len(KINDS)
        line = bar.add_task("", total=total)

        def advance() -> None:
            nonlocal total, done
            done += 1
            if done > total:
                total += len(KINDS)
            bar.update(line, completed=done, total=total)

        yield advance
