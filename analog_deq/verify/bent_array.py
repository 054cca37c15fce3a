"""An array whose cells bend: its linear part factorised once, what the cells draw beyond it as currents.

Every cell i(u) is its conductance g of the reduced deck and a current ``excess = i(u) - g u`` beside it. For given
terminal voltages and excess currents the rest is linear, so one sparse factorisation of the array serves every image,
every pass and every iterate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix, diags
from scipy.sparse.linalg import SuperLU, splu

from analog_deq.reduction import physical_conductances
from analog_deq.verify.cell_curves import CellCurves

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class BentArray:
    """Cells (physical rows x N, row by row) between wires; terminals are the 3N ports, then the DAC lines.

    Ports are ordered as in :class:`~analog_deq.reduction.PortAdmittance`.
    """

    g: Array
    factor: SuperLU
    to_terminals: csr_matrix
    at_terminals: csr_matrix
    at_nodes: csr_matrix
    ports: int

    @classmethod
    def of(
        cls, g_pos: Array, g_neg: Array, *, r_line_ohm: float, r_dac_ohm: float, both_word_ends: bool = False
    ) -> BentArray:
        """The array of conductances (logical rows, N) that the reduced deck is made of."""
        g = physical_conductances(g_pos, g_neg)
        rows, n = g.shape
        sources = rows - 2 * n
        terminals = 3 * n + sources
        q, i = (index.ravel() for index in np.indices((rows, n)))
        line = np.arange(rows)
        terminal = np.where(line < sources, 3 * n + line, n + line - sources)
        if r_line_ohm > 0:
            row, column = terminals + q * n + i, terminals + (rows + q) * n + i
            inner, above = i > 0, q < rows - 1
            lead = terminals + 2 * rows * n + np.arange(sources)  # of a DAC row, behind its resistance
            feed = np.concatenate([lead, terminal[sources:]])
            last = feed if both_word_ends else feed[:0]
            segments = [(feed, row[i == 0]), (row[inner] - 1, row[inner]), (column, np.where(above, column + n, i))]
            segments.append((last, row[i == n - 1][: len(last)]))
            from_ = np.concatenate([terminal[:sources], *(start for start, _ in segments)])
            to = np.concatenate([lead, *(end for _, end in segments)])
            siemens = np.full(len(to), 1 / r_line_ohm)
            siemens[:sources] = 1 / r_dac_ohm
            nodes = terminals + 2 * rows * n + sources
        else:  # a state's row is its terminal, a column its summing node
            row, column = np.where(q < sources, terminals + q, terminal[q]), i
            from_, to = terminal[:sources], terminals + np.arange(sources)
            siemens, nodes = np.full(sources, 1 / r_dac_ohm), terminals + sources
        cells = _incidence(row, column, nodes)
        wires = _incidence(from_, to, nodes)
        laplacian = (cells.T @ diags(g.ravel()) @ cells + wires.T @ diags(siemens) @ wires).tocsc()
        inner_part = laplacian[terminals:, terminals:].tocsc()
        factor = splu(inner_part, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
        to_terminals = laplacian[:terminals, terminals:].tocsr()
        return cls(g.ravel(), factor, to_terminals, cells[:, :terminals], cells[:, terminals:], 3 * n)

    def solve(self, terminals_v: Array, excess_a: Array) -> tuple[Array, Array]:
        """Voltages (images, cells) across the cells, and what the excess currents draw at each port (images, 3N).

        ``terminals_v`` (images, terminals) are held, ``excess_a`` (images, cells) flow beside the cells.
        """
        right = np.ascontiguousarray(self.at_nodes.T @ excess_a.T)
        drop = self.factor.solve(right)  # by how much the excess currents lower the inner nodes
        nodes = -self.factor.solve(np.ascontiguousarray(self.to_terminals.T @ terminals_v.T)) - drop
        across = (self.at_terminals @ terminals_v.T + self.at_nodes @ nodes).T
        drawn = (self.at_terminals.T @ excess_a.T - self.to_terminals @ drop).T
        return np.asarray(across), np.asarray(drawn[:, : self.ports])

    def excess(self, curves: CellCurves, across_v: Array) -> Array:
        """Current (images, cells) of the cells beyond their conductance at the voltages across them."""
        return np.asarray(curves.current(across_v) - self.g * across_v)


def _incidence(start: Array, end: Array, nodes: int) -> csr_matrix:
    """(elements, nodes), +1 where an element begins and -1 where it ends."""
    count = np.arange(len(start))
    ones = np.ones(len(start))
    return csr_matrix(
        (np.concatenate([ones, -ones]), (np.concatenate([count, count]), np.concatenate([start, end]))),
        shape=(len(start), nodes),
    )
