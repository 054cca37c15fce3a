"""A wheel built from the checkout works outside it, with the shipped cells, designs and limits inside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ("netlists/cells", "calibration/plans", "calibration/reference", "data/designs", "data/limits")

pytestmark = pytest.mark.pipeline


def run(arguments: list[str], **options) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=300, **options)
    assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(["-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)])
    (built,) = folder.glob("analog_deq-*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    run(["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(folder), str(wheel)])
    return folder


def outside(site: Path, tmp_path: Path, *arguments: str) -> str:
    """Stdout of Python run in an empty folder with the installed wheel first on its path."""
    return run(list(arguments), cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(site)}).stdout


def test_wheel_holds_every_shipped_file(wheel: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("analog_deq/_shipped/")}
    files = [path.relative_to(ROOT) for kind in SHIPPED for path in (ROOT / kind).rglob("*") if path.is_file()]
    assert {f"analog_deq/_shipped/{path.as_posix()}" for path in files if path.suffix != ".pyc"} <= held


def test_help_runs_outside_the_checkout(site: Path, tmp_path: Path) -> None:
    text = outside(site, tmp_path, "-m", "analog_deq.cli", "--help")
    assert "analog-deq run digits --limits default" in text


def test_entry_point_runs(site: Path, tmp_path: Path) -> None:
    script = site / "bin" / "analog-deq"
    assert "Usage: analog-deq calibrate" in outside(site, tmp_path, str(script), "calibrate", "--help")


def test_shipped_files_are_found_in_the_installation(site: Path, tmp_path: Path) -> None:
    code = (
        "import json, analog_deq; from analog_deq.resources import shipped; "
        f"found = {{kind: [str(shipped(kind)), len(list(shipped(kind).rglob('*.*')))] for kind in {SHIPPED!r}}}; "
        "print(json.dumps([analog_deq.__file__, found]))"
    )
    package, found = json.loads(outside(site, tmp_path, "-c", code))
    assert Path(package).is_relative_to(site)
    for kind, (folder, files) in found.items():
        assert Path(folder).is_relative_to(site), kind
        assert files > 0, kind
    assert any((Path(found["netlists/cells"][0])).glob("*.cir"))


def test_shipped_design_is_found_by_name(site: Path, tmp_path: Path) -> None:
    code = "from analog_deq.command import find_input; print(find_input('digits', 'data/designs'))"
    assert Path(outside(site, tmp_path, "-c", code).strip()).is_relative_to(site)
