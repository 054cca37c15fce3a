"""Schematics of the cells by their role, and the block diagram of the array they stand in.

No netlist is laid out here: a shipped cell has a fixed drawing, a cell of the user's own is a box with its named pins.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from analog_deq.netlists.contract import Cell
from analog_deq.resources import shipped
from analog_deq.spec import Neuron
from analog_deq.verify.found import Drawing
from analog_deq.verify.report.schematics.blocks import draw_network, draw_neuron
from analog_deq.verify.report.schematics.cells import TEMPLATES, draw_box

SLOT_TITLES = {
    "opamp": "Op-amp", "integrator": "Integrator", "activation": "Activation", "driver": "Row driver",
    "synapse": "Synapse",
}  # fmt: skip


def schematics(cells: Mapping[str, Cell], sizes: tuple[int, int, int], neuron: Neuron) -> tuple[Drawing, ...]:
    """The network of (inputs, states, outputs), one neuron, and each of its ``cells`` by slot."""
    drawn = [draw_network(sizes), draw_neuron(cells, neuron)]
    return (*drawn, *(draw_cell(slot, cell) for slot, cell in cells.items()))


def draw_cell(slot: str, cell: Cell) -> Drawing:
    """The drawing of one cell: its template where it is a shipped one that has one, else a box with its pins."""
    title = f"{SLOT_TITLES.get(slot, slot.capitalize())}: {cell.name}"
    text = cell.contract.cell.description
    template = TEMPLATES.get(Path(cell.source).stem) if _is_shipped(cell) else None
    if template is not None:
        return Drawing(f"cell-{slot}", title, template(title), text)
    ties = ", ".join(f"{pin} tied to {tie if isinstance(tie, str) else tie.source}" for pin, tie in
                     cell.contract.tie.items())  # fmt: skip
    caption = f"{text + ' ' if text else ''}Role {cell.role}; outside the box the netlist's own pin names."
    return Drawing(f"cell-{slot}", title, draw_box(cell, title), f"{caption} {ties}".strip())


def _is_shipped(cell: Cell) -> bool:
    return Path(cell.source).parent.resolve() == shipped("netlists/cells").resolve()
