"""Every file of a sign-off is written whole, says the same thing, and reads back."""

from __future__ import annotations

import json
from dataclasses import astuple
from datetime import date
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from analog_deq.verify.outputs import OutputPaths, junit_text, markdown_text, write_outputs
from analog_deq.verify.report.figures import ReportFigures
from analog_deq.verify.signoff import Limits, Measurement, VerifyReport, Worst, judge

TODAY = date(2026, 11, 28)
LIMITS = Limits.model_validate(
    {"schema": 1, "check": [
        {"id": "net.good", "quantity": "good", "unit": "%FS", "max": 0.2},
        {"id": "net.bad", "quantity": "bad", "unit": "%FS", "max": 0.2},
        {"id": "net.unsure", "quantity": "unsure", "unit": "%", "min": 90, "judge": "yield"},
        {"id": "net.warned", "quantity": "warned", "unit": "", "max": 1, "severity": "warn"},
        {"id": "net.waived", "quantity": "waived", "unit": "", "max": 1,
         "waiver": {"reason": "known", "by": "A. Engineer", "expires": date(2027, 3, 31)}},
        {"id": "net.absent", "quantity": "absent", "unit": "s", "severity": "info"},
    ]}
)  # fmt: skip
WORST = Worst("mismatch", 23, None, "decks/d.cir", "analog-deq replay decks/d.cir")


@pytest.fixture
def report() -> VerifyReport:
    measurements = [
        Measurement("net.good", 0.1 + 1e-14, "%FS", 200),
        Measurement("net.bad", float("nan"), "%FS", 200, None, WORST, "ngspice said \x00<timestep too small>"),
        Measurement("net.unsure", 100.0, "%", 12),
        Measurement("net.warned", 2.0, "", 1),
        Measurement("net.waived", 2.0, "", 1),
    ]
    return VerifyReport(judge(measurements, LIMITS, TODAY), {"seed": 1}, "Sign-off", "digits")


def write(report: VerifyReport, folder: Path) -> OutputPaths:
    samples = pd.DataFrame({"die": [0, 1], "z": [1 / 3, np.nan], "status": ["ok", "timeout"]})
    return write_outputs(report, ReportFigures(), samples, samples.iloc[1:], folder)


def test_seven_files_and_nothing_else(report: VerifyReport, tmp_path: Path) -> None:
    paths = write(report, tmp_path / "new" / "folder")
    assert sorted(p.name for p in (tmp_path / "new" / "folder").iterdir()) == sorted(p.name for p in astuple(paths))
    assert "FAIL" in paths.report_html.read_text()


def test_json_reads_back_without_nan_and_stable(report: VerifyReport, tmp_path: Path) -> None:
    paths = write(report, tmp_path)
    data = json.loads(paths.report_json.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert data["verdict"] == "fail"
    assert data["checks"][0]["value"] == 0.1
    assert data["checks"][1]["value"] is None
    assert VerifyReport.from_dict(data).verdict == report.verdict
    before = [path.read_bytes() for path in astuple(paths)]
    assert [path.read_bytes() for path in astuple(write(report, tmp_path))] == before


def test_csv_keeps_failed_rows(report: VerifyReport, tmp_path: Path) -> None:
    paths = write(report, tmp_path)
    assert paths.samples_csv.read_text() == "die,z,status\n0,0.333333333,ok\n1,nan,timeout\n"
    assert paths.failures_csv.read_text() == "die,z,status\n1,nan,timeout\n"


def test_nothing_is_written_when_a_part_cannot_be_made(report: VerifyReport, tmp_path: Path) -> None:
    broken = VerifyReport(report.checks, {"when": object()}, "t", "d")
    with pytest.raises(ValueError, match="provenance"):
        write(broken, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_junit_counts_and_messages(report: VerifyReport) -> None:
    suite = ElementTree.fromstring(junit_text(report).split("\n", 1)[1])
    assert {k: suite.get(k) for k in ("tests", "failures", "errors", "skipped")} == {
        "tests": "6", "failures": "1", "errors": "0", "skipped": "4",
    }  # fmt: skip
    cases = {case.get("name"): case for case in suite}
    failure = cases["bad"].find("failure")
    assert failure is not None
    assert "the measured value is nan" in str(failure.get("message"))
    assert failure.text == "worst: mismatch, die 23, deck decks/d.cir\nreplay: analog-deq replay decks/d.cir"
    messages = {name: case.find("skipped") for name, case in cases.items()}
    assert str(messages["unsure"].get("message")).startswith("inconclusive: ")  # type: ignore[union-attr]
    assert "29 in all are needed" in str(messages["unsure"].get("message"))  # type: ignore[union-attr]
    assert str(messages["warned"].get("message")).startswith("fail (does not decide)")  # type: ignore[union-attr]
    assert "waived: known (A. Engineer, until 2027-03-31)" in str(messages["waived"].get("message"))  # type: ignore[union-attr]
    assert messages["good"] is None


def test_markdown_has_verdict_rows_and_replay(report: VerifyReport) -> None:
    text = markdown_text(report)
    assert text.startswith("# FAIL: Sign-off\n")
    assert "| net.good | pass | 0.1 %FS | ≤ 0.2 %FS | - | 200 | +0.1 %FS |" in text
    assert "| net.waived | FAIL (waived) |" in text
    assert "    replay: analog-deq replay decks/d.cir" in text
