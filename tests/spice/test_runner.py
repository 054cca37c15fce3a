"""Running real decks: plots, cache, parallel runs, interruption."""

from __future__ import annotations

import doctest
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analog_deq.errors import SimulationError, SimulationTimeoutError, SimulatorNotFoundError
from analog_deq.netlists.deck import build_deck
from analog_deq.records import Ac, Alter, Command, Dc, Deck, Op, Progress, Tran
from analog_deq.spice.doctor import diagnose
from analog_deq.spice.execution import simulate_all
from analog_deq.spice.runner import SimulationRun, run_cached, run_deck
from analog_deq.spice.simulator import ENVIRONMENT_VARIABLE, Simulator, find_simulator

pytestmark = pytest.mark.spice

DIVIDER = ["V1 in 0 1.0 AC 1", "R1 in out 1e3", "R2 out 0 1e3"]


def divider(volts: float = 1.0) -> Deck:
    return build_deck("divider", DIVIDER, [Alter((("V1", volts),)), Op()], save=["v(out)"])


FOREVER = Deck("* forever\nR1 a 0 1\n.control\nlet i = 1\nwhile i\nlet i = 1\nend\n.endc\n.end\n", ())
SINGULAR = build_deck("loop", ["V1 out 0 1", "V2 out 0 2"], [Op()], save=["v(out)"])


