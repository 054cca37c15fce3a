"""Crossbar netlists: the flat array of synapse cells and wire segments, and its reduced resistor mesh.

Rows are word lines (inputs), columns bit lines (outputs). Logical row k has two physical rows: 2k driven at
+V through g_pos[k], 2k+1 driven at -V through g_neg[k]. Logical rows are ordered inputs, bias, states. Current
flows from a row through the synapse (row -> col) into the column and down to the summing node s_i, so a
positive weight with a positive input raises the current into s_i.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from analog_deq.errors import NetlistError
from analog_deq.netlists.contract import Cell
from analog_deq.netlists.deck import number
from analog_deq.tiling.plan import Tile, check_tiles

WIRE_DELAY = 5e-3
"""Largest delay of wires, as a share of a neuron's time constant, that a reduced deck may leave out."""


@dataclass(frozen=True, slots=True)
class CrossbarParameters:
    """Conductances (logical rows, columns) in siemens and the array's parasitic resistances.

    ``errors`` maps a mismatch parameter of the synapse to its values in g_pos and g_neg, (2, logical rows, columns).
    With ``tiles`` each has wires of its own, and devices are in tiles only (:mod:`analog_deq.tiling`). ``c_wire_f`` is
    from every row and column node to ground, ``c_cell_f`` across every cell. With ``both_word_ends`` each row of every
    tile is fed at both ends.
    """

    g_pos: np.ndarray
    g_neg: np.ndarray
    r_line_ohm: float
    r_dac_ohm: float
    errors: Mapping[str, np.ndarray] = field(default_factory=dict)
    tiles: tuple[Tile, ...] = ()
    c_wire_f: float = 0.0
    c_cell_f: float = 0.0
    both_word_ends: bool = False

    def __post_init__(self) -> None:
        if self.tiles:
            check_tiles(self.tiles, *self.g_pos.shape)
        for name, values in self.errors.items():
            if values.shape != (2, *self.g_pos.shape):
                raise NetlistError(f"errors[{name!r}] has shape {values.shape}; one value a synapse is needed")
        for name, g in (("g_pos", self.g_pos), ("g_neg", self.g_neg)):
            if g.ndim != 2 or g.shape != self.g_pos.shape:
                raise NetlistError(f"{name} has shape {g.shape}; g_pos and g_neg must be equal (rows, columns) arrays")
            bad = np.argwhere(~(np.isfinite(g) & (g > 0)))
            if len(bad):
                where = tuple(int(k) for k in bad[0])
                raise NetlistError(f"{name}[{where}] = {g[where]!r}: a conductance must be finite and > 0")
        if self.g_pos.shape[0] < self.g_pos.shape[1]:
            raise NetlistError("the array has fewer logical rows than columns; every state needs a row")
        if not (np.isfinite(self.r_line_ohm) and self.r_line_ohm >= 0):
            raise NetlistError(f"r_line_ohm = {self.r_line_ohm!r}: must be >= 0")
        if not (np.isfinite(self.r_dac_ohm) and self.r_dac_ohm > 0):
            raise NetlistError(f"r_dac_ohm = {self.r_dac_ohm!r}: must be > 0")

    @property
    def columns(self) -> int:
        return self.g_pos.shape[1]

    @property
    def placed(self) -> tuple[Tile, ...]:
        """The tiles; of an untiled array the one that is all of it."""
        return self.tiles or (Tile(0, self.g_pos.shape[0], 0, self.columns),)

    @property
    def sources(self) -> int:
        """Physical rows driven by DACs: two for each input and for the bias."""
        return 2 * (self.g_pos.shape[0] - self.columns)


def terminal(row: int, sources: int) -> str:
    """Node where physical row ``row`` is driven: a DAC line or a neuron's driver output."""
    if row < sources:
        return f"x{row}"
    state, negative = divmod(row - sources, 2)
    return f"{'zn' if negative else 'zp'}{state}"


def synapse_instance(synapse: Cell, name: str, row: str, column: str, g: float, errors: Mapping[str, float]) -> str:
    """Line of one synapse programmed to ``g`` siemens; mismatch parameters that are 0 are left out."""
    params = {synapse.contract.state["g"].param: g, **{key: value for key, value in errors.items() if value}}
    return synapse.instance(name, {"row": row, "col": column}, params)


