"""Calibration tables on disk: exact round trip, failed rows kept, foreign or edited files refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from helpers import conductance_rows, settling_rows, table

from analog_deq.errors import SchemaError
from analog_deq.records import OK
from analog_deq.tables import COLUMNS, SCHEMA, CalibrationTable, read_table, write_table


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "conductance.parquet"
    write_table(table("conductance", conductance_rows(dies=6)), path)
    return path


def rewritten(path: Path, **provenance: object) -> Path:
    """The same table with another provenance block."""
    write_table(table("conductance", conductance_rows(dies=6), **provenance), path)
    return path


def test_a_table_reads_back_to_the_last_bit(tmp_path):
    original = table("settling", settling_rows())
    write_table(original, tmp_path / "settling.parquet")
    read = read_table(tmp_path / "settling.parquet")
    pd.testing.assert_frame_equal(read.rows, original.rows, check_exact=True)
    assert read.provenance == original.provenance
    assert read.name == "settling"


def test_a_failed_sample_stays_as_a_row_and_is_not_valid(tmp_path):
    rows = conductance_rows(dies=3).assign(status=OK)
    rows.loc[2, "status"] = "convergence: no convergence in 100 iterations"
    rows.loc[2, "measured"] = np.nan
    write_table(table("conductance", rows), tmp_path / "conductance.parquet")
    read = read_table(tmp_path / "conductance.parquet")
    assert len(read.rows) == 12
    assert read.rows["status"][2].startswith("convergence")
    assert np.isnan(read.rows["measured"][2])
    assert len(read.valid) == 11
    assert not read.valid["measured"].isna().any()


def test_wrong_columns_are_not_written(tmp_path):
    good = table("conductance", conductance_rows(dies=3))
    wrong = CalibrationTable("conductance", good.rows.rename(columns={"read": "reed"}), good.provenance)
    with pytest.raises(SchemaError, match="reed"):
        write_table(wrong, tmp_path / "conductance.parquet")
    assert not list(tmp_path.iterdir())


def test_a_foreign_schema_is_refused(written):
    with pytest.raises(SchemaError, match="another kind of file"):
        read_table(rewritten(written, schema_name="analog_deq.proxy"))
    with pytest.raises(SchemaError, match="upgrade analog-deq"):
        read_table(rewritten(written, schema_version=2))


@pytest.mark.parametrize("units", [{**COLUMNS["conductance"], "measured": "mS"}, {"die": "", "target": "S"}, {}])
def test_a_wrong_or_missing_unit_is_refused(written, units):
    with pytest.raises(SchemaError, match="units"):
        read_table(rewritten(written, units=units))


def test_a_dropped_column_is_refused(written):
    arrow = pq.read_table(written)
    pq.write_table(arrow.drop_columns(["read"]), written)
    with pytest.raises(SchemaError, match="columns"):
        read_table(written)


def test_missing_and_malformed_provenance_are_refused(written):
    arrow = pq.read_table(written)
    pq.write_table(arrow.replace_schema_metadata({}), written)
    with pytest.raises(SchemaError, match="no provenance inside"):
        read_table(written)
    pq.write_table(arrow.replace_schema_metadata({b"analog_deq.provenance": b'{"schema_name": "x"}'}), written)
    with pytest.raises(SchemaError, match="malformed"):
        read_table(written)


def test_files_that_are_no_tables(tmp_path):
    with pytest.raises(SchemaError, match="run `analog-deq calibrate` first"):
        read_table(tmp_path / "transfer.parquet")
    (tmp_path / "transfer.parquet").write_text("not parquet")
    with pytest.raises(SchemaError, match="not a readable Parquet file"):
        read_table(tmp_path / "transfer.parquet")
    with pytest.raises(SchemaError, match="no calibration table is called 'other'"):
        read_table(tmp_path / "other.parquet")


def test_the_file_says_what_it_is_to_other_programs(written):
    text = pq.read_table(written).schema.metadata[b"analog_deq.provenance"].decode()
    assert f'"schema_name":"{SCHEMA}"' in text
    assert '"units":{' in text
