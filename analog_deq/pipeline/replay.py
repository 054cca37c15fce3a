"""One row of a quantities table, simulated again in a process of its own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from analog_deq.characterise.blocks import Block, PreparedBlock, prepare, recorded_block
from analog_deq.characterise.campaign import NO_RANGE
from analog_deq.characterise.corners import select_corners
from analog_deq.characterise.measurement import WindowTooShortError
from analog_deq.characterise.registry import measurements_of
from analog_deq.errors import SimulationError, SpecError
from analog_deq.netlists.cell import Cell
from analog_deq.netlists.library import load_cell
from analog_deq.pipeline.characterise import TIMEOUT_S
from analog_deq.spice.runner import SimulationRun, run_deck
from analog_deq.spice.simulator import find_simulator
from analog_deq.tables import read_table


def replay(cell_name: str, table: Path, row: int, *, runs: Path, timeout_s: float = TIMEOUT_S) -> dict[str, object]:
    """Row number ``row`` of a ``quantities`` table simulated again in a process of its own; recorded and new value.

    The block the row was measured in is made again from the row alone; a row that failed must fail alike. SpecError
    when there is no such row, it was never simulated, or the cell is another one than the table was measured on.
    """
    cell = load_cell(cell_name)
    loaded = read_table(table)
    if loaded.name != "quantities":
        raise SpecError(f"{table}: holds {loaded.name}; give the quantities.parquet beside it")
    if loaded.provenance.inputs.get("cell") != cell.sha256:
        raise SpecError(f"{table}: measured on another cell than {cell.source}, or on an earlier text of it")
    if not 0 <= row < len(loaded.rows):
        raise SpecError(f"{table}: row {row}: the table has rows 0 to {len(loaded.rows) - 1}")
    recorded = loaded.rows.iloc[row]
    if NO_RANGE in str(recorded["status"]):
        raise SpecError(f"{table}: row {row}: was not simulated ({recorded['status']}); replay a row of what ranges it")
    simulator = find_simulator()
    item = prepare(cell, _block(cell, recorded), int(loaded.provenance.seed or 0))
    try:
        run = run_deck(item.deck, simulator=simulator, folder=runs / "replay", timeout_s=timeout_s)
        folder: Path | None = run.folder
        value, status = _value(item, run, recorded)
    except SimulationError as error:
        folder, value, status = error.folder, math.nan, error.reason
    was = float(recorded["value"])
    # the recorded status of a failure begins with its kind
    same = str(recorded["status"]).endswith(status) and (value == was or (math.isnan(value) and math.isnan(was)))
    return {
        "quantity": recorded["quantity"], "at": recorded["at"], "corner": recorded["corner"],
        "variant": recorded["variant"], "die": int(recorded["die"]), "recorded": was, "replayed": value,
        "unit": recorded["unit"], "recorded_status": recorded["status"], "status": status, "same": same,
        "recorded_by": f"ngspice {loaded.provenance.ngspice_version} ({loaded.provenance.solver})",
        "replayed_by": f"ngspice {simulator.version} ({simulator.solver})",
        "deck": None if folder is None else str(folder / "deck.cir"),
    }  # fmt: skip


def _block(cell: Cell, recorded: pd.Series[Any]) -> Block:
    """The block a row was measured in."""
    (measurement,) = measurements_of(cell.role, (str(recorded["measurement"]),))
    corner = select_corners(cell, str(recorded["corner"]))[0]
    return recorded_block(cell, recorded.to_dict(), measurement, corner)


def _value(item: PreparedBlock, run: SimulationRun, recorded: pd.Series[Any]) -> tuple[float, str]:
    """Value and status of the recorded quantity in a new run of its block."""
    for drawn, copy, plots in item.plots_of(run.plots):
        if (copy.variant, copy.die) == (recorded["variant"], int(recorded["die"])):
            try:
                values = item.block.measurement.values(item.bench, drawn, plots)
            except WindowTooShortError as error:
                return math.nan, str(error)
            named = (str(recorded["quantity"]), str(recorded["at"]))
            found = next((v for v in values if (v.quantity, v.at) == named), None)
            return (math.nan, "not measured") if found is None else (found.value, found.status)
    raise SpecError(f"the variant {recorded['variant']!r} of the row is not one of this cell")
