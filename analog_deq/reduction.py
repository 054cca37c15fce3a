"""Exact reduction of a resistive crossbar to its ports.

The array is a passive linear network, so eliminating its inner nodes (a Schur complement) loses nothing:
ports see the same currents for every port voltage, and because a Kron-reduced resistor network is itself a
network of positive resistors, its thermal noise (4kT Re Y, Nyquist) is the same too.

Geometry (rows are word lines, columns bit lines). Physical row 2k carries +V of logical row k through
``g_pos[k]``, row 2k+1 carries -V through ``g_neg[k]``. A row runs source - resistance - segment - cell 0 -
segment - cell 1 ...; a column runs from its first row down to its last and through one segment into the
summing node s_i. Logical rows are ordered inputs, bias, states.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix, csc_matrix
from scipy.sparse.linalg import splu

from analog_deq.errors import SpecError

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class PortAdmittance:
    """Currents into the array: ``i_port = y_ports @ v_port + y_sources @ v_source``.

    Ports are ``[s_0 .. s_{N-1}, zp_0, zn_0, zp_1, zn_1 ...]`` (3N), sources the DAC lines
    ``[x+_0, x-_0, ..., b+, b-]`` behind their resistance; ``y_drive`` is source by source. All in siemens.
    """

    y_ports: Array
    y_sources: Array
    y_drive: Array

    @property
    def states(self) -> int:
        return self.y_ports.shape[0] // 3


def physical_conductances(g_pos: Array, g_neg: Array) -> Array:
    """Conductance of each physical row and column, shape (2K, N), from logical (K, N) pairs. Siemens."""
    if g_pos.shape != g_neg.shape:
        raise SpecError(f"g_pos {g_pos.shape} and g_neg {g_neg.shape} differ in shape")
    rows = np.empty((2 * g_pos.shape[0], g_pos.shape[1]))
    rows[0::2], rows[1::2] = g_pos, g_neg
    if not np.all(np.isfinite(rows)) or np.any(rows <= 0):
        where = tuple(int(k) for k in np.argwhere(~(np.isfinite(rows) & (rows > 0)))[0])
        raise SpecError(f"conductance at physical (row, column) {where} is {rows[where]}; it must be finite and > 0")
    return rows


def reduce_array(g_pos: Array, g_neg: Array, *, r_line_ohm: float, r_dac_ohm: float) -> PortAdmittance:
    """Port admittance of the array with N columns whose last N logical rows are the fed-back states.

    Exact up to round-off (sparse LU of the inner nodes). ``r_line_ohm`` may be 0; ``r_dac_ohm`` must be > 0.
    SpecError on non-positive conductances.
    """
    g = physical_conductances(np.asarray(g_pos, float), np.asarray(g_neg, float))
    rows, columns = g.shape
    sources = rows - 2 * columns
    if sources < 0:
        raise SpecError(f"{g_pos.shape[0]} logical rows cannot hold {columns} state rows")
    ends = _edges_with_wires(g, r_line_ohm, r_dac_ohm) if r_line_ohm > 0 else _edges_without_wires(g, r_dac_ohm)
    node_a, node_b, conductance, inner = ends
    boundary = 3 * columns + sources
    laplacian = _laplacian(node_a, node_b, conductance, inner + boundary)
    y_inner = csc_matrix(laplacian[:inner, :inner])
    y_border = laplacian[inner:, :inner]
    ports = 3 * columns
    factor = splu(y_inner)
    potentials = factor.solve(np.asarray(y_border[:ports].todense()).T)  # inner nodes per unit port voltage
    y_all = np.asarray(laplacian[inner:, inner:].todense())
    y_ports = y_all[:ports, :ports] - np.asarray(y_border[:ports] @ potentials)
    y_sources = -(np.asarray(y_border[ports:] @ potentials)).T
    drive_potentials = factor.solve(np.asarray(y_border[ports:].todense()).T)
    y_drive = y_all[ports:, ports:] - np.asarray(y_border[ports:] @ drive_potentials)
    return PortAdmittance((y_ports + y_ports.T) / 2, y_sources, y_drive)


def _laplacian(node_a: Array, node_b: Array, conductance: Array, nodes: int) -> csc_matrix:
    rows = np.concatenate([node_a, node_b, node_a, node_b])
    columns = np.concatenate([node_a, node_b, node_b, node_a])
    values = np.concatenate([conductance, conductance, -conductance, -conductance])
    return coo_matrix((values, (rows, columns)), shape=(nodes, nodes)).tocsc()


def _boundary(columns: int, sources: int, inner: int) -> tuple[Array, Array]:
    """Node numbers of the summing nodes and of each physical row's terminal (sources first, then states)."""
    summing = inner + np.arange(columns)
    states = inner + columns + np.arange(2 * columns)
    drives = inner + 3 * columns + np.arange(sources)
    return summing, np.concatenate([drives, states])


