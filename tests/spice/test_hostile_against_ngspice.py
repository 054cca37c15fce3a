"""What the hostile corpus does to a bare ngspice, and that neither it nor an init file does it through our driver."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hostile.corpus import ATTACKS, Attack, lay_out

from analog_deq.errors import AnalogDeqError
from analog_deq.netlists.deck import build_deck
from analog_deq.records import Op
from analog_deq.spice.runner import run_deck
from analog_deq.spice.simulator import Simulator

pytestmark = pytest.mark.spice
DECK = "* t\n.include {name}.cir\nV1 a 0 1\nX1 a b cell\nR9 b 0 1\n.control\nop\ntran 1n 10n\nquit 0\n.endc\n.end\n"


def bare(
    simulator: Simulator,
    folder: Path,
    deck: str,
    *,
    arguments: str = "-n",
    scripts: Path | None,
    timeout_s: float = 20.0,
) -> tuple[set[str], str]:
    """(files that appeared below ``folder``, what ngspice said) of a bare run; "timeout" when it did not end."""
    before = set(folder.rglob("*"))
    environment = {**os.environ, "HOME": str(folder), "OMP_THREAD_LIMIT": "1"}
    environment.pop("SPICE_SCRIPTS", None)
    if scripts is not None:
        environment["SPICE_SCRIPTS"] = str(scripts)
    command = f"ulimit -v 2000000; exec {simulator.executable} {arguments} -b {deck}"
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", command], cwd=folder / "cells", env=environment, stdin=subprocess.DEVNULL,
            capture_output=True, timeout=timeout_s,
        )  # fmt: skip
        said = (done.stdout + done.stderr).decode("latin-1")
    except subprocess.TimeoutExpired:
        said = "timeout"
    return {path.name for path in set(folder.rglob("*")) - before}, said


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    path = tmp_path / "empty"
    path.mkdir()
    return path


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: a.name)
def test_bare_ngspice_does_what_the_corpus_says(
    simulator: Simulator, tmp_path: Path, empty: Path, attack: Attack
) -> None:
    cells = lay_out(tmp_path)
    (cells / "deck.cir").write_text(DECK.format(name=attack.name))
    expected = attack.ngspice
    if expected == "runs since 44":
        expected = "runs" if float(simulator.version) >= 44 else "harmless"
    if expected == "never ends":
        assert bare(simulator, tmp_path, "deck.cir", scripts=empty, timeout_s=1.5) == (set(), "timeout")
        return
    harm, _ = bare(simulator, tmp_path, "deck.cir", scripts=empty)
    assert bool(harm) == (expected == "runs")
    if expected == "runs alone":
        assert bare(simulator, tmp_path, f"{attack.name}.cir", scripts=empty)[0] == {"harm"}
    if expected == "runs with code models":
        harm, said = bare(simulator, tmp_path, "deck.cir", scripts=None)
        if "d_process" not in said:
            pytest.skip("this ngspice has no d_process code model")
        assert harm == {"harm"}


@pytest.mark.parametrize(
    "attack", [a for a in ATTACKS if a.ngspice not in {"harmless", "never ends"}], ids=lambda a: a.name
)
def test_past_the_screen_the_driver_still_does_no_harm(simulator: Simulator, tmp_path: Path, attack: Attack) -> None:
    cells = lay_out(tmp_path)
    files = [(path.name, path.read_bytes().decode()) for path in [cells / f"{attack.name}.cir"]]
    files += [(f"parts/{path.name}", path.read_text()) for path in (cells / "parts").iterdir() if path.suffix == ".lib"]
    lines = [f".include {attack.name}.cir", "V1 a 0 1", "X1 a b cell", "R9 b 0 1"]
    deck = build_deck("past the screen", lines, [Op()], save=["v(b)"], files=files)
    runs = tmp_path / "runs"
    runs.mkdir()
    before = set(tmp_path.rglob("*"))
    with contextlib.suppress(AnalogDeqError):  # refused by the second line of defence, or run without harm
        run_deck(deck, simulator=simulator, folder=runs)
    made = set(tmp_path.rglob("*")) - before
    assert all(path.is_relative_to(runs) for path in made)
    assert "harm" not in {path.stem for path in made}


INIT = "shell touch harm\n"


def in_the_folder(folder: Path) -> str:
    (folder / "cells" / ".spiceinit").write_text(f"* init\n{INIT}")
    return ""


def in_the_home(folder: Path) -> str:
    (folder / ".spiceinit").write_text(f"* init\n{INIT}")
    return ""


def in_the_scripts(folder: Path) -> str:
    (folder / "empty" / "spinit").write_text(f"* init\n{INIT}")
    return "-n"


@pytest.mark.parametrize("place", [in_the_folder, in_the_home, in_the_scripts])
def test_init_files_run_bare_and_never_through_the_driver(
    simulator: Simulator,
    tmp_path: Path,
    empty: Path,
    place: Callable[[Path], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cells = lay_out(tmp_path)
    (cells / "deck.cir").write_text("* t\nV1 a 0 1\nR1 a 0 1\n.op\n.end\n")
    arguments = place(tmp_path)
    assert "harm" in bare(simulator, tmp_path, "deck.cir", arguments=arguments, scripts=empty)[0]
    for harm in tmp_path.rglob("harm"):
        harm.unlink()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SPICE_SCRIPTS", str(empty))
    monkeypatch.chdir(cells)
    deck = build_deck(
        "init", ["V1 a 0 1", "R1 a 0 1"], [Op()], save=["v(a)"], files=[(".spiceinit", INIT), ("spinit", INIT)]
    )
    assert run_deck(deck, simulator=simulator, folder=tmp_path).plots[0]["v(a)"].tolist() == [1.0]
    assert not list(tmp_path.rglob("harm"))
