"""Two characterised cells, or two corners of one, quantity by quantity."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from analog_deq.characterise.blocks import NOMINAL
from analog_deq.characterise.statistics import outcome, over_dies, tidy
from analog_deq.errors import SchemaError, SpecError
from analog_deq.netlists.library import list_cells, load_cell
from analog_deq.pipeline.characterise import STAGE
from analog_deq.tables import CalibrationTable, read_table
from analog_deq.verify.delta import Delta, Side

TABLE = "quantities.parquet"
_Key = tuple[str, str, str]


def find_table(source: str, runs: Path) -> CalibrationTable:
    """The quantities table of a path, of the folder it lies in, or of a cell's last finished characterisation.

    SchemaError when there is none.
    """
    path = Path(source)
    if path.suffix == ".parquet" or (path / TABLE).is_file():
        found = read_table(path if path.suffix == ".parquet" else path / TABLE)
        if found.name != "quantities":
            raise SchemaError(f"{source}: holds {found.name}; give the {TABLE} beside it")
        return found
    if path.suffix != ".toml" and source not in list_cells():
        raise SchemaError(
            f"{source}: neither a sign-off (no report.json), nor a characterised cell (no {TABLE}), nor a cell's name"
        )
    cell = load_cell(source)
    newest = sorted((runs / STAGE).glob(f"*/{TABLE}"), key=lambda p: p.stat().st_mtime, reverse=True)
    tables = (read_table(p) for p in newest)
    last = next((table for table in tables if table.provenance.inputs.get("cell") == cell.sha256), None)
    if last is None:
        raise SchemaError(f"{source}: not characterised in {runs}; run `analog-deq characterise {source}` first")
    return last


def compare_cells(a: CalibrationTable, b: CalibrationTable) -> tuple[Delta, ...]:
    """Nominal values at the corners both have, then means and spreads over the dies of each, with 95 % intervals.

    SpecError when a unit differs, or when the two share no quantity at any corner.
    """
    sides = [dict(_entries(table.rows)) for table in (a, b)]
    return _rows(sides[0], sides[1])


def compare_cell_corners(table: CalibrationTable, a: str, b: str) -> tuple[Delta, ...]:
    """The nominal values at two corners of one table. SpecError, naming those there are, for another corner."""
    known = list(dict.fromkeys(table.rows["corner"]))
    for name in (a, b):
        if name not in known:
            raise SpecError(f"--corner {name}: not in this table; its corners are {', '.join(known)}")
    sides = []
    for name in (a, b):
        rows = table.rows[(table.rows["corner"] == name) & (table.rows["variant"] == NOMINAL)]
        sides.append({(key[0], key[1], ""): entry for key, entry in _entries(rows)})
    return _rows(sides[0], sides[1])


def _rows(a: Mapping[_Key, tuple[str, Side]], b: Mapping[_Key, tuple[str, Side]]) -> tuple[Delta, ...]:
    rows = []
    for key in (key for key in a if key in b):
        (unit, before), (other, after) = a[key], b[key]
        name, at, where = key
        label = f"{name} {at}".strip()
        if unit != other:
            raise SpecError(f"{label}: in {unit!r} on one side and {other!r} on the other; they do not compare")
        rows.append(Delta(label, where, unit, before, after))
    if not rows:
        raise SpecError("the two have no quantity at a corner in common; characterise both at the same corners")
    return tuple(rows)


def _entries(rows: pd.DataFrame) -> Iterator[tuple[_Key, tuple[str, Side]]]:
    table = tidy(rows)
    for row in table[table["variant"] == NOMINAL].to_dict("records"):
        side = Side(_number(row["value"]), n=1, status=outcome(row["status"]))
        yield (row["quantity"], row["at"], row["corner"]), (row["unit"], side)
    for row in over_dies(rows).to_dict("records"):
        for what in ("mean", "sd"):
            value, low, high = (_number(row[name]) for name in (what, f"{what}_low", f"{what}_high"))
            if value is not None:
                interval = None if low is None or high is None else (low, high)
                side = Side(value, n=int(row["n"]), interval=interval, status=outcome(row["status"]))
                place = f"{what} over dies, {row['corner']}"
                yield (row["quantity"], row["at"], place), (row["unit"], side)


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
