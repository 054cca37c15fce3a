"""Characterise one cell: question, campaign, tables, datasheet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analog_deq.characterise.blocks import NOMINAL, library_drawn
from analog_deq.characterise.campaign import Question, characterise
from analog_deq.characterise.corners import full_grid, select_corners, typical_corner
from analog_deq.characterise.measurement import NOT_MODELLED, UNDEFINED
from analog_deq.characterise.registry import measurements_of
from analog_deq.datasheet.html import write_datasheet
from analog_deq.datasheet.sheet import Datasheet, make_datasheet
from analog_deq.errors import EXIT_SIMULATOR, SpecError
from analog_deq.netlists.cell import Cell
from analog_deq.netlists.library import load_cell
from analog_deq.pipeline.inputs import build_or_reuse, copy_out
from analog_deq.provenance import Provenance, package_sha256
from analog_deq.records import OK, Progress
from analog_deq.runs import open_stage
from analog_deq.spice.process import limits_of
from analog_deq.spice.simulator import find_simulator
from analog_deq.tables import COLUMNS, SCHEMA, CalibrationTable, read_table, write_table

TIMEOUT_S = 300.0
STAGE = "characterise"
WORST_CORNERS = 5


@dataclass(frozen=True, slots=True)
class CharacteriseResult:
    """Datasheet of a cell, the files written, counts, and whether a finished run of the same question was taken.

    ``spice`` is the folder of the run folders that the tables name.
    """

    datasheet: Datasheet
    outputs: dict[str, Path]
    summary: dict[str, object]
    reused: bool
    seconds: float
    spice: Path
    exit_code: int = 0

    def record(self) -> dict[str, Any]:
        """The result as plain values for JSON."""
        told = {"outputs": self.outputs, "summary": self.summary, "reused": self.reused, "seconds": self.seconds}
        return {**self.datasheet.record(), **told}


def ask(
    cell: Cell,
    *,
    corners: str = "quick",
    dies: int = 0,
    die: int | None = None,
    measurements: Sequence[str] = (),
    sensitivity: bool = True,
    seed: int = 0,
    runs: Path,
) -> Question:
    """The question of a command line. SpecError for an unknown corner or measurement, or dies that are all alike.

    ``die`` asks for that one die alone. Dies are simulated at the first corner asked for.
    """
    chosen = tuple(select_corners(cell, corners, _recall_worst(cell, runs)))
    if dies and die is not None:
        raise SpecError(f"--dies {dies} --die {die}: give one of them; --die is one die alone, by its number")
    if (dies or die is not None) and not (library_drawn(cell) or cell.contract.mismatch.params):
        mode = cell.contract.mismatch.mode
        raise SpecError(
            f"--dies: {cell.source}: mismatch.mode = {mode!r} and no [mismatch.params]: every die would be the same; "
            "describe the mismatch or leave the dies out"
        )
    numbers = (die,) if die is not None else tuple(range(dies))
    fitting = measurements_of(cell.role, tuple(measurements))
    return Question(cell, chosen, fitting, numbers, chosen[0], sensitivity and die is None, seed)


def characterise_cell(
    cell_name: str,
    *,
    runs: Path,
    out: Path | None = None,
    jobs: int | None = None,
    timeout_s: float = TIMEOUT_S,
    memory_bytes: int | None = None,
    executor: Executor | None = None,
    progress: Progress,
    **asked: Any,
) -> CharacteriseResult:
    """Tables and datasheet of a cell; keyword arguments beyond the listed ones are those of :func:`ask`."""
    cell = load_cell(cell_name)
    question = ask(cell, runs=runs, **asked)
    simulator = find_simulator()
    key = {
        "cell": cell.sha256, "corners": [c.name for c in question.corners], "dies": list(question.dies),
        "measurements": [m.name for m in question.measurements], "sensitivity": question.sensitivity,
        "seed": question.seed, "package": package_sha256(), "ngspice": simulator.version, "solver": simulator.solver,
    }  # fmt: skip
    folder = open_stage(runs, STAGE, key)

    def make(work: Path) -> None:
        result = characterise(
            question, simulator=simulator, root=runs, jobs=jobs, timeout_s=timeout_s, limits=limits_of(memory_bytes),
            executor=executor, progress=progress,
        )  # fmt: skip
        for name, rows in result.tables.items():
            provenance = Provenance(
                schema_name=SCHEMA, schema_version=1, ngspice_version=simulator.version, solver=simulator.solver,
                inputs={"cell": cell.sha256}, seed=question.seed, units=COLUMNS[name],
            )  # fmt: skip
            write_table(CalibrationTable(name, rows, provenance), work / f"{name}.parquet")
            # every curve of 45 corners is 50 MB of text; the Parquet file has them all
            shown = rows[rows["corner"] == question.corners[0].name] if name == "curves" else rows
            shown.to_csv(work / f"{name}.csv", index=False)
        counts = {
            "copies": result.copies, "failed": result.failed, "ngspice_runs": result.runs,
            "runs_from_cache": result.reused,
        }  # fmt: skip
        (work / "summary.json").write_text(json.dumps(counts) + "\n")
        sheet = make_datasheet(cell, result.tables, simulator=f"ngspice {simulator.version} ({simulator.solver})")
        write_datasheet(sheet, work)

    reused, seconds = build_or_reuse(folder, make, progress, STAGE)
    tables = {name: read_table(folder.path / f"{name}.parquet").rows for name in ("quantities", "curves")}
    sheet = make_datasheet(cell, tables, simulator=f"ngspice {simulator.version} ({simulator.solver})")
    if len(question.corners) == len(full_grid(cell)) and question.measurements == measurements_of(cell.role):
        _remember_worst(cell, runs, sheet)
    counts = json.loads((folder.path / "summary.json").read_text())
    target = copy_out(folder.path, out)
    outputs = {"datasheet": target / "datasheet.html", "tables": target}
    failed = _failed_nominal(tables["quantities"])
    return CharacteriseResult(sheet, outputs, counts, reused, seconds, runs / "spice", EXIT_SIMULATOR if failed else 0)


def _failed_nominal(rows: pd.DataFrame) -> bool:
    excused = rows["status"].str.startswith((OK, NOT_MODELLED, UNDEFINED))
    return bool(((rows["variant"] == NOMINAL) & ~excused).any())


def _worst_file(cell: Cell, runs: Path) -> Path:
    return runs / STAGE / f"worst-{cell.sha256[:12]}.json"


def _remember_worst(cell: Cell, runs: Path, sheet: Datasheet) -> None:
    counts = pd.Series([name for name in sheet.rows["worst_corner"] if name]).value_counts()
    names = [str(name) for name in counts.index if name != typical_corner(cell).name][:WORST_CORNERS]
    _worst_file(cell, runs).write_text(json.dumps({"corners": names}) + "\n")


def _recall_worst(cell: Cell, runs: Path) -> list[str]:
    path = _worst_file(cell, runs)
    try:
        names = json.loads(path.read_text())["corners"]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        raise SpecError(f"{path}: not the corners of a full run ({error}); remove it and run --corners full") from error
    return [str(name) for name in names]
