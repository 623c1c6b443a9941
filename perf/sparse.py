"""Exact matching with a window's own weights: µs per window by stage, beside rebuilt PyMatching.

The weights are those of belief propagation over the window's mechanisms: no network is needed, and
they are as a network's are, sure of most edges and undecided in a few places. `--evidence a` shows
it, besides the syndrome, each mechanism through noise (a signal of ±a on unit variance), which
leaves fewer places undecided, as a well-trained network would.

CPU time of this thread, the best of several runs over the same windows.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from common import show
from numpy.typing import NDArray
from scipy.sparse import csr_array

from qdec.bits import pack
from qdec.codes import Code
from qdec.match.sparse import Route, SparseMatcher
from qdec.match.sparse.rebuilt import RebuiltMatching
from qdec.windows import Window
from qdec.windows.cut import Edges, Problem, cut, merge_parallel
from qdec_tools.circuits import memory

Floats = NDArray[np.float32]
SWEEPS = 8
DAMPING = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--distances", default="5,7,9")
    parser.add_argument("--noise", type=float, default=0.006)
    parser.add_argument("--evidence", type=float, default=0.6)
    parser.add_argument("--shots", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--rebuilt", type=int, default=50, help="windows matched by PyMatching")
    parser.add_argument("--save", action="store_true", help="write results/sparse.json")
    o = parser.parse_args()
    rows = [measure(int(d), o) for d in o.distances.split(",")]
    show(
        f"Matching with per-window weights, rounds = d, p = {o.noise}",
        rows,
        save="sparse" if o.save else "",
        evidence=o.evidence,
        windows=o.shots,
    )


def measure(d: int, o: argparse.Namespace) -> dict[str, object]:
    space = Code.from_circuit(memory(d, d, o.noise)).spacetime
    problem = cut(space, Window(0, space.rounds, space.rounds, space.rounds))
    edges = merge_parallel(problem)
    log_odds, syndromes = inputs(problem, edges, o.shots, o.evidence, np.random.default_rng(d))
    began = time.process_time()
    matcher = SparseMatcher.from_problem(problem)
    start = time.process_time() - began
    answers = matcher.decode(log_odds, syndromes)
    empty, local = answers.route == Route.EMPTY, answers.route == Route.LOCAL
    alone = np.array(
        [best(matcher, log_odds[b : b + 1], syndromes[b : b + 1], 3) for b in range(o.shots)]
    )
    overhead = best(matcher, log_odds[:0], syndromes[:0], 200)
    few = range(min(o.rebuilt, o.shots))
    rebuilt = RebuiltMatching(problem.num_nodes, edges.u, edges.v)
    began = time.thread_time()
    found = [rebuilt.solve(-log_odds[b].astype(np.float64), syndromes[b]) for b in few]
    theirs = (time.thread_time() - began) / len(few) * 1e6
    lighter = [answers.weight[b] + log_odds[b].astype(np.float64)[found[b]].sum() for b in few]
    return {
        "d": d,
        "edges": matcher.num_edges,
        "empty": float(empty.mean()),
        "full": answers.counts[Route.FULL],
        "us": best(matcher, log_odds, syndromes, o.repeats),
        "us empty": best(matcher, log_odds[empty], syndromes[empty], o.repeats),
        "us local": best(matcher, log_odds[local], syndromes[local], o.repeats),
        "one window p50": float(np.quantile(alone, 0.5)),
        "one window p99": float(np.quantile(alone, 0.99)),
        "call": overhead,
        "rebuilt": theirs,
        "largest difference": float(np.abs(lighter).max()),
        "start, s": start,
    }


def best(matcher: SparseMatcher, log_odds: Floats, syndromes: NDArray[np.uint8], n: int) -> float:
    """µs per window (per call where there are none)."""
    times = []
    for _ in range(n):
        began = time.thread_time()
        matcher.decode(log_odds, syndromes)
        times.append(time.thread_time() - began)
    return min(times) / max(1, len(log_odds)) * 1e6


def inputs(
    problem: Problem, edges: Edges, shots: int, evidence: float, rng: np.random.Generator
) -> tuple[Floats, NDArray[np.uint8]]:
    """Log-odds of the edges ``(B, E)`` as belief propagation finds them, and packed syndromes."""
    mechanisms = int(problem.group.max()) + 1
    p = np.zeros(mechanisms)
    p[problem.group] = problem.p
    fired = rng.random((shots, mechanisms)) < p
    pair = problem.v >= 0
    checks = odd(
        np.concatenate([problem.u, problem.v[pair]]),
        np.concatenate([problem.group, problem.group[pair]]),
        (problem.num_nodes, mechanisms),
    )
    at = {key: e for e, key in enumerate(map(frozenset, zip(edges.u, edges.v, strict=True)))}
    edge = [at[key] for key in map(frozenset, zip(problem.u, problem.v, strict=True))]
    of_edge = odd(np.array(edge), problem.group, (len(edges.u), mechanisms))
    events = (checks @ fired.T).T % 2 == 1
    prior = np.log(p / (1 - p)) + 2 * evidence * (
        np.where(fired, evidence, -evidence) + rng.normal(size=fired.shape)
    )
    q = propagate(checks, prior.T.astype(np.float32), events.T)
    # An edge is in the error if an odd number of its mechanisms fired.
    size = np.exp(of_edge @ np.log(np.maximum(np.abs(1 - 2 * q), 1e-12)))
    sign = np.where(of_edge @ (q > 0.5) % 2 == 1, -1, 1)
    parity = np.clip((1 - sign * size) / 2, 1e-12, 1 - 1e-12)
    return np.ascontiguousarray(np.log(parity / (1 - parity)).T.astype(np.float32)), pack(events)


def odd(rows: NDArray[np.int64], columns: NDArray[np.int64], shape: tuple[int, int]) -> csr_array:
    """A parity matrix with ones where an odd number of (row, column) pairs say so."""
    made = csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)
    made.data %= 2
    made.eliminate_zeros()
    return made


def propagate(checks: csr_array, prior: Floats, events: NDArray[np.bool_]) -> Floats:
    """Sum-product over all windows at once: ``(M, B)`` prior log-odds → posterior probabilities."""
    check, mechanism = np.repeat(np.arange(checks.shape[0]), np.diff(checks.indptr)), checks.indices
    ones = np.ones(len(check), dtype=np.float32)
    at = np.arange(len(check))
    to_check = csr_array((ones, (check, at)))  # sums what lies on the links, by check
    to_mechanism = csr_array((ones, (mechanism, at)))
    flips = np.where(events[check], np.float32(-1), np.float32(1))
    message, belief = prior[mechanism], prior
    for _ in range(SWEEPS):
        # tanh(log-odds of "quiet" / 2), as size and sign.
        size = np.log(np.maximum(np.abs(np.tanh(message / 2)), np.float32(1e-12)))
        loud = (message > 0).astype(np.float32)
        others = np.exp(np.minimum((to_check @ size)[check] - size, np.float32(-1e-6)))
        sign = 1 - 2 * (((to_check @ loud)[check] - loud) % 2)
        answer = -2 * np.arctanh(others) * sign * flips
        belief = prior + to_mechanism @ answer
        message = DAMPING * message + (1 - DAMPING) * (belief[mechanism] - answer)
    return np.asarray(1 / (1 + np.exp(np.clip(-belief, -50, 50))), dtype=np.float32)


if __name__ == "__main__":
    main()
