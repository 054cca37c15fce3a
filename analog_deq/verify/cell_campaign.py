"""The cells of a design measured alone, at the corners of the network and under the loads it puts on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analog_deq.characterise.blocks import DIE, NOMINAL, prepare, recorded_block
from analog_deq.characterise.campaign import Question, characterise
from analog_deq.characterise.corners import Corner
from analog_deq.characterise.measurement import NOT_MODELLED
from analog_deq.characterise.registry import measurements_of
from analog_deq.characterise.statistics import FAILED, tidy
from analog_deq.netlists.cell import Cell
from analog_deq.netlists.contract_schema import Condition
from analog_deq.records import OK, Deck
from analog_deq.verify.cell_rows import AMPLIFIER, CellRow
from analog_deq.verify.corners import cell_corner, network_corners
from analog_deq.verify.sheet import SheetRun

DIES = 100
"""Mismatch dies of a cell at each corner: they cost milliseconds."""


def loaded_cells(run: SheetRun) -> dict[str, Cell]:
    """The design's cells by slot, each under the load the network puts on it.

    The op-amp drives R_F, which ends at a virtual ground; C_F ends there, too, and is part of the loop, not of the load
    (the contract's own ``load`` stays). Each output of the driver drives the row that conducts most.
    """
    cells = dict(run.cells.named)
    if run.cells.opamp is not None:
        cells[AMPLIFIER] = with_load(run.cells.opamp, run.design.neuron.r_feedback_ohm)
    heaviest = float(np.max(run.network.one_way.own))
    if heaviest > 0:
        cells["driver"] = with_load(run.cells.driver, 1 / heaviest)
    return cells


def with_load(cell: Cell, ohm: float) -> Cell:
    """The cell with a load resistor to mid-supply at each output where its measurements take one."""
    conditions = {**cell.contract.conditions, "load_r": Condition(typ=ohm, unit="ohm")}
    return replace(cell, contract=cell.contract.model_copy(update={"conditions": conditions}))


@dataclass(frozen=True, slots=True)
class CellTable:
    """Values of the cells: rows of :func:`characterise` with the ``slot`` of the cell.

    ``corners`` maps each corner of the network to that of each cell, by slot.
    """

    rows: pd.DataFrame
    corners: Mapping[str, Mapping[str, Corner]]
    cells: Mapping[str, Cell]
    seed: int

    def of(self, row: CellRow, corner: str, variant: str) -> pd.DataFrame:
        """Rows of one id at a corner of the network, of the nominal cell or of its dies."""
        own = self.corners[corner][row.slot].name
        rows = self.rows
        keep = (rows["slot"] == row.slot) & (rows["measurement"] == row.measurement) & (rows["variant"] == variant)
        return rows[keep & rows["quantity"].isin(row.quantities) & (rows["corner"] == own)]

    def deck(self, row: CellRow, corner: str, where: str) -> Deck | None:
        """The deck that simulated the value which stands for a corner; None when none was simulated.

        Of a spread it is the block with the die farthest from zero.
        """
        found = self.of(row, corner, NOMINAL if row.statistic == "worst" else DIE)
        found = found[(found["at"] == where) & (found["deck"] != "")]
        if found.empty:
            return None
        recorded = found.iloc[int(np.argmax(found["value"].abs().fillna(np.inf).to_numpy()))]
        cell = self.cells[row.slot]
        (measurement,) = measurements_of(cell.role, (row.measurement,))
        block = recorded_block(cell, recorded.to_dict(), measurement, self.corners[corner][row.slot])
        return prepare(cell, block, self.seed).deck


def measure_cells(run: SheetRun, rows: Sequence[CellRow]) -> CellTable:
    """Everything the listed ``rows`` need, in ngspice: nominal at each corner, and mismatch dies for a spread."""
    cells = loaded_cells(run)
    wanted = [row for row in rows if run.listed(row.id) is not None and row.slot in cells]
    corners = network_corners(run.design, run.cells, run.limits.campaign)
    places = {c.name: {slot: cell_corner(cell, c) for slot, cell in cells.items()} for c in corners}
    frames = []
    for slot in dict.fromkeys(row.slot for row in wanted):
        own = [row for row in wanted if row.slot == slot]
        here = tuple(dict.fromkeys(by_slot[slot] for by_slot in places.values()))
        frames += [frame.assign(slot=slot) for frame in _measured(run, cells[slot], here, own)]
    table = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    return CellTable(table, places, cells, run.design.seed)


def _measured(
    run: SheetRun, cell: Cell, corners: tuple[Corner, ...], rows: Sequence[CellRow]
) -> Iterator[pd.DataFrame]:
    bed = run.bed
    for question in _questions(cell, corners, rows, run.design.seed):
        result = characterise(
            question, simulator=bed.simulator, root=bed.root, jobs=bed.jobs, timeout_s=bed.timeout_s,
            limits=bed.limits, executor=bed.executor, progress=run.progress,
        )  # fmt: skip
        yield tidy(result.tables["quantities"])


def _questions(cell: Cell, corners: tuple[Corner, ...], rows: Sequence[CellRow], seed: int) -> Iterator[Question]:
    plain = tuple(dict.fromkeys(row.measurement for row in rows if row.statistic == "worst"))
    spread = tuple(dict.fromkeys(row.measurement for row in rows if row.statistic != "worst"))
    if plain:
        yield Question(cell, corners, measurements_of(cell.role, plain), seed=seed)
    if not spread:
        return
    for corner in corners:  # dies are drawn at one corner of a question
        yield Question(cell, (corner,), measurements_of(cell.role, spread), tuple(range(DIES)), corner, seed=seed)


@dataclass(frozen=True, slots=True)
class CornerValue:
    """What stands for one id at one corner: a value, or why there is none.

    ``where`` says at which condition; ``missing`` is ``not modelled``, ``undefined`` or ``failed`` without a value.
    """

    value: float | None
    where: str = ""
    missing: str = ""
    reason: str = ""


def worst_value(rows: pd.DataFrame, worse: str) -> CornerValue:
    """The worst of the values of one id at one corner. One that failed leaves none; one not modelled is passed over."""
    if rows.empty:
        return CornerValue(None, "", FAILED, "no row")
    bad = rows[~rows["outcome"].isin([OK, NOT_MODELLED])]
    if len(bad):
        first = bad.iloc[0]
        return CornerValue(None, str(first["at"]), str(first["outcome"]), str(first["status"]))
    valid = rows[rows["outcome"] == OK]
    if valid.empty:
        return CornerValue(None, "", NOT_MODELLED, str(rows["status"].iloc[0]))
    values = valid["value"].to_numpy(dtype=float)
    place = {"low": np.argmin(values), "high": np.argmax(values), "magnitude": np.argmax(np.abs(values))}[worse]
    return CornerValue(float(values[place]), str(valid["at"].iloc[int(place)]))
