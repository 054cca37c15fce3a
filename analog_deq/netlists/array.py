"""Flat netlist of a crossbar with any wiring: a resistor for each cell and segment, a voltage source at each terminal.

Terminals are driven by ``Vw{row}`` at node w{row} and held by ``Vs{column}``, 0 V, at node s{column}; the current
``i(vs{column})`` is that out of the column. A resistance of 0 joins its two nodes, an open cell is left out. Node
r{row}_{column} is a cell's end on the row, c{row}_{column} that on the column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analog_deq.errors import NetlistError
from analog_deq.netlists.deck import number

Array = np.ndarray
Element = tuple[str, str, str, float]
"""Name, node, node, ohm."""


@dataclass(frozen=True, slots=True)
class ArrayParameters:
    """Conductances (rows, columns) in siemens, 0 to infinity, the wiring, and the bend of the cells.

    Words as in :func:`analog_deq.array.terminal_admittance`; with ``sinh_v`` a cell carries G v0 sinh(V / v0).
    """

    g: Array
    r_word_ohm: float = 0.0
    r_bit_ohm: float = 0.0
    r_source_ohm: float = 0.0
    r_sense_ohm: float = 0.0
    both_word_ends: bool = False
    both_bit_ends: bool = False
    sinh_v: float | None = None

    def __post_init__(self) -> None:
        bad = np.argwhere(~(self.g >= 0)) if self.g.ndim == 2 else [()]
        if len(bad):
            raise NetlistError(f"conductances {self.g.shape} at {tuple(bad[0])}: (rows, columns), each 0 or more")


def array_elements(parameters: ArrayParameters) -> list[Element]:
    """Every wire segment and cell, 0 ohm included, open cells left out; cells are named Rg{row}_{column}."""
    p = parameters
    rows, columns = p.g.shape
    elements: list[Element] = []
    for q in range(rows):
        elements += [
            (f"Rws{q}", f"w{q}", f"e{q}", p.r_source_ohm),
            (f"Rw{q}_0", f"e{q}", f"r{q}_0", p.r_word_ohm),
            *((f"Rw{q}_{i}", f"r{q}_{i - 1}", f"r{q}_{i}", p.r_word_ohm) for i in range(1, columns)),
        ]
        if p.both_word_ends:
            elements.append((f"Rw{q}_{columns}", f"r{q}_{columns - 1}", f"f{q}", p.r_word_ohm))
            elements.append((f"Rwt{q}", f"f{q}", f"w{q}", p.r_source_ohm))
        elements += [(f"Rg{q}_{i}", f"r{q}_{i}", f"c{q}_{i}", 1 / p.g[q, i]) for i in np.flatnonzero(p.g[q]).tolist()]
    for i in range(columns):
        elements += [(f"Rb{q}_{i}", f"c{q}_{i}", f"c{q + 1}_{i}", p.r_bit_ohm) for q in range(rows - 1)]
        elements.append((f"Rb{rows - 1}_{i}", f"c{rows - 1}_{i}", f"n{i}", p.r_bit_ohm))
        elements.append((f"Rbs{i}", f"n{i}", f"s{i}", p.r_sense_ohm))
        if p.both_bit_ends:
            elements.append((f"Rb_{i}", f"c0_{i}", f"t{i}", p.r_bit_ohm))
            elements.append((f"Rbt{i}", f"t{i}", f"s{i}", p.r_sense_ohm))
    return elements


def flat_array(parameters: ArrayParameters) -> list[str]:
    """Lines of the array and of its sources, all at 0 V. NetlistError when zero resistances join two terminals."""
    elements = array_elements(parameters)
    name = merged_nodes(elements)
    lines = []
    for label, a, b, ohm in elements:
        start, end = name[a], name[b]
        if start == end:
            continue
        if parameters.sinh_v is not None and label.startswith("Rg"):
            v0 = number(parameters.sinh_v)
            lines.append(f"B{label[1:]} {start} {end} I={number(1 / ohm)}*{v0}*sinh(v({start},{end})/{v0})")
        else:
            lines.append(f"{label} {start} {end} {number(ohm)}")
    rows, columns = parameters.g.shape
    lines += [f"Vw{q} w{q} 0 0" for q in range(rows)]
    lines += [f"Vs{i} s{i} 0 0" for i in range(columns)]
    return lines


def merged_nodes(elements: Sequence[Element]) -> dict[str, str]:
    """Name of the node that each node is part of, joined by elements of 0 ohm; a terminal lends its name."""
    parent: dict[str, str] = {}

    def root(node: str) -> str:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for label, a, b, ohm in elements:
        first, second = root(a), root(b)
        if ohm == 0 and first != second:
            if first[0] in "ws" and second[0] in "ws":
                raise NetlistError(f"{label} of 0 ohm joins the terminals {first} and {second} without any resistance")
            parent[first if second[0] in "ws" else second] = second if second[0] in "ws" else first
    return {node: root(node) for node in parent}


def printed_deck(title: str, parameters: ArrayParameters, volts: Array) -> str:
    """A deck that ``ngspice -b`` runs by itself: for each row of ``volts`` (inputs, rows) it prints i(vs{column})."""
    columns = parameters.g.shape[1]
    steps = []
    for k, row in enumerate(np.atleast_2d(volts)):
        steps += [f"alter vw{q} dc = {number(v)}" for q, v in enumerate(row)]
        steps += ["op", f"echo input {k}", *(f"print i(vs{i})" for i in range(columns)), "destroy all"]
    return "\n".join(
        [
            f"* {title}",
            *flat_array(parameters),
            ".options reltol=1e-9 abstol=1e-18 vntol=1e-12 gmin=1e-18",
            ".control",
            "set numdgt=16",
            *steps,
            "quit 0",
            ".endc",
            ".end",
            "",
        ]
    )
