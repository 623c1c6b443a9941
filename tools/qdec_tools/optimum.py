"""The likeliest set of faults of a window, as an integer programme: slow, exact, to check with."""

from __future__ import annotations

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from qdec.bits import Bytes, unpack
from qdec.codes.rows import owners
from qdec.errors import DataError
from qdec.match.guarded.tables import Tables


def least_weight(tables: Tables, syndrome: Bytes) -> float:
    """Weight of the likeliest set of faults that explains a window, by SciPy's HiGHS.

    Faults are edges alone and ways of several edges, each there or not; the number of those that
    flip an event is odd where there is one, and even elsewhere.

    Args:
        tables: the window's edges and faults.
        syndrome: ``(num_nodes/8,)`` uint8.

    Returns:
        Sum of log((1 - p) / p) of the faults, in nats.

    Raises:
        DataError: no set of faults explains the window, or HiGHS found none.
    """
    nodes, edges = len(tables.node_fault_ptr) - 1, len(tables.edge_key)
    flips = np.zeros((nodes, edges))
    flips[tables.edge_u, np.arange(edges)] = 1
    inner = np.flatnonzero(tables.edge_v >= 0)
    flips[tables.edge_v[inner], inner] = 1
    joined = np.zeros((edges, len(tables.gain)))
    joined[tables.way_edges, owners(tables.way_edge_ptr)] = 1
    faults = np.concatenate([flips, flips @ joined % 2], axis=1)
    weight = np.concatenate([tables.edge_weight, tables.edge_weight @ joined - tables.gain])
    events = unpack(syndrome, nodes).astype(float)
    parities = np.concatenate([faults, -2 * np.eye(nodes)], axis=1)
    found = milp(
        np.concatenate([weight, np.zeros(nodes)]),
        constraints=LinearConstraint(parities, events, events),
        bounds=Bounds(0, np.concatenate([np.ones(len(weight)), np.full(nodes, np.inf)])),
        integrality=np.ones(len(weight) + nodes),
    )
    if not found.success:
        raise DataError(f"no set of faults was found: {found.message}")
    return float(found.fun)
