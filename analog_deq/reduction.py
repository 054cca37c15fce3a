"""Exact reduction of a resistive crossbar to its ports.

The array is a passive linear network, so eliminating its inner nodes (a Schur complement) loses nothing:
ports see the same currents for every port voltage, and because a Kron-reduced resistor network is itself a
network of positive resistors, its thermal noise (4kT Re Y, Nyquist) is the same too.

Geometry (rows are word lines, columns bit lines). Physical row 2k carries +V of logical row k through
``g_pos[k]``, row 2k+1 carries -V through ``g_neg[k]``. A row runs source - resistance - segment - cell 0 -
segment - cell 1 ...; a column runs from its first row down to its last and through one segment into the
summing node s_i. Logical rows are ordered inputs, bias, states. Rows may be fed from both ends
(:func:`analog_deq.array.row_driven_admittance`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from analog_deq.array import row_driven_admittance
from analog_deq.errors import SpecError

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class PortAdmittance:
    """Currents into the array: ``i_port = y_ports @ v_port + y_sources @ v_source``.

    Ports are ``[s_0 .. s_{N-1}, zp_0, zn_0, zp_1, zn_1 ...]`` (3N), sources the DAC lines
    ``[x+_0, x-_0, ..., b+, b-]`` behind their resistance; ``y_drive`` is source by source (None if not asked
    for). All in siemens.
    """

    y_ports: Array
    y_sources: Array
    y_drive: Array | None

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


def reduce_array(
    g_pos: Array,
    g_neg: Array,
    *,
    r_line_ohm: float,
    r_dac_ohm: float,
    both_word_ends: bool = False,
    drive: bool = True,
) -> PortAdmittance:
    """Port admittance of the array with N columns whose last N logical rows are the fed-back states.

    Exact up to round-off. ``r_line_ohm`` may be 0; ``r_dac_ohm`` must be > 0. Without ``drive`` the sources' own block
    is left out, which halves the time. SpecError on conductances or shapes that no array has.
    """
    g = physical_conductances(np.asarray(g_pos, float), np.asarray(g_neg, float))
    rows, columns = g.shape
    sources = rows - 2 * columns
    if sources < 0:
        raise SpecError(f"{g_pos.shape[0]} logical rows cannot hold {columns} state rows")
    excited = rows + columns if drive else 3 * columns  # terminals driven one by one: state rows, summing, (sources)
    terminal = np.concatenate([np.arange(sources, rows), rows + np.arange(columns), np.arange(sources)])[:excited]
    if r_line_ohm > 0:
        currents = _with_wires(g, terminal, r_line_ohm, r_dac_ohm, both_word_ends)
    else:
        currents = _without_wires(g, terminal, r_dac_ohm)
    ports = np.concatenate([rows + np.arange(columns), np.arange(sources, rows)])
    place = {int(node): k for k, node in enumerate(terminal)}
    port_columns = [place[int(node)] for node in ports]
    y_ports = currents[ports][:, port_columns]
    y_sources = currents[:sources][:, port_columns].T  # reciprocity: what a port drives into a source line
    y_drive = currents[:sources][:, 3 * columns :] if drive else None
    return PortAdmittance((y_ports + y_ports.T) / 2, y_sources, y_drive)


def _without_wires(g: Array, terminal: Array, r_dac: float) -> Array:
    """Terminal currents (rows + columns, excited) per volt at each excited terminal: a row is one node."""
    rows, columns = g.shape
    sources = rows - 2 * columns
    total, is_source = g.sum(axis=1), np.arange(rows) < sources
    share = np.where(is_source, 1 / (total + 1 / r_dac), 0.0)  # of a DAC row's node; a state row's is its terminal
    stiff = np.where(is_source, share / r_dac, 1.0)  # node voltage per volt at the row's terminal
    admittance = np.zeros((rows + columns, rows + columns))
    row = np.arange(rows)
    admittance[row, row] = total * stiff
    admittance[:rows, rows:] = -(stiff[:, None] * g)
    admittance[rows:, :rows] = admittance[:rows, rows:].T
    admittance[rows:, rows:] = np.diag(g.sum(axis=0)) - (g * share[:, None]).T @ g
    return admittance[:, terminal]


def _with_wires(g: Array, terminal: Array, r_line: float, r_dac: float, both_word_ends: bool) -> Array:
    """As :func:`_without_wires`, with segments, by nested dissection (:mod:`analog_deq.array`): N^3 operations."""
    rows, columns = g.shape
    source = torch.zeros(rows, dtype=torch.float64)
    source[: rows - 2 * columns] = r_dac
    with torch.no_grad():
        y = row_driven_admittance(
            torch.as_tensor(g), r_line_ohm=r_line, r_row_ohm=source, both_word_ends=both_word_ends
        )
    return np.asarray(y.numpy()[:, terminal])


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


@dataclass(frozen=True, slots=True)
class OneWay:
    """A reduced array whose rows drive the summing nodes without being driven back; cheapest to factorise.

    Summing nodes keep a mesh of ``summing`` (N, N), rows (2N) a resistor ``1 / own`` to ground, and each row drives
    each summing node through the transconductance ``coupling`` (N, 2N). What the summing nodes do to the rows, and the
    rows to each other, is linear for drivers behind ``r`` and is put back when the rows are read:
    ``rows = correction @ rows_in_deck - feedback @ v_summing``. States are exact for such drivers; the supply misses
    the load of the summing nodes' offsets (2e-5 of it at 1 mV). Couplings are noiseless: ``.noise`` needs the
    :class:`ThinMesh`.
    """

    summing: Array
    coupling: Array
    own: Array
    correction: Array
    feedback: Array


def one_way(full: PortAdmittance, r_out_ohm: float) -> OneWay:
    """One-way form of a reduced array for drivers of output resistance ``r_out_ohm``."""
    n = full.states
    y_ss, y_sz = full.y_ports[:n, :n], full.y_ports[:n, n:]
    y_zs, y_zz = full.y_ports[n:, :n], full.y_ports[n:, n:]
    own = np.diag(y_zz)
    loaded = np.linalg.inv(np.eye(2 * n) + r_out_ohm * y_zz)
    correction = loaded * (1 + r_out_ohm * own)
    feedback = r_out_ohm * loaded @ y_zs
    summing = y_ss - y_sz @ feedback
    return OneWay((summing + summing.T) / 2, y_sz @ correction, own, correction, feedback)


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
