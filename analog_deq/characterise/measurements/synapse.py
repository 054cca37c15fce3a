"""What the testbenches of synapses share: programmed levels, the read voltage, instances between a row and an ammeter.

Every copy holds one instance at each level, all between one shared row source and an ideal ammeter at 0 V of their
own. That is how a summing integrator sees them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from analog_deq.characterise.measurement import CellBench, Copy
from analog_deq.netlists.cell import Cell
from analog_deq.netlists.deck import number
from analog_deq.records import Plot
from analog_deq.units import engineering

LEVELS = 5
DEFAULT_READ_V = 0.2
SMALL = 1e-3
"""Small-signal voltage over the read voltage: a sinh law with V0 = 0.25 V bends by 1e-7 there at 0.2 V."""
RESOLUTION = 1e-7
"""Relative change of a current below which the solver shows rounding, not the cell."""
RESOLUTION_A = 1e-15
"""Current below which the solver shows rounding: that of a few amperes through an ohm inside a cell."""

ROW = "Vrow"
DC_OPTIONS: Mapping[str, float | str | bool] = {"reltol": 1e-9, "abstol": 1e-18, "vntol": 1e-12}
"""Newton to rounding: conductances are differences of small currents."""


def levels(cell: Cell) -> tuple[float, ...]:
    """Programmed conductances in siemens, rising, both ends of the range included: 5, or all of a cell with fewer.

    >>> from analog_deq.netlists.library import load_cell
    >>> [f"{g:.6g}" for g in levels(load_cell("resistor_synapse"))]
    ['1e-06', '2.575e-05', '5.05e-05', '7.525e-05', '0.0001']
    """
    state = cell.contract.state["g"]
    possible = np.linspace(state.min, state.max, state.levels if state.levels > 1 else LEVELS)
    chosen = np.unique(np.round(np.linspace(0, len(possible) - 1, LEVELS)).astype(int))
    return tuple(float(possible[k]) for k in chosen)


def read_v(bench: CellBench) -> float:
    """Read voltage: ``typ`` of the contract's condition ``read``, 0.2 V unless stated."""
    return bench.condition("read", DEFAULT_READ_V)


def largest_read_v(bench: CellBench) -> float:
    """Largest read voltage: ``max`` of the condition ``read``, else its ``typ``."""
    stated = bench.cell.contract.conditions.get("read")
    return read_v(bench) if stated is None or stated.max is None else stated.max


def text(name: str, value: float, unit: str) -> str:
    """One word of a row's ``at``.

    >>> text("g", 4e-5, "S")
    'g=40uS'
    """
    return f"{name}={engineering(value, unit, 6).replace(' ', '')}"


def row_line(volts: float = 0.0, ac: str = "") -> str:
    """The row source, shared by every copy."""
    return f"{ROW} row 0 dc {number(volts)} {ac}".rstrip()


def cell_lines(bench: CellBench, copy: Copy, place: str, g: float, **given: float) -> list[str]:
    """One instance programmed to ``g`` between ammeters at its row and at its column; ``place`` is unique in a copy."""
    k = f"{place}_{copy.tag}"
    nodes = {"row": f"r{k}", "col": f"c{k}"}
    return [
        f"Vr{k} row r{k} 0",
        f"Vc{k} c{k} 0 0",
        bench.instance(copy, nodes, name=f"{place}_", g=g, **given),
    ]


def level_lines(bench: CellBench) -> list[str]:
    """One instance of every copy at each level, at the places ``l0``, ``l1``..."""
    places = enumerate(levels(bench.cell))
    return [line for k, g in places for copy in bench.copies for line in cell_lines(bench, copy, f"l{k}", g)]


def current(plot: Plot, copy: Copy, place: str, pin: str = "c") -> np.ndarray:
    """Current in amperes out of the column of an instance, or into its row (``pin`` = ``r``); shape of the sweep."""
    return np.real(plot[f"i(v{pin}{place}_{copy.tag})"])


def saved(bench: CellBench, places: Sequence[str] = (), pins: str = "c") -> list[str]:
    """The ammeters to save; at every level unless ``places`` says where."""
    where = places or [f"l{k}" for k in range(len(levels(bench.cell)))]
    return [f"i(v{pin}{place}_{copy.tag})" for copy in bench.copies for place in where for pin in pins]


def slope(plot: Plot, copy: Copy, place: str) -> float:
    """Small-signal conductance in siemens from a sweep of the row over -v, 0, v."""
    i, v = current(plot, copy, place), plot.sweep
    return float((i[-1] - i[0]) / (v[-1] - v[0]))