def _edges_with_wires(g: Array, r_line: float, r_dac: float) -> tuple[Array, Array, Array, int]:
    rows, columns = g.shape
    sources = rows - 2 * columns
    row_node = np.arange(rows * columns).reshape(rows, columns)
    column_node = row_node + rows * columns
    inner = 2 * rows * columns
    summing, terminals = _boundary(columns, sources, inner)
    wire = 1.0 / r_line
    entry = np.full(rows, wire)
    entry[:sources] = 1.0 / (r_dac + r_line)
    edges = [
        (row_node.ravel(), column_node.ravel(), g.ravel()),
        (terminals, row_node[:, 0], entry),
        (row_node[:, :-1].ravel(), row_node[:, 1:].ravel(), np.full(rows * (columns - 1), wire)),
        (column_node[:-1].ravel(), column_node[1:].ravel(), np.full((rows - 1) * columns, wire)),
        (column_node[-1], summing, np.full(columns, wire)),
    ]
    return *(np.concatenate([edge[k] for edge in edges]) for k in range(3)), inner


def _edges_without_wires(g: Array, r_dac: float) -> tuple[Array, Array, Array, int]:
    rows, columns = g.shape
    sources = rows - 2 * columns
    inner = sources  # a DAC row is one node behind its resistance; a state row is its driver's output
    summing, terminals = _boundary(columns, sources, inner)
    line = np.concatenate([np.arange(sources), terminals[sources:]])
    edges = [
        (np.repeat(line, columns), np.tile(summing, rows), g.ravel()),
        (terminals[:sources], np.arange(sources), np.full(sources, 1.0 / r_dac)),
    ]
    return *(np.concatenate([edge[k] for edge in edges]) for k in range(3)), inner


@dataclass(frozen=True, slots=True)
class ThinMesh:
    """A reduced array without the couplings between row ports, and what brings them back.

    Row ports see each other only through the voltage drops their currents cause in the drivers' resistance, which is
    linear: with C = (1 + r diag Y_zz)^-1 r offdiag Y_zz the true row voltages are ``correction @ v_rows`` = (1 +
    C)^-1 v_rows of the thin circuit, if its couplings from rows to summing nodes are Y_sz (1 + C)^-1. Exact for
    drivers that are sources behind ``r``, but for r C Y_zs s (below 1e-10 units at summing voltages of 50 mV); far
    cheaper to factorise, since row ports touch only summing nodes.
    """

    ports: PortAdmittance
    correction: Array


def thin(full: PortAdmittance, r_out_ohm: float) -> ThinMesh:
    """Thin form of a reduced array for drivers of output resistance ``r_out_ohm``."""
    n = full.states
    y_sz, y_zz = full.y_ports[:n, n:], full.y_ports[n:, n:]
    own = np.diag(y_zz)
    between = y_zz - np.diag(own)
    correction = np.linalg.inv(np.eye(2 * n) + r_out_ohm * between / (1 + r_out_ohm * own)[:, None])
    coupling = y_sz @ correction
    y_ports = np.block([[full.y_ports[:n, :n], coupling], [coupling.T, np.diag(own)]])
    return ThinMesh(PortAdmittance(y_ports, full.y_sources, full.y_drive), correction)


def mesh(admittance: Array, rtol: float = 1e-13) -> list[tuple[int, int, float]]:
    """Resistors (port a, port b, siemens) of a port admittance; port b = -1 is ground.

    Off-diagonals of a Kron-reduced resistor network are <= 0 and its row sums >= 0; an entry on the wrong side
    by more than round-off (``rtol`` of the largest diagonal) means a wrong reduction and raises SpecError.
    """
    scale = float(np.max(np.diag(admittance))) * rtol
    upper = np.triu(admittance, 1)
    if upper.max(initial=0.0) > 1e3 * scale:
        raise SpecError("the reduced array has a negative branch conductance; the reduction is wrong")
    branches = [(int(a), int(b), float(-upper[a, b])) for a, b in np.argwhere(upper < -scale)]
    for port, total in enumerate(admittance.sum(axis=1)):
        if total < -1e3 * scale:
            raise SpecError(f"port {port} of the reduced array has the negative ground conductance {total}")
        if total > scale:
            branches.append((port, -1, float(total)))
    return branches
