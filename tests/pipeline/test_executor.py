"""Calibration on a Dask cluster from the command line: Ctrl-C ends it, the same command resumes to equal tables."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from cluster import cluster, living_in, wait_until
from harness import Command, Finished, write_design

pytestmark = [pytest.mark.pipeline, pytest.mark.spice]


def test_ctrl_c_and_resume_on_a_cluster(
    tiny: Finished, tmp_path: Path, cli: Command, fake_ngspice: Callable[[str], Path]
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    write_design(work)
    fake_ngspice("sleep 0.2")  # the tiny plan's simulations are over in a blink; these can be interrupted
    runs = work / "runs" / "spice"
    with cluster(tmp_path / "cluster") as started:
        arguments = ("calibrate", "tiny.toml", "--json", "--executor", started.address)
        with subprocess.Popen(
            [sys.executable, "-m", "analog_deq.cli", *arguments],
            cwd=work, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            # a parent in the background has SIGINT ignored, and its children would inherit that
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        ) as program:  # fmt: skip
            wait_until(lambda: len(list(runs.glob("[!.]*/outputs.json"))) >= 2 or program.poll() is not None)
            program.send_signal(signal.SIGINT)
            stdout, stderr = program.communicate(timeout=20)
        assert program.returncode == 130, stderr
        assert "Traceback" not in stderr
        assert "distributed" not in stderr
        assert json.loads(stdout)["exit_code"] == 130
        wait_until(lambda: living_in(runs) == [], seconds=5)
        wait_until(lambda: not list(runs.glob(".*")), seconds=5)
        kept = len(list(runs.glob("[!.]*/outputs.json")))
        done = cli(*arguments, cwd=work)
    assert done.returncode == 0, done.stderr
    (stage,) = json.loads(done.stdout)["stages"]
    assert 2 <= stage["summary"]["runs_from_cache"] == kept < stage["summary"]["ngspice_runs"]
    assert not list(runs.glob(".*"))
    assert not list(runs.glob("*.failed"))
    tables = sorted(tiny.output("calibrate", "tables").glob("*.parquet"))
    assert len(tables) >= 5
    for table in tables:
        ours = pd.read_parquet(work / stage["outputs"]["tables"] / table.name)
        pd.testing.assert_frame_equal(ours, pd.read_parquet(table), check_exact=True)
