"""Baselines: kept whole or not at all, found by name, refused when altered; and cells held beside each other."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analog_deq.errors import SchemaError, SpecError
from analog_deq.pipeline.baselines import list_baselines, read_baseline, save_baseline
from analog_deq.pipeline.compare import compare, compare_two_corners
from analog_deq.provenance import Provenance
from analog_deq.tables import COLUMNS, SCHEMA, CalibrationTable, write_table
from analog_deq.verify.verdict import Check, VerifyReport

CHECK = Check("net.err", "error", "%", 0.5, None, 1.0, 9, None, "pass", 0.5, "", "error", "each")


@pytest.fixture
def signoff(tmp_path: Path) -> Path:
    folder = tmp_path / "signoff"
    folder.mkdir()
    report = VerifyReport((CHECK,), {"seed": 1, "inputs": {}}, "title", "tiny")
    (folder / "report.json").write_text(json.dumps(report.to_dict()))
    (folder / "samples.csv").write_text("die,trim,image,status,label,predicted\n-1,none,0,ok,1,1\n-1,none,1,ok,2,1\n")
    return folder


def test_a_baseline_is_the_sign_off_it_was_saved_from(signoff: Path, tmp_path: Path) -> None:
    place = tmp_path / "deep" / "baselines"
    kept = save_baseline("tape-out_1.0", signoff, place)
    assert (kept.name, kept.design, kept.verdict, kept.checks) == ("tape-out_1.0", "tiny", "pass", 1)
    assert list_baselines(place) == (kept,)
    assert {path.name for path in place.iterdir()} == {"tape-out_1.0"}, "nothing half-written is left"
    found = compare(kept.folder, signoff, tmp_path)
    assert (found.regressed, found.differs, [row.move for row in found.rows]) == ((), (), ["same"])
    assert [pair.n for pair in found.paired] == [2]
    assert list_baselines(tmp_path / "nowhere") == ()


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "../up", "white space", "-x"])
def test_a_name_is_a_plain_word(name: str, signoff: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="use letters, digits"):
        save_baseline(name, signoff, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_a_taken_name_is_kept_unless_told(signoff: Path, tmp_path: Path) -> None:
    first = save_baseline("x", signoff, tmp_path / "b")
    with pytest.raises(SpecError, match="add --replace"):
        save_baseline("x", signoff, tmp_path / "b")
    (signoff / "samples.csv").unlink()
    second = save_baseline("x", signoff, tmp_path / "b", replace=True)
    assert set(first.files) - set(second.files) == {"samples.csv"}
    assert "samples.csv is missing" in compare(second.folder, signoff, tmp_path).unpaired


def test_an_altered_baseline_is_refused(signoff: Path, tmp_path: Path) -> None:
    kept = save_baseline("x", signoff, tmp_path / "b")
    with pytest.raises(SpecError, match=r"baseline 'y': not in .*; there are: x"):
        read_baseline("y", tmp_path / "b")
    (kept.folder / "report.json").write_text("{}")
    with pytest.raises(SchemaError, match=r"report\.json: not the file that was saved"):
        read_baseline("x", tmp_path / "b")
    (kept.folder / "baseline.json").write_text('{"schema": "analog_deq.baseline/9"}')
    with pytest.raises(SchemaError, match=r"baseline\.json.*upgrade analog-deq"):
        list_baselines(tmp_path / "b")


def test_a_sign_off_that_is_none_leaves_no_baseline(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"schema": "analog_deq.verify_report/99"}')
    with pytest.raises(SchemaError, match=r"report\.json: .*verify_report/99"):
        save_baseline("x", tmp_path, tmp_path / "b")
    assert not (tmp_path / "b").exists()


# ------------------------------------------------------------------ cells


def table(folder: Path, gain: float, *, unit: str = "dB", dies: int = 0, shift: float = 0.0) -> Path:
    rows = [("dc_gain", "", gain, unit, "tt", "nominal", -1), ("dc_gain", "", gain - 9, unit, "ss", "nominal", -1)]
    rows += [("gbw", "1 pF", 5e6, "Hz", "tt", "nominal", -1)]
    draws = np.random.default_rng(2).standard_normal(dies)
    rows += [("dc_gain", "", gain + 0.1 * x + shift, unit, "tt", "die", k) for k, x in enumerate(draws)]
    frame = pd.DataFrame(rows, columns=["quantity", "at", "value", "unit", "corner", "variant", "die"])
    for name in COLUMNS["quantities"]:
        if name not in frame:
            frame[name] = "x" if name in {"measurement", "process", "deck"} else 0
    frame["status"] = "ok"
    frame = frame[[*COLUMNS["quantities"], "status"]]
    provenance = Provenance(
        schema_name=SCHEMA, schema_version=1, inputs={"cell": "c"}, seed=0, units=COLUMNS["quantities"]
    )  # fmt: skip
    folder.mkdir()
    write_table(CalibrationTable("quantities", frame, provenance), folder / "quantities.parquet")
    return folder


def test_two_cells_quantity_by_quantity(tmp_path: Path) -> None:
    a, b = table(tmp_path / "a", 70.0, dies=50), table(tmp_path / "b", 72.0, dies=50)
    found = compare(a, b / "quantities.parquet", tmp_path)
    rows = {(row.id, row.quantity): row for row in found.rows}
    assert rows["dc_gain", "tt"].change == pytest.approx(2.0)
    assert rows["dc_gain", "ss"].b.value == 63.0
    assert rows["gbw 1 pF", "tt"].move == "same"
    mean, sd = rows["dc_gain", "mean over dies, tt"], rows["dc_gain", "sd over dies, tt"]
    assert (mean.beyond, sd.beyond) == (True, False)
    half = mean.a.interval[1] - mean.a.value
    assert half == pytest.approx(2.0096 * sd.a.value / math.sqrt(50), rel=1e-3)  # Student t, 49 degrees of freedom
    assert found.regressed == ()


def test_two_corners_of_one_cell(tmp_path: Path) -> None:
    folder = table(tmp_path / "a", 70.0, dies=5)
    (row,) = compare_two_corners(folder, "tt", "ss", tmp_path).rows
    assert (row.id, row.change) == ("dc_gain", pytest.approx(-9.0))
    with pytest.raises(SpecError, match="--corner sf: not in this table; its corners are tt, ss"):
        compare_two_corners(folder, "tt", "sf", tmp_path)


def test_what_does_not_compare(signoff: Path, tmp_path: Path) -> None:
    a, b = table(tmp_path / "a", 70.0), table(tmp_path / "b", 70.0, unit="1")
    with pytest.raises(SpecError, match="dc_gain: in 'dB' on one side and '1' on the other"):
        compare(a, b, tmp_path)
    with pytest.raises(SpecError, match=r"is a sign-off and .* is not; compare two of a kind"):
        compare(signoff, a, tmp_path)
    with pytest.raises(SchemaError, match=r"neither a sign-off .* nor a cell's name"):
        compare(a, tmp_path / "nothing", tmp_path)
    with pytest.raises(SchemaError, match="run `analog-deq characterise opamp_macro` first"):
        compare("opamp_macro", "opamp_2stage", tmp_path)
