"""``qdec model export``: the network of one kind of window as an ONNX file.

The file is complete: it has the weights, the window's static planes (which detectors and edges
there are, and how likely each is), and in its metadata what a program needs to use it:

- ``events``: for each bit of the window's round records, in their order (`qdec layout` prints which
  detector that is), its index in one window's flattened ``events`` input; -1 for bits that are no
  detectors;
- ``places``, ``prior``: indices in one window's flattened ``change`` output, and the prior log-odds
  that the output is to be added to there;
- ``edges``: for each edge of the window ``[u, v, [k, ...], [observable, ...]]``: the bits of the
  round records that it flips (v = -1: it leads to the boundary), which of ``places`` are its own,
  and the observables that committing it flips. An edge of several places, where the window's end
  cuts edges off that then lead to the same boundary, is there if an odd number of them is;
- ``model``, ``sha256``, ``distance``, ``rounds``, ``basis``, ``noise``, ``whole``: what it is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qdec.codes import Code
from qdec.codes.rows import gather_rows
from qdec.errors import DataError
from qdec.match.tuning import steady_window
from qdec.neural.folded_model import from_stored
from qdec.neural.grid import MAX_CELLS, Lattice, WindowGrid
from qdec.neural.store import StoredModel, load_model
from qdec.neural.tensor_file import write_whole
from qdec.windows import Geometry, Window
from qdec.windows.cut import Edges, Problem, cut, merge_parallel
from qdec_tools.circuits import memory

# Rounds of a template that is stretched: enough for the repetition to be found.
_TEMPLATE_ROUNDS = 12
_MAX_DISTANCE = 63
_MAX_ROUNDS = 1000


@dataclass(frozen=True, slots=True)
class Wish:
    """A window of a memory experiment of the rotated surface code under uniform circuit noise.

    Attributes:
        distance: of the code.
        rounds: of detectors in the window.
        basis: ``X`` or ``Z``.
        noise: probability of each fault.
        whole: the window is a whole shot, not one in mid-stream.
    """

    distance: int
    rounds: int
    basis: str = "Z"
    noise: float = 0.003
    whole: bool = False

    def __post_init__(self) -> None:
        """Check.

        Raises:
            DataError: a value is out of range.
        """
        if not 2 <= self.distance <= _MAX_DISTANCE:
            raise DataError(f"--distance {self.distance}: give one from 2 to {_MAX_DISTANCE}")
        if not 2 <= self.rounds <= _MAX_ROUNDS:
            raise DataError(f"--rounds {self.rounds}: a window has 2 to {_MAX_ROUNDS}")
        if self.basis not in ("X", "Z"):
            raise DataError(f"--basis '{self.basis}': give X or Z")
        if not 0 < self.noise <= 0.5:
            raise DataError(
                f"--noise {self.noise:g}: faults have a probability above 0 and up to 0.5"
            )
        cells = self.rounds * ((self.distance + 2) // 2) ** 2
        if cells > MAX_CELLS:  # told before the code is made, which takes as long
            raise DataError(
                f"{self.rounds} rounds at d={self.distance} are {cells:,} cells, too large for a "
                f"network: {MAX_CELLS:,} at most"
            )

    def window(self) -> tuple[Code, Window]:
        """The window, and the code that it is one of.

        Raises:
            CodeError: the code is too large to be made.
        """
        rounds = self.rounds - 1 if self.whole else _TEMPLATE_ROUNDS
        task = f"surface_code:rotated_memory_{self.basis.lower()}"
        code = Code.from_circuit(memory(self.distance, rounds, self.noise, task))
        if self.whole:
            return code, Window(0, self.rounds, self.rounds, self.rounds)
        # The network sees all of a window alike, however much of it is committed.
        return code, steady_window(code, Geometry(self.rounds, 1), endless=True)


def run(name: str, wish: Wish, output: Path, folder: Path | None, *, as_json: bool) -> int:
    """Write the file and say what it is; returns the exit status.

    Raises:
        ModelError: there is no such model, it is damaged or of another family, or the file cannot
            be written.
        QdecError: the network does not suit the code, or the window is too large for it.
    """
    stored = load_model(name, folder)
    content = as_onnx(stored, wish)
    write_whole(output, content)
    row = {"model": stored.info.name, "sha256": stored.info.sha256, "output": str(output)}
    if as_json:
        print(json.dumps({**row, "bytes": len(content), **_said(wish)}))
    else:
        kind = "whole shots" if wish.whole else "windows in mid-stream"
        print(
            f"{output}: '{stored.info.name}' for {kind} of {wish.rounds} rounds, d={wish.distance} "
            f"{wish.basis}, p={wish.noise:g}; {len(content):,} bytes"
        )
    return 0


def as_onnx(stored: StoredModel, wish: Wish) -> bytes:
    """The network of a window as ONNX, the batch left open; see `qdec.neural.network.Network.onnx`.

    Raises:
        ModelError: the model is of another family.
        QdecError: the network does not suit the code, or the window is too large for it.
    """
    import onnx

    network = from_stored(stored)
    code, window = wish.window()
    problem = cut(code.spacetime, window)
    edges = merge_parallel(problem)
    grid = Lattice(code, network.arch.classes).grid(window, problem, edges)
    proto = onnx.load_model_from_string(network.onnx(grid))
    info = {"model": stored.info.name, "sha256": stored.info.sha256, **_said(wish)}
    info |= _uses(grid, problem, edges)
    onnx.helper.set_model_props(
        proto, {key: v if isinstance(v, str) else json.dumps(v) for key, v in info.items()}
    )
    return bytes(proto.SerializeToString())


def _said(wish: Wish) -> dict[str, Any]:
    return {
        "distance": wish.distance,
        "rounds": wish.rounds,
        "basis": wish.basis,
        "noise": wish.noise,
        "whole": wish.whole,
    }


def _uses(grid: WindowGrid, problem: Problem, edges: Edges) -> dict[str, Any]:
    id_ptr, ids = gather_rows(problem.id_ptr, problem.ids, edges.component)
    return {
        "edges": [
            [
                int(edges.u[e]),
                int(edges.v[e]),
                grid.edge_places[grid.edge_ptr[e] : grid.edge_ptr[e + 1]].tolist(),
                [
                    one
                    for one in ids[id_ptr[e] : id_ptr[e + 1]].tolist()
                    if one < 8 * problem.frame_bytes
                ],
            ]
            for e in range(len(edges.u))
        ],
        "events": grid.node_at.tolist(),
        "places": grid.places.tolist(),
        "prior": [round(float(one), 6) for one in grid.prior],
    }
