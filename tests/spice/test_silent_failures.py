"""Every way ngspice is known to end with 0, or with a well-formed file, and a wrong answer: each is refused.

The cases are in failure_cases.py: by the driver at run time, or, where no run can show it, by the screen that every
cell's netlist passes first. Beside them what the driver accepts, and closed forms it is held to.
"""

from __future__ import annotations

import math
import runpy
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from failure_cases import CASES, Case, run_case

from analog_deq.netlists.deck import build_deck
from analog_deq.records import Noise, Op, Plot, Tran
from analog_deq.spice.doctor import measure_rc_settling_s
from analog_deq.spice.runner import run_deck
from analog_deq.spice.simulator import Simulator

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.spice

K_BOLTZMANN = 1.380649e-23
KELVIN = 300.15  # the 27 degrees Celsius that build_deck writes
TRAN = Tran(1e-8, 1e-5, 1e-8)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_each_is_caught(simulator: Simulator, tmp_path: Path, case: Case) -> None:
    run_case(case, simulator, tmp_path)


def test_the_page_of_failures_is_what_they_say_now(simulator: Simulator) -> None:
    tool = runpy.run_path(str(ROOT / "tools" / "failure_catalogue.py"))
    written = tool["TARGET"].read_text("utf-8")
    if f"ngspice {simulator.version} ({simulator.solver})" not in written:
        pytest.skip("docs/failures.md was written with another ngspice")
    assert tool["page"](simulator) == written, "run tools/failure_catalogue.py"


# Guarded by the way simulations are run


def test_print_rounds_and_the_raw_file_does_not(simulator: Simulator, tmp_path: Path) -> None:
    deck = build_deck("case", ["V1 out 0 1.2345678901234567"], [Op()], save=["v(out)"])
    run = run_deck(deck, simulator=simulator, folder=tmp_path)
    assert run.plots[0]["v(out)"][0] == 1.2345678901234567
    (tmp_path / "deck.cir").write_text(deck.text.replace("write out.raw", "print v(out)"))
    command = [str(simulator.executable), "-n", "-b", "deck.cir"]
    said = subprocess.run(command, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, timeout=30).stdout
    assert b"1.234568e+00" in said


def test_a_broken_code_model_is_not_loaded(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As where ngspice and its code models come from two installations.
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "broken.cm").write_bytes(b"no shared object")
    (scripts / "spinit").write_text(f"* spinit\ncodemodel {scripts}/broken.cm\n")
    monkeypatch.setenv("SPICE_SCRIPTS", str(scripts))
    deck = build_deck("case", ["V1 out 0 1"], [Op()], save=["v(out)"])
    (tmp_path / "deck.cir").write_text(deck.text)
    command = [str(simulator.executable), "-n", "-b", "deck.cir"]
    bare = subprocess.run(command, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
    assert b"broken.cm" in bare.stdout + bare.stderr
    run = run_deck(deck, simulator=simulator, folder=tmp_path)
    assert "broken.cm" not in (run.folder / "ngspice.log").read_text()


def test_runs_never_share_a_folder(simulator: Simulator, tmp_path: Path) -> None:
    decks = [build_deck("case", [f"V1 out 0 {k}.0", "R1 out 0 1e3"], [TRAN], save=["v(out)"]) for k in range(12)]
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda deck: run_deck(deck, simulator=simulator, folder=tmp_path), decks))
    assert [float(run.plots[0]["v(out)"][-1]) for run in runs] == list(range(12))
    assert len(list(tmp_path.glob("run-*"))) == 12


# Stepping: found by searching random circuits for each message of ngspice 46

