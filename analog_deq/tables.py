"""Calibration tables: tidy Parquet files with provenance and the unit of every column.

A failed sample stays in its table: its ``status`` says why and its measured values are NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from analog_deq.errors import SchemaError
from analog_deq.provenance import Provenance, require_schema
from analog_deq.records import OK

SCHEMA = "analog_deq.calibration_table"
_KEY = b"analog_deq.provenance"

COLUMNS: dict[str, dict[str, str]] = {
    "transfer": {
        "load": "S", "driver_load": "S", "drive": "V", "v": "V", "s": "V", "zp": "V", "zn": "V",
        "i_vdd": "A", "i_vss": "A",
    },
    "settling": {
        "load": "S", "step": "V", "tolerance": "1", "final": "V", "t_settle": "s", "overshoot": "1",
        "tau": "s", "delay": "s", "fit_rms": "1",
    },
    "noise": {"load": "S", "bias": "V", "output": "", "frequency": "Hz", "density": "V/sqrt(Hz)"},
    "mismatch": {"die": "", "load": "S", "drive": "V", "v": "V", "zp": "V", "zn": "V"},
    "mismatch_dynamic": {"die": "", "load": "S", "tau": "s", "delay": "s", "fit_rms": "1"},
    "conductance": {"die": "", "target": "S", "read": "V", "measured": "S"},
    "synapse": {"g": "S", "v": "V", "current": "A"},
    "synapse_noise": {"g": "S", "frequency": "Hz", "density": "A/sqrt(Hz)"},
    "crossbar": {"r_line": "ohm", "row": "", "column": "", "drive": "V", "current": "A", "g": "S"},
    "supply": {"slot": "", "cell": "", "drive": "V", "i_vdd": "A", "i_vss": "A"},
    "quantities": {
        "quantity": "", "at": "", "value": "see unit", "unit": "", "measurement": "", "corner": "", "process": "",
        "temperature": "degC", "vdd": "V", "vss": "V", "variant": "", "die": "", "block_first": "", "block_last": "",
        "stretch": "1", "bandwidth": "Hz", "deck": "",
    },
    "curves": {"curve": "", "at": "", "corner": "", "x": "see curve", "y": "see curve"},
    "power": {"load": "S", "driver_load": "S", "drive": "V", "zp": "V", "zn": "V", "p_vdd": "W", "p_vss": "W"},
}  # fmt: skip
"""Columns of each table and their units; every table also has a ``status`` column."""

PROXY_TABLES = tuple(name for name in COLUMNS if name not in {"quantities", "curves"})
"""The tables a proxy is fitted to; the others are the datasheet of one cell."""


@dataclass(frozen=True, slots=True)
class CalibrationTable:
    """One table: ``rows`` as measured, and the provenance that travels inside the file."""

    name: str
    rows: pd.DataFrame
    provenance: Provenance

    @property
    def valid(self) -> pd.DataFrame:
        """Rows whose sample is valid."""
        return self.rows[self.rows["status"] == OK].reset_index(drop=True)


def write_table(table: CalibrationTable, path: Path) -> None:
    """Parquet file with provenance in its metadata. SchemaError when columns differ from ``COLUMNS``."""
    expected = [*COLUMNS[table.name], "status"]
    if list(table.rows.columns) != expected:
        raise SchemaError(f"table {table.name}: columns {list(table.rows.columns)}; expected {expected}")
    arrow = pa.Table.from_pandas(table.rows, preserve_index=False)
    metadata = {**(arrow.schema.metadata or {}), _KEY: table.provenance.model_dump_json().encode()}
    pq.write_table(arrow.replace_schema_metadata(metadata), path)


def read_table(path: Path) -> CalibrationTable:
    """Table of a file written by :func:`write_table`.

    SchemaError for a missing or foreign file, an unknown major schema, a missing unit, or wrong columns.
    """
    name = path.stem
    if name not in COLUMNS:
        raise SchemaError(f"{path}: no calibration table is called {name!r}; known: {', '.join(COLUMNS)}")
    try:
        arrow = pq.read_table(path)
    except FileNotFoundError as error:
        raise SchemaError(f"{path}: no such table; run `analog-deq calibrate` first") from error
    except (OSError, pa.ArrowInvalid) as error:
        raise SchemaError(f"{path}: not a readable Parquet file ({error})") from error
    raw = (arrow.schema.metadata or {}).get(_KEY)
    if raw is None:
        raise SchemaError(f"{path}: no provenance inside; it was not written by analog-deq calibrate")
    try:
        provenance = Provenance.model_validate_json(raw)
    except ValidationError as error:
        raise SchemaError(f"{path}: its provenance block is malformed: {error}") from error
    require_schema(provenance.schema_id, f"{SCHEMA}/1", path)
    if provenance.units != COLUMNS[name]:
        raise SchemaError(f"{path}: its units {provenance.units} are not {COLUMNS[name]}")
    if arrow.column_names != [*COLUMNS[name], "status"]:
        raise SchemaError(f"{path}: its columns {arrow.column_names} are not {[*COLUMNS[name], 'status']}")
    return CalibrationTable(name, arrow.to_pandas(), provenance)
