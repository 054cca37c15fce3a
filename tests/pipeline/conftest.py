"""The small design, taken from cells to a verdict once a session; every test of this folder works on copies of it.

``cli`` is a process of its own, as a user starts it. ``invoke`` calls the same command in this process, which saves
the three seconds of imports where many short commands are tried; it also turns warnings into errors.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from harness import EXIT_CODES, Command, Finished, Invoke, run_cli, write_design

from analog_deq.cli import cli as commands


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time: with xdist the workers share the run."""
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, record = base / "tiny", base / "tiny.json"
    with locked(base / "tiny.lock"):
        if not record.is_file():
            folder.mkdir()
            write_design(folder)
            done = run_cli("run", "tiny.toml", "--json", cwd=folder)
            record.write_text(json.dumps([done.returncode, done.stdout, done.stderr]))
    finished = Finished(folder, *json.loads(record.read_text()))
    assert finished.returncode in EXIT_CODES.values(), finished.stderr
    return finished


@pytest.fixture
def work(tiny: Finished, tmp_path: Path) -> Path:
    """A folder with the design, its tables, proxy.json and net.safetensors, and no runs."""
    folder = tmp_path / "work"
    folder.mkdir()
    write_design(folder)
    shutil.copytree(tiny.output("calibrate", "tables"), folder / "tables")
    shutil.copyfile(tiny.output("fit", "proxy"), folder / "proxy.json")
    shutil.copyfile(tiny.output("train", "checkpoint"), folder / "net.safetensors")
    return folder


@pytest.fixture
def simulated(tiny: Finished, work: Path) -> Path:
    """As ``work``, and in runs/ every single simulation of the finished run, but no finished stage."""
    shutil.copytree(tiny.folder / "runs" / "spice", work / "runs" / "spice")
    return work


@pytest.fixture
def cli() -> Command:
    return run_cli


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Invoke:
    def call(*arguments: str, cwd: Path) -> Result:
        monkeypatch.chdir(cwd)
        return CliRunner().invoke(commands, arguments, prog_name="analog-deq")

    return call


@pytest.fixture
def fake_ngspice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """``fake_ngspice(line)``: the real ngspice behind a script that first runs ``line``, in the deck's folder."""
    real = shutil.which(os.environ.get("ANALOG_DEQ_NGSPICE") or "ngspice")

    def make(line: str) -> Path:
        script = tmp_path / f"ngspice-{time.monotonic_ns()}"
        script.write_text(f'#!/bin/sh\nif [ -f deck.cir ]; then {line}; fi\nexec {real} "$@"\n')
        script.chmod(0o755)
        monkeypatch.setenv("ANALOG_DEQ_NGSPICE", str(script))
        return script

    return make
