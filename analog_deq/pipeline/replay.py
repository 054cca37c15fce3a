"""One row of a quantities table, simulated again in a process of its own."""

from __future__ import annotations

import math
from pathlib import Path

from analog_deq.characterise.blocks import DIE, NOMINAL, Block, prepare, sensitivity_variants
from analog_deq.characterise.corners import select_corners
from analog_deq.characterise.registry import measurements_of
from analog_deq.errors import SpecError
from analog_deq.netlists.library import load_cell
from analog_deq.pipeline.characterise import TIMEOUT_S
from analog_deq.spice.runner import run_deck
from analog_deq.spice.simulator import find_simulator
from analog_deq.tables import read_table


def replay(cell_name: str, table: Path, row: int, *, runs: Path, timeout_s: float = TIMEOUT_S) -> dict[str, object]:
    """Row number ``row`` of a ``quantities`` table simulated again in a process of its own; recorded and new value.

    The block the row was measured in is made again from the row alone. SpecError when there is no such row or the
    cell is another one than the table was measured on.
    """
    cell = load_cell(cell_name)
    loaded = read_table(table)
    if loaded.provenance.inputs.get("cell") != cell.sha256:
        raise SpecError(f"{table}: measured on another cell than {cell.source}, or on an earlier text of it")
    if not 0 <= row < len(loaded.rows):
        raise SpecError(f"--replay {table}:{row}: the table has rows 0 to {len(loaded.rows) - 1}")
    recorded = loaded.rows.iloc[row]
    (measurement,) = measurements_of(cell.role, (str(recorded["measurement"]),))
    corner = select_corners(cell, str(recorded["corner"]))[0]
    first, last = int(recorded["block_first"]), int(recorded["block_last"])
    if recorded["variant"] == NOMINAL:
        variants = [(NOMINAL, -1)]
    elif recorded["variant"] == DIE:
        variants = [(DIE, k) for k in range(first, last + 1)]
    else:
        variants = sensitivity_variants(cell.at(corner.process))[first : last + 1]
    block = Block(measurement, corner, tuple(variants), float(recorded["bandwidth"]), float(recorded["stretch"]), first)
    item = prepare(cell, block, int(loaded.provenance.seed or 0))
    run = run_deck(item.deck, simulator=find_simulator(), folder=runs / "replay", timeout_s=timeout_s)
    for drawn, copy, plots in item.plots_of(run.plots):
        if (copy.variant, copy.die) == (recorded["variant"], int(recorded["die"])):
            values = measurement.values(item.bench, drawn, plots)
            found = next(v for v in values if (v.quantity, v.at) == (recorded["quantity"], recorded["at"]))
            recorded_value = float(recorded["value"])
            same = found.status == recorded["status"] and (
                found.value == recorded_value or (math.isnan(found.value) and math.isnan(recorded_value))
            )
            return {
                "quantity": found.quantity, "at": found.at, "corner": corner.name, "variant": copy.variant,
                "die": copy.die, "recorded": recorded_value, "replayed": found.value, "unit": recorded["unit"],
                "status": found.status, "same": same, "deck": str(run.folder / "deck.cir"),
            }  # fmt: skip
    raise SpecError(f"--replay {table}:{row}: its variant {recorded['variant']!r} is not one of this cell")
