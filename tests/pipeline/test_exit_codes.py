"""Every exit code of the sign-off, seen from the command line: the most severe of what was found decides."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from analog_deq.verify.report_schema import require_report

pytestmark = [pytest.mark.pipeline, pytest.mark.spice]

VERIFY = ("verify", "net.safetensors", "--design", "tiny.toml", "--proxy", "proxy.json")
ROWS = {
    "met": 'id = "net.residual"\nquantity = "residual"\nunit = "%FS"\nmax = 0.01\n',
    "missed": 'id = "net.fixed_point_max"\nquantity = "error"\nunit = "%FS"\nmax = 1e-9\n',
    "too few samples": 'id = "net.yield_mismatch"\nquantity = "yield"\nunit = "%"\nmin = 90\njudge = "yield"\n',
}
"""Limits that the tiny design meets, misses, and can neither show to meet nor to miss."""
WAIVER = 'waiver = { reason = "known", by = "a person", expires = 2999-01-01 }\n'
EXPIRED = WAIVER.replace("2999", "2020")

CASES = [
    # the rows of the sheet, what the command ends with
    (["met"], 0, "pass"),
    (["missed"], 1, "fail"),
    (["too few samples"], 4, "inconclusive"),
    (["met", "too few samples"], 4, "inconclusive"),
    (["missed", "met"], 1, "fail"),  # not the last one
    (["too few samples", "missed"], 1, "fail"),  # a miss outweighs a claim that is not shown
    (["met", "missed", WAIVER], 0, "pass"),
    (["met", "missed", EXPIRED], 1, "fail"),
]


def write_limits(path: Path, rows: list[str]) -> None:
    text = "schema = 1\n"
    for row in rows:
        text += ROWS[row].join(("[[check]]\n", "")) if row in ROWS else row
    path.write_text(text)


@pytest.mark.parametrize(("rows", "code", "verdict"), CASES, ids=range(len(CASES)))
def test_the_most_severe_status_decides(simulated: Path, invoke, rows: list[str], code: int, verdict: str) -> None:
    write_limits(simulated / "own.toml", rows)
    done = invoke(*VERIFY, "--limits", "own.toml", "--out", "signoff", "--json", cwd=simulated)
    assert done.exit_code == code, done.stderr
    result = json.loads(done.stdout)
    assert (result["exit_code"], result["verdict"]) == (code, verdict)
    report = json.loads((simulated / "signoff" / "report.json").read_text())
    require_report(report)
    assert report["verdict"] == verdict
    assert report["checks"] == result["stages"][0]["checks"]


def test_wrong_use_is_2_and_a_missing_tool_3(work: Path, invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = invoke(*VERIFY, "--limits", "nowhere.toml", "--json", cwd=work)
    assert (wrong.exit_code, json.loads(wrong.stdout)["exit_code"]) == (2, 2)
    assert "nowhere.toml: no such file" in wrong.stderr
    monkeypatch.setenv("ANALOG_DEQ_NGSPICE", "/no/such/ngspice")
    missing = invoke(*VERIFY, "--json", cwd=work)
    assert (missing.exit_code, json.loads(missing.stdout)["exit_code"]) == (3, 3)
    assert "apt-get install ngspice" in missing.stderr


def test_an_interrupt_is_130_and_leaves_no_report(work: Path, fake_ngspice) -> None:
    fake_ngspice("touch ../../../started; sleep 60")
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "analog_deq.cli", *VERIFY, "--json"],
        cwd=work, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        give_up = time.monotonic() + 60
        while not (work / "started").exists():
            assert time.monotonic() < give_up, "no simulation started"
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert json.loads(out)["exit_code"] == 130
    assert "run the same command again to resume" in err
    assert list(work.glob("runs/verify/*/report.json")) == []