RING = [
    "Vdd vdd 0 5",
    *[
        line
        for i in range(5)
        for line in (
            f"Mp{i} n{i} n{(i - 1) % 5} vdd vdd pm w=10u l=1u",
            f"Mn{i} n{i} n{(i - 1) % 5} 0 0 nm w=5u l=1u",
        )
    ],
    "R1 n0 out 1e6",
    "R2 out 0 1e6",
    ".model nm nmos vto=0.7 kp=100u lambda=0.01",
    ".model pm pmos vto=-0.7 kp=40u lambda=0.01",
]
TANH = [
    "B0 0 n0 i=1e-3*tanh(1000*(0.591*v(n1)-0.508*v(n0)))",
    "B1 0 n1 i=1e-3*tanh(100*(-0.216*v(n4)+0.696*v(n2)))",
    "B2 0 n2 i=1e-3*tanh(1000*(-0.029*v(n0)-0.174*v(n1)))",
    "B3 0 n3 i=1e-3*tanh(100*(-0.757*v(n2)+0.693*v(n4)))",
    "B4 0 n4 i=1e-3*tanh(1000*(-0.833*v(n0)-0.354*v(n3)))",
    "Vdd vdd 0 5", "R0 n0 0 1e3", "R1 n1 0 1e4", "R2 n2 0 1e3", "R3 n3 vdd 1e3", "R4 n4 0 1e3",
]  # fmt: skip


def test_completed_gmin_stepping_is_accepted_and_flagged(simulator: Simulator, tmp_path: Path) -> None:
    deck = build_deck("ring", RING, [Op()], save=[f"v(n{i})" for i in range(5)])
    run = run_deck(deck, simulator=simulator, folder=tmp_path)
    assert run.stepping
    volts = run.plots[0].data[0, :5]
    assert np.ptp(volts) < 0.1  # near the balanced point of a ring of equal inverters, one of them loaded
    assert 2 < volts[0] < 3


def test_a_later_kind_of_stepping_that_completed_solved_the_equations(simulator: Simulator, tmp_path: Path) -> None:
    deck = build_deck("tanh", TANH, [Op()], save=[f"v(n{i})" for i in range(5)])
    run = run_deck(deck, simulator=simulator, folder=tmp_path)
    log = (run.folder / "ngspice.log").read_text()
    if simulator.version == "46":
        assert "stepping failed" in log
        assert run.stepping
    v = np.array([run.plots[0][f"v(n{i})"][0] for i in range(5)])
    drive = [
        math.tanh(1000 * (0.591 * v[1] - 0.508 * v[0])),
        math.tanh(100 * (-0.216 * v[4] + 0.696 * v[2])),
        math.tanh(1000 * (-0.029 * v[0] - 0.174 * v[1])),
        math.tanh(100 * (-0.757 * v[2] + 0.693 * v[4])),
        math.tanh(1000 * (-0.833 * v[0] - 0.354 * v[3])),
    ]
    current = 1e-3 * np.array(drive) - (v - [0, 0, 0, 5, 0]) / [1e3, 1e4, 1e3, 1e3, 1e3]
    assert np.max(np.abs(current)) < 1e-3 * 1e-3  # Kirchhoff within reltol of the sources


# Physics: closed forms


@pytest.mark.parametrize("settled_to", [math.exp(-1), 1e-2, 1e-3])
def test_rc_settles_in_minus_rc_ln_tol(simulator: Simulator, settled_to: float) -> None:
    assert measure_rc_settling_s(simulator, settled_to) == pytest.approx(-1e-6 * math.log(settled_to), rel=1e-3)


def noise_density(simulator: Simulator, folder: Path, capacitor: str, per_decade: int, stop_hz: float) -> Plot:
    lines = ["V1 in 0 0 AC 1", "R1 in out 1e3", capacitor]
    deck = build_deck("noise", lines, [Noise("v(out)", "V1", per_decade, 1.0, stop_hz)])
    return run_deck(deck, simulator=simulator, folder=folder).plots[0]


def test_resistor_noise_density_is_the_root_of_4ktr(simulator: Simulator, tmp_path: Path) -> None:
    plot = noise_density(simulator, tmp_path, "C1 out 0 1e-15", 5, 1e3)
    np.testing.assert_allclose(plot["onoise_spectrum"], math.sqrt(4 * K_BOLTZMANN * KELVIN * 1e3), rtol=1e-4)


def test_integrated_noise_of_an_rc_is_the_root_of_kt_over_c(simulator: Simulator, tmp_path: Path) -> None:
    plot = noise_density(simulator, tmp_path, "C1 out 0 1e-9", 50, 1e10)
    total_v = math.sqrt(np.trapezoid(plot["onoise_spectrum"] ** 2, plot.sweep))
    assert total_v == pytest.approx(math.sqrt(K_BOLTZMANN * KELVIN / 1e-9), rel=2e-3)
