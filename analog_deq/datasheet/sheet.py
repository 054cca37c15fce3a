"""What a datasheet says: a line per quantity and condition, spreads over dies, sensitivities, correlations, curves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analog_deq.characterise.blocks import DIE, NOMINAL
from analog_deq.characterise.corners import typical_corner
from analog_deq.characterise.registry import measurements_of
from analog_deq.characterise.sensitivity import cell_sensitivities
from analog_deq.characterise.statistics import FAILED, correlations, die_values, outcome, over_corners, over_dies
from analog_deq.netlists.cell import Cell
from analog_deq.resources import shipped

STRONG = 0.3
"""Smallest correlation between two quantities that a datasheet lists."""


@dataclass(frozen=True, slots=True)
class Datasheet:
    """A characterised cell. The frames are those of ``characterise.statistics``, with a ``description`` column.

    ``corners`` are the names of the corners as asked; the frames call the value at the first one typical. ``values``:
    the dies' values, a column per quantity; ``failures``: a row per simulated copy that failed: ``measurement, corner,
    variant, die, status, deck`` (its run folder), ``row`` (of the quantities table, to simulate it again).
    """

    cell: Cell
    simulator: str
    corners: tuple[str, ...]
    rows: pd.DataFrame
    dies: pd.DataFrame
    values: pd.DataFrame
    sensitivity: pd.DataFrame
    correlation: pd.DataFrame
    failures: pd.DataFrame
    curves: pd.DataFrame

    @property
    def die_count(self) -> int:
        """Number of dies simulated."""
        return len(self.values)

    @property
    def first(self) -> str:
        """What the values at the first corner are called: typical, or that corner's name when it is another."""
        return "typical" if self.corners[0] == typical_corner(self.cell).name else self.corners[0]

    @property
    def call(self) -> str:
        """What a command line takes for the cell: the name of a shipped one, else the path of its contract."""
        path = Path(self.cell.source)
        return path.stem if path.parent == shipped("netlists/cells") else str(path)

    def record(self) -> dict[str, Any]:
        """The datasheet as plain values for JSON: facts of the cell and one object per line of each table."""
        contract = self.cell.contract
        return {
            "cell": self.cell.name, "role": self.cell.role, "description": contract.cell.description,
            "source": contract.cell.source, "validity": contract.cell.validity, "sha256": self.cell.sha256,
            "simulator": self.simulator, "corners": list(self.corners),
            "mismatch": contract.mismatch.mode, "dies": self.die_count,
            "quantities": self.rows.to_dict("records"), "over_dies": self.dies.to_dict("records"),
            "sensitivity": self.sensitivity.to_dict("records"), "correlation": self.correlation.to_dict("records"),
            "failures": self.failures.to_dict("records"),
        }  # fmt: skip


def make_datasheet(cell: Cell, tables: Mapping[str, pd.DataFrame], *, simulator: str) -> Datasheet:
    """Datasheet of the tables ``quantities`` and ``curves`` that a campaign made of ``cell``."""
    quantities = tables["quantities"]
    known = {q.id: q for m in measurements_of(cell.role) for q in m.quantities}
    nominal = quantities[quantities["variant"] == NOMINAL]
    rows = over_corners(quantities, {name: q.worse for name, q in known.items()})
    drawn = bool((quantities["variant"] == DIE).any())
    moved = bool((~quantities["variant"].isin([NOMINAL, DIE])).any())
    described = {name: q.description for name, q in known.items()}
    dies = over_dies(quantities) if drawn else pd.DataFrame()
    for frame in (rows, dies):
        if len(frame):
            frame.insert(2, "description", frame["quantity"].map(described))
    related = correlations(quantities) if drawn else pd.DataFrame()
    if len(related):
        related = related[related["r"].abs() >= STRONG].sort_values("r", key=np.abs, ascending=False, kind="stable")
    return Datasheet(
        cell, simulator, tuple(dict.fromkeys(nominal["corner"])), rows, dies,
        die_values(quantities) if drawn else pd.DataFrame(),
        cell_sensitivities(quantities, cell) if moved else pd.DataFrame(), related, _failures(quantities),
        tables["curves"],
    )  # fmt: skip


def _failures(quantities: pd.DataFrame) -> pd.DataFrame:
    copy = ["measurement", "corner", "variant", "die"]
    failed = quantities.assign(row=range(len(quantities)))[quantities["status"].map(outcome) == FAILED]
    return failed.drop_duplicates(copy)[[*copy, "status", "deck", "row"]].reset_index(drop=True)
