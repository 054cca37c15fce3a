"""Ctrl-C at any time: exit 130, nothing half-made under a final name, no simulator left; the same command resumes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import Finished, checks_of, run_cli, write_design

pytestmark = [pytest.mark.pipeline, pytest.mark.spice]

ARGUMENTS = ("run", "tiny.toml", "--jobs", "2")


def interrupt_when(condition: Callable[[], bool], folder: Path) -> tuple[int, str]:
    """Exit code and stderr of a run that gets a SIGINT as soon as ``condition`` holds."""
    with (folder / "stderr").open("w") as stderr:
        child = subprocess.Popen(
            [sys.executable, "-m", "analog_deq.cli", *ARGUMENTS],
            cwd=folder, stdout=subprocess.DEVNULL, stderr=stderr,
            # a parent in the background has SIGINT ignored, and its children would inherit that
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
        try:
            end = time.monotonic() + 100
            while not condition():
                assert child.poll() is None, "the run ended before it could be interrupted"
                assert time.monotonic() < end
                time.sleep(0.01)
            child.send_signal(signal.SIGINT)
            code = child.wait(timeout=30)
        finally:
            child.kill()
            child.wait()
    return code, (folder / "stderr").read_text()


def processes_in(folder: Path) -> list[str]:
    """Command lines of the processes whose working directory lies below ``folder``."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            if (process / "cwd").readlink().is_relative_to(folder) and int(process.name) != os.getpid():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue  # ended meanwhile
    return found


def finished_simulations(folder: Path) -> list[Path]:
    return [path.parent for path in (folder / "runs" / "spice").glob("[!.]*/outputs.json")]


def test_an_interrupted_run_resumes_to_the_same_report(tiny: Finished, tmp_path: Path, fake_ngspice) -> None:
    write_design(tmp_path)
    fake_ngspice("sleep 0.3")  # the tiny plan's simulations are over in a blink; these can be interrupted

    code, stderr = interrupt_when(lambda: len(finished_simulations(tmp_path)) >= 3, tmp_path)
    assert code == 130, stderr
    assert "Interrupted: " in stderr
    assert "run the same command again" in stderr
    done_before = finished_simulations(tmp_path)
    assert 3 <= len(done_before) < tiny.result["stages"][0]["summary"]["ngspice_runs"]
    assert processes_in(tmp_path) == []
    assert not list((tmp_path / "runs").rglob(".*"))
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["calibrate", "spice"]
    assert list((tmp_path / "runs" / "calibrate").iterdir()) == []

    code, stderr = interrupt_when(lambda: "train W_fb = 0: " in (tmp_path / "stderr").read_text(), tmp_path)
    assert code == 130, stderr
    assert "== fit" in stderr
    (summary,) = (tmp_path / "runs" / "calibrate").glob("*/summary.json")
    assert json.loads(summary.read_text())["runs_from_cache"] == len(done_before)
    assert list((tmp_path / "runs" / "train").iterdir()) == []
    assert not list((tmp_path / "runs").rglob(".*"))
    assert processes_in(tmp_path) == []

    done = run_cli(*ARGUMENTS, cwd=tmp_path)
    assert done.returncode == tiny.returncode, done.stderr
    assert "== calibrate: reused from" in done.stderr
    assert "== fit: reused from" in done.stderr
    assert "== train: reused" not in done.stderr
    assert checks_of(tmp_path) == checks_of(tiny.folder)
