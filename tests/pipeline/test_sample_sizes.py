"""What verify says about its samples before it simulates, and dies that stop once the yield is decided."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.pipeline

LIMITS = """\
schema = 1
[campaign]
stop_early = true
[[check]]
id = "net.yield_mismatch"
quantity = "Share of dies that meet the accuracy limit after their trim"
unit = "%"
min = 60
judge = "yield"
"""
ASKED = ("verify", "net.safetensors", "--design", "tiny.toml", "--proxy", "proxy.json")


def test_a_dry_run_simulates_nothing_and_says_what_claims_need(work: Path, invoke, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "")  # no ngspice either
    few = invoke(*ASKED, "--dry-run", "--json", cwd=work)
    content = json.loads(few.stdout)
    assert few.exit_code == content["exit_code"] == 4
    found = {need["id"]: need for need in content["needs"]}
    assert (found["net.yield_mismatch"]["needed"], found["net.yield_mismatch"]["has"]) == (29, 3)
    assert not found["net.yield_mismatch"]["enough"]
    assert sum(kind["simulations"] for kind in content["kinds"]) > 100
    assert not (work / "runs").exists()
    text = invoke(*ASKED, "--dry-run", "--dies", "29", cwd=work).stdout
    assert "29 dies without a fail at the best; this run has 29" in " ".join(text.split())


@pytest.mark.spice
def test_dies_stop_once_the_yield_is_decided_and_the_report_says_so(simulated: Path, invoke) -> None:
    (simulated / "stop.toml").write_text(LIMITS)
    done = invoke(*ASKED, "--dies", "20", "--limits", "stop.toml", "--out", "out", "--json", cwd=simulated)
    report = json.loads((simulated / "out" / "report.json").read_text())
    (row,) = [check for check in report["checks"] if check["id"] == "net.yield_mismatch"]
    assert row["n"] < 20
    assert f"of 20 planned dies, {row['n'] - round(row['n'] * row['value'] / 100)} failing" in row["detail"]
    assert row["status"] in {"pass", "fail"}
    assert done.exit_code == (0 if row["status"] == "pass" else 1)
    assert f"{row['n']} of 20 planned mismatch dies" in report["summary"]["simulated"]
    assert "needs" in done.stderr