def flat_lines(parameters: CrossbarParameters, synapse: Cell) -> list[str]:
    """Every synapse cell, wire segment and DAC resistance of the array, one line each.

    DAC sources are ``Vx{row}`` (0 V here; alter or sweep them) behind ``r_dac_ohm``. With ``r_line_ohm`` = 0 each
    row and column is one node.
    """
    g = np.stack([parameters.g_pos, parameters.g_neg], axis=1).reshape(-1, parameters.columns)
    errors = {key: np.swapaxes(value, 0, 1).reshape(g.shape) for key, value in parameters.errors.items()}
    wired = parameters.r_line_ohm > 0
    wire = number(parameters.r_line_ohm)
    lines = [f"Rx{q} x{q} r{q} {number(parameters.r_dac_ohm)}" for q in range(parameters.sources)]
    for tile in parameters.placed:
        for q in range(2 * tile.first_row, 2 * tile.end_row):
            drive = f"r{q}" if q < parameters.sources else terminal(q, parameters.sources)
            if wired and parameters.both_word_ends:
                lines.append(f"Rr{q}_{tile.end_column}e r{q}_{tile.end_column - 1} {drive} {wire}")
            for i in range(tile.first_column, tile.end_column):
                if wired:
                    lines.append(f"Rr{q}_{i} {drive if i == tile.first_column else f'r{q}_{i - 1}'} r{q}_{i} {wire}")
                    below = f"c{q + 1}_{i}" if q + 1 < 2 * tile.end_row else f"s{i}"
                    lines.append(f"Rc{q}_{i} c{q}_{i} {below} {wire}")
                    ends = f"r{q}_{i}", f"c{q}_{i}"
                else:
                    ends = drive, f"s{i}"
                for name, node, other, farads in (
                    ("Cw", ends[0], "0", parameters.c_wire_f), ("Cv", ends[1], "0", parameters.c_wire_f),
                    ("Cx", *ends, parameters.c_cell_f),
                ):  # fmt: skip
                    if farads > 0:
                        lines.append(f"{name}{q}_{i} {node} {other} {number(farads)}")
                own = {key: float(value[q, i]) for key, value in errors.items()}
                lines.append(synapse_instance(synapse, f"Xg{q}_{i}", *ends, float(g[q, i]), own))
    return lines


def lumped_capacitors(parameters: CrossbarParameters, tau_s: float) -> list[str]:
    """The array's capacitances at its ports, for a reduced deck of neurons with time constant ``tau_s``.

    Every row and column holds its wire's and its cells' capacitance at its end. What cells couple from a state's + row
    into a column its - row takes out again. That is the first order: what is left out is the delay along the wires,
    about ``r c n^2 / 2`` for n segments. At the bound, readings of 9 neurons on their way were within 7e-5 of a unit of
    the flat deck's. NetlistError when the delay of the longest row and column together exceeds :data:`WIRE_DELAY` of
    ``tau_s``; the flat deck has every capacitor.
    """
    each = parameters.c_wire_f + parameters.c_cell_f
    if each == 0:
        return []
    longest = [max(2 * (t.end_row - t.first_row), t.end_column - t.first_column) for t in parameters.placed]
    delay_s = parameters.r_line_ohm * each * max(longest) ** 2
    if delay_s > WIRE_DELAY * tau_s:
        raise NetlistError(
            f"wires of up to {max(longest)} segments of {parameters.r_line_ohm:g} ohm and {each:g} F delay by "
            f"{delay_s:.2g} s, more than {WIRE_DELAY:g} of the neurons' {tau_s:.2g} s: the reduced deck would miss "
            "that; use the flat deck (--flat), or smaller tiles"
        )
    rows, columns = np.zeros(2 * len(parameters.g_pos), dtype=int), np.zeros(parameters.columns, dtype=int)
    for tile in parameters.placed:
        rows[2 * tile.first_row : 2 * tile.end_row] += tile.end_column - tile.first_column
        columns[tile.columns] += 2 * (tile.end_row - tile.first_row)
    ends = [(f"s{i}", int(count)) for i, count in enumerate(columns)]
    ends += [(terminal(q, parameters.sources), int(rows[q])) for q in range(parameters.sources, len(rows))]
    return [f"Cl{k} {node} 0 {number(each * count)}" for k, (node, count) in enumerate(ends) if count]


def mesh_lines(branches: Sequence[tuple[int, int, float]], columns: int) -> list[str]:
    """Resistors of the reduced array; a branch is (port, port or -1 for ground, siemens)."""
    ports = [f"s{i}" for i in range(columns)]
    ports += [f"{sign}{i}" for i in range(columns) for sign in ("zp", "zn")]
    lines = []
    for a, b, conductance in branches:
        if not (np.isfinite(conductance) and conductance > 0):
            raise NetlistError(f"mesh branch ({a}, {b}) has conductance {conductance!r}; it must be > 0")
        lines.append(f"Rm{a}_{b if b >= 0 else 'g'} {ports[a]} {ports[b] if b >= 0 else '0'} {number(1 / conductance)}")
    return lines


def transfer_lines(coupling: np.ndarray) -> list[str]:
    """Transconductances from row ports to every summing node, ``coupling`` (N, 2N) in siemens; (N, N): from zp only."""
    columns, ports = coupling.shape
    signs = ("zp", "zn") if ports == 2 * columns else ("zp",)
    rows = [f"{sign}{i}" for i in range(columns) for sign in signs]
    return [
        f"Gm{i}_{k} s{i} 0 {row} 0 {number(g)}"
        for i, line in enumerate(coupling.tolist())
        for k, (row, g) in enumerate(zip(rows, line, strict=True))
    ]


def ideal_currents(g_pos: np.ndarray, g_neg: np.ndarray, volts: np.ndarray) -> np.ndarray:
    """Column currents of the ideal array, i_j = sum_k V_k (g_pos - g_neg)_kj, in amperes; ``volts`` is (..., rows).

    >>> import numpy as np
    >>> ideal_currents(np.array([[2e-6], [1e-6]]), np.array([[1e-6], [3e-6]]), np.array([1.0, 1.0]))
    array([-1.e-06])
    """
    return volts @ (g_pos - g_neg)
