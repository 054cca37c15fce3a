"""Nodal analysis of every cell and segment of an array: the slow, independent reference of the block reduction."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array, csc_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

from analog_deq.errors import SpecError

Array = np.ndarray


def nodal_admittance(
    g: Array, *, r_word_ohm: float = 0.0, r_bit_ohm: float = 0.0, r_source_ohm: Array | float = 0.0,
    r_sense_ohm: Array | float = 0.0, both_word_ends: bool = False, both_bit_ends: bool = False,
) -> Array:  # fmt: skip
    """As :func:`analog_deq.array.terminal_admittance` for one (R, C) array, by sparse LU of its node equations.

    Nodes that a zero resistance joins are merged. SpecError when that joins two terminals. Loses digits to cancellation
    as wires get far more conductive than cells: about 1e-16 / (r g) of the largest entry.
    """
    rows, columns = g.shape
    terminals = rows + columns
    start, end, ohm = _elements(
        g, r_word_ohm, r_bit_ohm, np.broadcast_to(r_source_ohm, rows), np.broadcast_to(r_sense_ohm, columns),
        both_word_ends, both_bit_ends,
    )  # fmt: skip
    count = int(max(start.max(), end.max())) + 1
    joined = ohm == 0
    graph = coo_array((np.ones(joined.sum()), (start[joined], end[joined])), shape=(count, count))
    _, node = connected_components(graph, directed=False)
    if len(np.unique(node[:terminals])) < terminals:
        raise SpecError("zero resistances join two terminals of the array")
    a, b, siemens = node[start], node[end], np.zeros(len(ohm))
    siemens[~joined] = 1 / ohm[~joined]
    keep = ~joined & (a != b)
    a, b, siemens = a[keep], b[keep], siemens[keep]
    size = int(node.max()) + 1
    entries = (np.concatenate([a, b, a, b]), np.concatenate([a, b, b, a]))
    values = np.concatenate([siemens, siemens, -siemens, -siemens])
    laplacian = csc_array(coo_array((values, entries), shape=(size, size)))
    held = node[:terminals]
    floating = np.setdiff1d(np.arange(size), held)
    whole = laplacian[held][:, held].toarray()
    # a floating node that no resistor reaches (behind open cells, at a merged wire) carries nothing
    floating = floating[laplacian.diagonal()[floating] > 0]
    if len(floating):
        across = laplacian[floating][:, held]
        inner = splu(csc_array(laplacian[floating][:, floating]))
        whole -= across.T @ inner.solve(across.toarray())
    return np.asarray(whole)


def _elements(
    g: Array, r_word: float, r_bit: float, source: Array, sense: Array, both_word: bool, both_bit: bool
) -> tuple[Array, Array, Array]:
    """(start node, end node, ohm) of everything in the array; nodes 0 .. R + C - 1 are the terminals."""
    rows, columns = g.shape
    names = iter(range(rows + columns, rows + columns + 2 * rows * columns + 2 * (rows + columns)))

    def take(*shape: int) -> Array:
        return np.fromiter(names, int, int(np.prod(shape))).reshape(shape)

    at_source, at_sense = np.arange(rows), rows + np.arange(columns)
    wire_start, wire_end = take(rows), take(columns)
    word, bit = take(rows, columns), take(rows, columns)
    with np.errstate(divide="ignore"):
        cell = np.where(np.isinf(g), 0.0, 1 / g)
    parts = [
        (at_source, wire_start, source),
        (wire_start, word[:, 0], np.full(rows, r_word)),
        (word[:, :-1], word[:, 1:], np.full((rows, columns - 1), r_word)),
        (word, bit, cell),
        (bit[:-1], bit[1:], np.full((rows - 1, columns), r_bit)),
        (bit[-1], wire_end, np.full(columns, r_bit)),
        (wire_end, at_sense, sense),
    ]
    if both_word:
        far = take(rows)
        parts += [(word[:, -1], far, np.full(rows, r_word)), (far, at_source, source)]
    if both_bit:
        far = take(columns)
        parts += [(bit[0], far, np.full(columns, r_bit)), (far, at_sense, sense)]
    start, end, ohm = (np.concatenate([np.ravel(part[k]) for part in parts]) for k in range(3))
    return start, end, ohm.astype(float)
