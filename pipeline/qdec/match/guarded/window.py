"""A window that is matched twice, and looked at more closely where the answers differ."""

from __future__ import annotations

import numpy as np

from qdec.bits import Bytes, unpack
from qdec.match.correlated import CorrelatedWindow, correlated_window
from qdec.match.guarded.kernels import few_faults, settle
from qdec.match.guarded.tables import Ints, edge_keys, tabulate
from qdec.match.matching import MatchingWindow
from qdec.match.tier import Answers
from qdec.windows.cut import Problem

# The search for few faults looks for no more than this, and tries no more before it gives up: all
# that there are up to three faults, some 2 ms at the very most.
MOST_FEW = 4
_BUDGET = 30_000


class GuardedWindow:
    """Plain and correlated matching; where they differ, what is more likely as faults."""

    def __init__(self, problem: Problem, correlated: CorrelatedWindow, few: int) -> None:
        """Compile what the correlated window of the same problem does not have yet.

        Args:
            problem: the window.
            correlated: its correlated matching.
            few: faults that are surely corrected: (d - 1) / 2.
        """
        self._plain = MatchingWindow(problem)
        self._correlated = correlated
        self._tables = tabulate(problem)
        self._mark = np.zeros(len(self._tables.edge_key), dtype=np.uint8)
        self._nodes = problem.num_nodes
        self._few = min(few, MOST_FEW)
        self.notes = tuple(dict.fromkeys((*self._plain.notes, *correlated.notes)))
        # The kernels are compiled now, or fetched from where they are kept.
        self._settle(np.zeros(problem.num_nodes // 8, dtype=np.uint8))

    def decode(self, syndromes: Bytes) -> Answers:
        """See `CompiledWindow.decode`."""
        plain, other = self._plain.decode(syndromes), self._correlated.decode(syndromes)
        differ = (plain.bits != other.bits).any(axis=1) & plain.feasible & other.feasible
        rows = np.flatnonzero(differ)
        if not len(rows):
            return plain
        bits = plain.bits.copy()
        for row in rows.tolist():
            bits[row] = self._settle(syndromes[row])
        return Answers(bits, plain.feasible)

    def overrule(self, bits: Bytes, syndromes: Bytes) -> Ints:
        """Correct another decoder's answers where few faults say otherwise.

        Where an answer is not the guarded one, and at most (d - 1) / 2 faults explain the window,
        they are the answer. So no set of faults is lost that the guarded tier corrects (see the
        package's docstring; windows of more events than so many faults can make are left alone),
        and the other decoder keeps what it does better everywhere else.

        Args:
            bits: ``(B, answer_bytes)`` uint8 answers, changed in place.
            syndromes: ``(B, num_nodes/8)`` uint8.

        Returns:
            Rows that were changed.
        """
        changed = []
        if self._few:
            differ = np.flatnonzero((bits != self.decode(syndromes).bits).any(axis=1))
            for row in differ.tolist():
                found = self._few_faults(syndromes[row])
                if found is not None and (bits[row] != found).any():
                    bits[row] = found
                    changed.append(row)
        return np.array(changed, dtype=np.int64)

    def _few_faults(self, syndrome: Bytes) -> Bytes | None:
        """``(answer_bytes,)`` uint8 where (d - 1) / 2 faults explain a window, else None."""
        events = np.flatnonzero(unpack(syndrome, self._nodes))
        bits = np.zeros(self._tables.edge_bits.shape[1], dtype=np.uint8)
        return bits if few_faults(self._tables, events, self._few, _BUDGET, bits) else None

    def _settle(self, syndrome: Bytes) -> Bytes:
        events = unpack(syndrome, self._nodes)
        bits = np.zeros(self._tables.edge_bits.shape[1], dtype=np.uint8)
        settle(
            self._tables,
            self._mark,
            self._edges(events, correlated=False),
            self._edges(events, correlated=True),
            int(np.count_nonzero(events)),
            self._few,
            _BUDGET,
            bits,
        )
        return bits

    def _edges(self, events: Bytes, *, correlated: bool) -> Ints:
        """The edges of an explanation, numbered as in the tables."""
        pairs = self._correlated.graph.matching.decode_to_edges_array(
            events, enable_correlations=correlated
        )
        keys = edge_keys(pairs[:, 0], pairs[:, 1], self._nodes)
        return np.searchsorted(self._tables.edge_key, keys)


def guarded_window(problem: Problem, distance: int | None) -> GuardedWindow:
    """Compile a guarded window.

    Args:
        problem: the window.
        distance: of the code; where None is known, only likelihood decides.

    Raises:
        GeometryError: a mechanism has p > 1/2, which correlated matching cannot reweight.
    """
    few = 0 if distance is None else (distance - 1) // 2
    return GuardedWindow(problem, correlated_window(problem), few)
