"""``cell.*`` and ``syn.*``: what each cell of the design does at every corner, as its own datasheet measures it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from analog_deq.characterise.blocks import DIE, NOMINAL
from analog_deq.characterise.measurement import NOT_MODELLED, Quantity
from analog_deq.characterise.statistics import FAILED
from analog_deq.records import OK
from analog_deq.units import engineering
from analog_deq.verify.cell_campaign import DIES, CellTable, CornerValue, measure_cells, worst_value
from analog_deq.verify.cell_rows import CELL_ROWS, SYNAPSE_ROWS, CellRow
from analog_deq.verify.cell_spread import Spread, spreads
from analog_deq.verify.corners import worst_of
from analog_deq.verify.found import Found
from analog_deq.verify.sheet import SheetRun
from analog_deq.verify.signoff import Measurement
from analog_deq.verify.verdict import Worst

PERCENT = 100.0


@dataclass(frozen=True, slots=True)
class CellChecks:
    """The rows of some cells, measured together; ``table`` names the CSV file of all values."""

    rows: tuple[CellRow, ...]
    table: str

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(row.id for row in self.rows)

    def measure(self, run: SheetRun) -> Found:
        measured = measure_cells(run, self.rows)
        listed = [row for row in self.rows if run.listed(row.id) is not None]
        found, decks = [], {}
        for row in listed:
            measurement, where = _measurement(run, row, measured)
            deck = None if measurement.worst is None else measured.deck(row, measurement.worst.corner, where)
            if deck is not None and measurement.worst is not None:
                decks[row.id] = deck
                measurement = replace(measurement, worst=replace(measurement.worst, deck=row.id))
            found.append(measurement)
        table = measured.rows
        failed = int((table["outcome"] == FAILED).sum()) if len(table) else 0
        tables = {self.table: table} if len(table) else {}
        return Found(tuple(found), tables, simulated=len(table), failed=failed, decks=decks)


CELLS = CellChecks(CELL_ROWS, "cells")
SYNAPSES = CellChecks(SYNAPSE_ROWS, "synapses")


def _measurement(run: SheetRun, row: CellRow, measured: CellTable) -> tuple[Measurement, str]:
    """One id over all corners, and the condition of its worst value as the table has it."""
    if row.slot not in measured.cells:
        (taken,) = {slot for slot in run.cells.named if slot == "integrator"}
        why = f"not modelled: the design has no {row.slot}; a cell of role {run.cells.named[taken].role!r} integrates"
        unit = row.declared(row.slot).unit
        return Measurement(row.id, None, unit, 0, detail=why, unjudged="not_modelled"), ""
    cell = measured.cells[row.slot]
    quantity = row.declared(cell.role)
    if row.statistic == "worst":
        values = {name: worst_value(measured.of(row, name, NOMINAL), quantity.worse) for name in measured.corners}
        return _nominal(row, quantity, cell.name, values)
    top = run.design.crossbar.g_max_siemens
    found = {name: spreads(measured.of(row, name, DIE), top) for name in measured.corners}
    return _over_dies(row, quantity, cell.name, found, top)


def _nominal(row: CellRow, quantity: Quantity, cell: str, values: Mapping[str, CornerValue]) -> tuple[Measurement, str]:
    if all(v.missing == NOT_MODELLED for v in values.values()):
        reason = next(iter(values.values())).reason
        return Measurement(row.id, None, quantity.unit, len(values), detail=reason, unjudged="not_modelled"), ""
    by_corner = {name: v.value for name, v in values.items()}
    name, _ = worst_of(by_corner, quantity.worse)
    lost = {name: v for name, v in values.items() if v.value is None}
    name = next(iter(lost), name)  # one that gives no value is the worst there is
    told = values[name]
    where = f" at {told.where}" if told.where else ""
    detail = f"{quantity.description}{where}"
    detail += f"; {name}: {told.reason}" if told.value is None else ""
    worst = Worst(f"{cell}, {name}{where}", corner=name)
    first = next(iter(by_corner.values()))
    n, unit = len(values), quantity.unit
    return Measurement(row.id, first, unit, n, None, worst, detail, len(lost), by_corner=by_corner), told.where


def _over_dies(
    row: CellRow, quantity: Quantity, cell: str, found: Mapping[str, Sequence[Spread]], top: float
) -> tuple[Measurement, str]:
    """One id over the dies of all corners: the condition with the largest spread stands for a corner."""
    unit, scale = ("%", PERCENT / top) if row.statistic == "sd" else (quantity.unit, 1.0)

    def value(spread: Spread) -> float:
        return scale * spread.sd if row.statistic == "sd" else spread.bound

    every = [spread for part in found.values() for spread in part]
    if every and not any(spread.modelled for spread in every):
        return Measurement(row.id, None, unit, len(every), detail=every[0].status, unjudged="not_modelled"), ""
    lost = {name: next((s.status for s in part if s.status != OK), "no row") for name, part in found.items()
            if not part or any(s.status != OK for s in part)}  # fmt: skip
    chosen = {name: max(part, key=value) for name, part in found.items() if name not in lost}
    by_corner = {name: value(chosen[name]) if name in chosen else None for name in found}
    tried = sum(s.dies for s in every)
    failed = sum(s.dies - s.n for s in every)
    if not chosen:
        why = next(iter(lost.values()))
        return Measurement(row.id, None, unit, tried, detail=why, failed_samples=failed, by_corner=by_corner), ""
    name = worst_of(by_corner, "high")[0]
    spread = chosen[name]
    where = f" at {spread.at}" if spread.at else ""
    shown = "% of g_max" if row.statistic == "sd" else unit
    low, high = (engineering(scale * end, shown, 3) for end in spread.sd_interval)
    told = f"{quantity.description}{where}; {DIES} dies a corner; {name}: sd {low} to {high} (chi-square, 95 %)"
    if row.statistic == "bound":
        ends = " to ".join(engineering(end, unit, 3) for end in spread.mean_interval)
        told += f", mean {ends}; {spread.basis}"
    told += "".join(f"; {corner}: {why}" for corner, why in lost.items())
    first, interval = next(iter(found)), None
    if row.statistic == "sd" and first in chosen:
        ends_of = chosen[first].sd_interval
        interval = (scale * ends_of[0], scale * ends_of[1])
    worst = Worst(f"{cell}, {name}{where}", corner=name)
    value_there = by_corner[first]
    return Measurement(
        row.id, value_there, unit, tried, interval, worst, told, failed, by_corner=by_corner
    ), spread.at  # fmt: skip