def entries(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_every_analysis_comes_back_in_order(simulator: Simulator, tmp_path: Path) -> None:
    analyses: list[Command] = [
        Tran(1e-8, 1e-6, 1e-8),
        Op(),
        Alter((("V1", 0.5),)),
        Op(),
        Dc("V1", -1.0, 1.0, 0.1),
        Ac(10, 1.0, 1e3),
    ]
    deck = build_deck("divider", DIVIDER, analyses, save=["v(out)", "i(V1)"])
    run = run_deck(deck, simulator=simulator, folder=tmp_path)
    assert [p.name for p in run.plots] == [p.name for p in deck.plots]
    assert run.plots[1]["v(out)"].tolist() == [0.5]
    assert run.plots[2]["v(out)"].tolist() == [0.25]
    np.testing.assert_allclose(run.plots[3]["v(out)"], np.linspace(-0.5, 0.5, 21), atol=1e-12)
    np.testing.assert_allclose(run.plots[4]["v(out)"], 0.5 + 0j, rtol=1e-12)
    assert not run.stepping
    assert not run.reused
    assert entries(run.folder) == ["command.txt", "deck.cir", "ngspice.log", "out.raw"]
    assert run.folder.parent == tmp_path


def test_klu_and_sparse_agree(simulator: Simulator, tmp_path: Path) -> None:
    if not simulator.klu:
        pytest.skip("this ngspice has no KLU")
    deck = build_deck("divider", DIVIDER, [Op()], save=["v(out)"], options={"klu": True})
    run = run_deck(deck, simulator=simulator, folder=tmp_path)
    assert "Using KLU" in (run.folder / "ngspice.log").read_text()
    assert run.plots[0]["v(out)"].tolist() == pytest.approx([0.5], rel=1e-12)


def test_klu_is_refused_where_it_is_not_built_in(simulator: Simulator, tmp_path: Path) -> None:
    deck = build_deck("divider", DIVIDER, [Op()], save=["v(out)"], options={"klu": True})
    with pytest.raises(SimulationError, match="KLU"):
        run_deck(deck, simulator=replace(simulator, klu=False), folder=tmp_path)


def test_a_deck_of_cards_needs_no_end_mark(simulator: Simulator, tmp_path: Path) -> None:
    text = "* cards\nV1 a 0 1\nR1 a 0 1e3\n.save v(a)\n.op\n.end\n"
    run = run_deck(Deck(text, (divider().plots[0],)), simulator=simulator, folder=tmp_path)
    assert run.plots[0]["v(a)"].tolist() == [1.0]


def test_included_files_lie_beside_the_deck(simulator: Simulator, tmp_path: Path) -> None:
    cell = ("cells/half.cir", ".subckt half a b\nR1 a b 1e3\nR2 b 0 1e3\n.ends\n")
    circuit = [".include cells/half.cir", "V1 in 0 1", "X1 in out half"]
    deck = build_deck("included", circuit, [Op()], save=["v(out)"], files=[cell])
    assert run_deck(deck, simulator=simulator, folder=tmp_path).plots[0]["v(out)"].tolist() == [0.5]
    run_cached(deck, simulator=simulator, root=tmp_path, stage="s")
    assert run_cached(deck, simulator=simulator, root=tmp_path, stage="s").reused


def test_the_recorded_command_replays_the_run(simulator: Simulator, tmp_path: Path) -> None:
    run = run_deck(divider(), simulator=simulator, folder=tmp_path)
    before = (run.folder / "out.raw").read_bytes()
    (run.folder / "out.raw").unlink()
    command = (run.folder / "command.txt").read_text()
    path = f"{simulator.executable.parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(command, shell=True, cwd=run.folder, env={"PATH": path}, check=True, capture_output=True)
    assert (run.folder / "out.raw").read_bytes()[-16:] == before[-16:]


def test_start_up_files_are_not_run(simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (".spiceinit", "spinit"):
        (tmp_path / name).write_text(f"* start\nshell touch {tmp_path}/harm\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SPICE_SCRIPTS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    run_deck(divider(), simulator=simulator, folder=tmp_path / "runs")
    assert not (tmp_path / "harm").exists()


# The cache


def cached(simulator: Simulator, root: Path, deck: Deck | None = None) -> SimulationRun:
    return run_cached(deck or divider(), simulator=simulator, root=root, stage="s")


def test_a_finished_run_is_reused(simulator: Simulator, tmp_path: Path) -> None:
    first, second = cached(simulator, tmp_path), cached(simulator, tmp_path)
    assert (first.reused, second.reused) == (False, True)
    assert first.folder == second.folder
    assert second.plots[0].data.tobytes() == first.plots[0].data.tobytes()
    assert second.wall_s == first.wall_s
    assert entries(first.folder) == [
        "command.txt", "deck.cir", "inputs.json", "ngspice.log", "out.raw", "outputs.json"
    ]  # fmt: skip
    assert entries(tmp_path / "s") == [first.folder.name]
    assert json.loads((first.folder / "inputs.json").read_text())["deck_sha256"] == divider().sha256


def test_another_deck_version_or_solver_is_another_folder(simulator: Simulator, tmp_path: Path) -> None:
    folders = {
        cached(simulator, tmp_path).folder,
        cached(simulator, tmp_path, divider(2.0)).folder,
        cached(replace(simulator, version="0"), tmp_path).folder,
        cached(replace(simulator, klu=not simulator.klu), tmp_path).folder,
    }
    assert len(folders) == 4


@pytest.mark.parametrize("damage", ["truncated", "bit", "deck", "log", "record", "no raw", "no record"])
def test_a_damaged_run_is_simulated_again(simulator: Simulator, tmp_path: Path, damage: str) -> None:
    folder = cached(simulator, tmp_path).folder
    raw = folder / "out.raw"
    content = raw.read_bytes()
    match damage:
        case "truncated":
            raw.write_bytes(content[:-4])
        case "bit":
            raw.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
        case "deck":
            (folder / "deck.cir").write_text("* other\n.end\n")
        case "log":
            (folder / "ngspice.log").write_text("Error: edited\n")
        case "record":
            (folder / "outputs.json").write_text("[]")
        case "no raw":
            raw.unlink()
        case "no record":
            (folder / "outputs.json").unlink()
    again = cached(simulator, tmp_path)
    assert not again.reused
    assert again.plots[0]["v(out)"].tolist() == [0.5]
    assert cached(simulator, tmp_path).reused
    assert entries(tmp_path / "s") == [folder.name]


def test_a_failed_run_leaves_its_log_and_is_never_reused(simulator: Simulator, tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(SimulationError) as caught:
            cached(simulator, tmp_path, SINGULAR)
        folder = caught.value.folder
        assert folder is not None
        assert folder.name.endswith(".failed")
        assert "singular" in (folder / "ngspice.log").read_text()
        assert (folder / "deck.cir").read_text() == SINGULAR.text
        assert str(folder) in str(caught.value)
        assert entries(tmp_path / "s") == [folder.name]


def test_concurrent_runs_of_one_deck_agree(simulator: Simulator, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda _: cached(simulator, tmp_path), range(8)))
    assert {r.plots[0].data.tobytes() for r in runs} == {runs[0].plots[0].data.tobytes()}
    assert entries(tmp_path / "s") == [runs[0].folder.name]


# Many decks


class Counter(Progress):
    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []
        self.total = 0

    def start(self, label: str, total: int) -> None:
        self.total = total

    def advance(self, steps: int = 1, failed: int = 0) -> None:
        self.seen.append((steps, failed))


def test_outcomes_come_in_input_order_with_failures_in_place(simulator: Simulator, tmp_path: Path) -> None:
    decks = [divider(1.0), SINGULAR, divider(2.0), divider(1.0), FOREVER]
    progress = Counter()
    outcomes = simulate_all(
        decks, simulator=simulator, root=tmp_path, stage="s", jobs=2, timeout_s=0.5, progress=progress
    )
    assert [o.run.plots[0]["v(out)"].tolist() if o.run else None for o in outcomes] == [[0.5], None, [1.0], [0.5], None]
    assert [o.status.split(":")[0] for o in outcomes] == ["ok", "convergence", "ok", "ok", "timeout"]
    assert isinstance(outcomes[4].error, SimulationTimeoutError)
    assert (progress.total, sum(s for s, _ in progress.seen), sum(f for _, f in progress.seen)) == (5, 5, 2)


def test_any_executor_runs_the_same_function(simulator: Simulator, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        outcomes = simulate_all([divider()], simulator=simulator, root=tmp_path, stage="s", executor=pool)
        assert pool.submit(int, "1").result() == 1  # a pool that was handed in stays open
    assert outcomes[0].run is not None
    assert simulate_all([], simulator=simulator, root=tmp_path, stage="s") == []


# Interruption

SCRIPT = """
import signal, sys
from pathlib import Path
from analog_deq.records import Deck
from analog_deq.spice.execution import simulate_all
from analog_deq.spice.runner import run_cached
from analog_deq.spice.simulator import find_simulator
signal.signal(signal.SIGINT, signal.default_int_handler)
text = Path(sys.argv[2]).read_text()
decks = [Deck(text.replace("forever", f"forever {k}"), ()) for k in range(4)]
where = dict(simulator=find_simulator(), root=Path(sys.argv[1]), stage="s")
if sys.argv[3] == "one":
    run_cached(decks[0], **where)
else:
    simulate_all(decks, jobs=2, **where)
"""


def living_in(folder: Path) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                cwd = str((entry / "cwd").readlink())
            except OSError:
                continue
            if cwd.startswith(str(folder)):
                found.append(entry.name)
    return found


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="looks for the children in /proc")
@pytest.mark.parametrize("mode", ["one", "all"])
def test_ctrl_c_kills_the_simulators_and_leaves_nothing(simulator: Simulator, tmp_path: Path, mode: str) -> None:
    (tmp_path / "deck.cir").write_text(FOREVER.text)
    root = tmp_path / "runs"
    command = [sys.executable, "-c", SCRIPT, str(root), str(tmp_path / "deck.cir"), mode]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as program:
        deadline = time.monotonic() + 60
        while len(living_in(root)) < (1 if mode == "one" else 2):
            assert program.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        program.send_signal(signal.SIGINT)
        _, errors = program.communicate(timeout=30)
    assert b"KeyboardInterrupt" in errors
    assert program.returncode == -signal.SIGINT
    assert living_in(root) == []
    assert entries(root / "s") == []


def test_a_time_limit_kills_the_whole_group(simulator: Simulator, tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(SimulationTimeoutError, match=r"limit of 0\.3 s"):
        run_deck(FOREVER, simulator=simulator, folder=tmp_path, timeout_s=0.3)
    assert time.monotonic() - started < 10
    assert living_in(tmp_path) == []


# Finding ngspice


def test_the_environment_variable_wins_and_is_not_second_guessed(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path / "absent"))
    with pytest.raises(SimulatorNotFoundError, match="sudo apt-get install ngspice"):
        find_simulator()
    assert find_simulator(str(simulator.executable)) == simulator
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(simulator.executable))
    assert find_simulator() == simulator
    true = shutil.which("true")
    with pytest.raises(SimulatorNotFoundError, match="does not name an ngspice version"):
        find_simulator(true)


def test_the_doctor_measures_the_rc(simulator: Simulator) -> None:
    diagnosis = diagnose()
    assert diagnosis.ok, diagnosis.problems
    assert diagnosis.ngspice_version == simulator.version
    assert diagnosis.rc_measured_s == pytest.approx(1e-6, rel=1e-4)


def test_the_doctor_lists_a_missing_ngspice() -> None:
    diagnosis = diagnose("/no/such/ngspice")
    assert not diagnosis.ok
    assert "sudo apt-get install" in diagnosis.problems[-1]
    assert diagnosis.rc_measured_s is None


@pytest.mark.parametrize(
    "module",
    ["provenance", "runs", "spice.checks", "spice.rawfile", "spice.runner", "spice.simulator"],
)
def test_docstring_examples_run(module: str) -> None:
    result = doctest.testmod(importlib.import_module(f"analog_deq.{module}"), optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0
