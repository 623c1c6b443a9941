"""Kinds of windows on a GPU's executor, lanes and worker around it: emulated or on a device."""

from __future__ import annotations

import time

import numpy as np

from helpers.networks import convolutions
from qdec.accelerator.exchange import Status
from qdec.accelerator.executor import Kind
from qdec.accelerator.gpu import GpuExecutor
from qdec.accelerator.gpu_kinds import GpuKind, Programs, gpu_kind
from qdec.accelerator.link import Link
from qdec.accelerator.stats import AcceleratorStats
from qdec.accelerator.work import Terms
from qdec.accelerator.worker import Worker
from qdec.arena import Arena
from qdec.bits import Bytes
from qdec.codes import Code
from qdec.cuda.runtime import Runtime
from qdec.match import Answers, CompiledWindow, Tier, compile_window
from qdec.match.assess import Assessor
from qdec.match.escalate import Switching
from qdec.neural.engine import compile_network
from qdec.neural.folded_model import FoldedModel, shipped_model
from qdec.neural.ising.model import IsingModel
from qdec.neural.ising.network import Architecture
from qdec.windows import WHOLE, Geometry, Window
from qdec.windows.cut import answer_bytes
from qdec_tools.circuits import memory

CIRCUIT = memory(3, 12, 0.02)
CODE = Code.from_circuit(CIRCUIT)
BUCKETS = (1, 4, 8)
FAR = 1 << 60
PATIENCE_S = 30.0
HANG_NS = 60 * 10**9  # emulated kernels take their time on a busy machine
MIDDLE = Window(3, 9, 3, 13)
SHOWN = Geometry(6, 3)


def soft(window: Window = MIDDLE) -> CompiledWindow:
    model = FoldedModel(shipped_model("speed").network, precision="fp32")
    return compile_window(CODE, Tier.SPEED, SHOWN, window, model=model)


def confident() -> CompiledWindow:
    model = FoldedModel(shipped_model("speed").network, precision="fp32")
    switching = Switching(True, (Tier.GUARDED,), below=0.99)
    whole = Assessor(CODE, Tier.SPEED, WHOLE, switching=switching, model=model, effort=0.1)
    return whole.compile(Window(0, 13, 13, 13))


def ising() -> CompiledWindow:
    network = compile_network(convolutions((4, 6, 4), seed=3))
    model = IsingModel(Architecture((6, 4), (3, 3)), network, None)
    return compile_window(CODE, Tier.ISING, SHOWN, MIDDLE, model=model)


def matching() -> CompiledWindow:
    return compile_window(CODE, Tier.MATCHING, SHOWN, MIDDLE)


def windows_of(shots: int, window: Window = MIDDLE, seed: int = 5, *, noise: float = 0.02) -> Bytes:
    circuit = CIRCUIT if noise == 0.02 else memory(3, 12, noise)
    events = circuit.compile_detector_sampler(seed=seed).sample(shots, bit_packed=True)
    records = CODE.layout.to_records(events)[:, window.start : window.end]
    return np.ascontiguousarray(records).reshape(shots, -1)


class Bench:
    """Two lanes and a worker whose executor is the GPU's, on memory as it is shared."""

    def __init__(
        self,
        runtime: Runtime,
        decoders: dict[int, CompiledWindow],
        programs: Programs,
        streams: int = 2,
        *,
        settle: bool = True,
    ) -> None:
        self.arena = Arena.create()
        memory_, exchanges = self.arena.share_exchanges(2)
        self.words = AcceleratorStats(generation=1)
        # Lanes map their slots by themselves, as their processes do.
        mine = [self.arena.share_exchange(slot) for slot in range(2)]
        self.links = [Link(one, self.words, lambda: None) for one in mine]

        made = {number: gpu_kind(one, programs, settle=settle) for number, one in decoders.items()}
        self.kinds: dict[int, GpuKind] = {n: one for n, one in made.items() if one is not None}
        sizes = {n: kind.unpack.window_bytes for n, kind in self.kinds.items()}
        kinds = {
            n: Kind(one, fenced=False, syndrome_bytes=sizes.get(n, 0))
            for n, one in decoders.items()
        }
        self.executor = GpuExecutor(runtime, kinds, self.kinds, memory_, BUCKETS, streams=streams)
        self.worker = Worker(
            exchanges,
            kinds,
            self.words.generation,
            batch=BUCKETS[-1],
            stats=self.words,
            executor=self.executor,
            terms=Terms(hang_ns=HANG_NS),
        )

    def ask(self, kind: int, syndromes: Bytes, lane: int = 0) -> int:
        each = sum(answer_bytes(CODE.spacetime))
        slot = self.links[lane].hand_over(kind, FAR, syndromes, each)
        assert slot is not None
        return slot

    def answers(self, wanted: int) -> dict[tuple[int, int], Answers]:
        """Turn until so many requests are answered."""
        found: dict[tuple[int, int], Answers] = {}
        give_up = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up:
            self.worker.collect()
            self.worker.turn()
            for lane, link in enumerate(self.links):
                for slot, reply in link.collect().replies:
                    assert reply is not None
                    assert reply.status is Status.ANSWERED
                    assert reply.answers is not None
                    found[lane, slot] = reply.answers
            if len(found) == wanted:
                return found
        raise AssertionError(f"{len(found)} of {wanted} answers")


def same(found: Answers, wanted: Answers) -> None:
    np.testing.assert_array_equal(found.bits, wanted.bits)
    np.testing.assert_array_equal(found.feasible, wanted.feasible)
    if wanted.confidence is not None:
        assert found.confidence is not None
        np.testing.assert_allclose(found.confidence, wanted.confidence, rtol=1e-3)
