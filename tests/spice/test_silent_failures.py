"""One deck for every way ngspice is known to end with 0, or with a well-formed file, and a wrong answer.

Each is either refused by the driver at run time, or, where no run can show it, by the screen that every cell's
netlist passes first. The pairs of tests marked "a control" show that the same deck without the fault is accepted.
"""

from __future__ import annotations

import math
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from analog_deq.errors import (
    ConvergenceError,
    MissingPlotError,
    NetlistError,
    SimulationError,
    SimulationTimeoutError,
)
from analog_deq.netlists.deck import SENTINEL, build_deck
from analog_deq.netlists.screen import screen_netlist
from analog_deq.records import Alter, Command, Dc, Deck, ExpectedPlot, Noise, Op, Plot, Tran
from analog_deq.spice.doctor import measure_rc_settling_s
from analog_deq.spice.process import Limits
from analog_deq.spice.runner import run_deck
from analog_deq.spice.simulator import Simulator

pytestmark = pytest.mark.spice

K_BOLTZMANN = 1.380649e-23
KELVIN = 300.15  # the 27 degrees Celsius that build_deck writes
TRAN = Tran(1e-8, 1e-5, 1e-8)


class Bench:
    """Decks in, plots out, each in a folder of its own."""

    def __init__(self, simulator: Simulator, folder: Path) -> None:
        self.simulator, self.folder = simulator, folder

    def run(self, deck: Deck, **options: object) -> tuple[Plot, ...]:
        return run_deck(deck, simulator=self.simulator, folder=self.folder, **options).plots  # type: ignore[arg-type]

    def circuit(self, *lines: str, commands: tuple[Command, ...] = (Op(),), save: str = "v(out)") -> tuple[Plot, ...]:
        return self.run(build_deck("case", lines, commands, save=save.split()))

    def control(self, *commands: str, plots: tuple[ExpectedPlot, ...] = ()) -> tuple[Plot, ...]:
        """A divider and hand-written control lines, ended as build_deck ends them."""
        body = ["* case", "V1 in 0 PWL(0 0 1e-9 1)", "R1 in out 1e3", "C1 out 0 1e-9", ".control", *commands]
        text = "\n".join([*body, f"echo {SENTINEL}", "quit 0", ".endc", ".end", ""])
        return self.run(Deck(text, plots), timeout_s=10.0)

    def exit_code(self, deck: Deck) -> int:
        """What ngspice itself says of a deck: the reason this file exists."""
        folder = self.folder / "bare"
        folder.mkdir()
        (folder / "deck.cir").write_text(deck.text)
        command = [str(self.simulator.executable), "-n", "-b", "-r", "out.raw", "deck.cir"]
        return subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=30).returncode


@pytest.fixture
def bench(simulator: Simulator, tmp_path: Path) -> Bench:
    return Bench(simulator, tmp_path)


def refused_by_screen(line: str, match: str) -> None:
    """A cell holding ``line`` is refused, naming file and line, and quoting it."""
    with pytest.raises(NetlistError, match=match) as caught:
        screen_netlist(f".subckt cell in out\nRok in out 1e3\n{line}\n.ends\n", "cell.cir")
    assert "cell.cir:3" in str(caught.value)
    assert line.split()[0].lower() in str(caught.value).lower()


# Elements


def test_resistor_without_a_value(bench: Bench) -> None:
    with pytest.raises(SimulationError, match=r"r1 in out|resistance to"):
        bench.circuit("V1 in 0 1", "R1 in out", "R2 out 0 1e3")
    refused_by_screen("R1 in out", "value|short")


def test_resistor_of_zero(bench: Bench) -> None:
    refused_by_screen("R1 in out 0", "resistance")
    refused_by_screen("R1 in out -5", "resistance")
    if float(bench.simulator.version.split(".")[0]) >= 44:  # ngspice 39 says nothing: there the screen is the guard
        with pytest.raises(SimulationError, match="too small"):
            bench.circuit("V1 in 0 1", "R1 in out 0", "R2 out 0 1e3")


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(("V1 in 0 1", "R1 in 0 1e3", "C1 in out 1e-9", "C2 out 0 1e-9"), id="floating node"),
        pytest.param(("I1 0 out 1e-6", "C1 out 0 1e-9"), id="floating current source"),
        pytest.param(("V1 in a 1", "R1 in out 1e3", "R2 out a 1e3"), id="no ground"),
        pytest.param(("V1 out 0 1", "V2 out 0 2"), id="voltage loop"),
    ],
)
def test_circuit_without_a_solution(bench: Bench, lines: tuple[str, ...]) -> None:
    with pytest.raises(ConvergenceError, match="singular"):
        bench.circuit(*lines)


def test_exponential_overflow_is_clamped_to_1e99(bench: Bench) -> None:
    with pytest.raises(SimulationError, match=r"v\(out\) = 1\.0.*e\+99 .* bound"):
        bench.circuit("V1 in 0 1", "R1 in 0 1e3", "B1 out 0 v=exp(1000*v(in))")


@pytest.mark.parametrize("command", [Op(), Dc("V1", -1.0, 1.0, 0.5)])
def test_division_by_zero_is_a_large_number(bench: Bench, command: Command) -> None:
    with pytest.raises(SimulationError, match=r"v\(out\) = .* bound"):
        bench.circuit("V1 in 0 0", "R1 in 0 1e3", "B1 out 0 v=1/v(in)", commands=(command,))


def test_capital_m_is_milli(bench: Bench) -> None:
    # No run can tell: the simulator is certain of its milliohm.
    plots = bench.circuit("V1 in 0 1", "R1 in out 1M", "R2 out 0 1e-3")
    assert plots[0]["v(out)"].tolist() == pytest.approx([0.5])
    refused_by_screen("R1 in out 1M", "milli")
    refused_by_screen("C1 in out 1F", "femto")


def test_nan_value(bench: Bench) -> None:
    with pytest.raises(SimulationError, match="nan"):
        bench.circuit("V1 in 0 1", "R1 in out nan", "R2 out 0 1e3")
    refused_by_screen("V1 in out nan", "NaN")
    with pytest.raises(NetlistError, match="nan"):
        bench.circuit("V1 out 0 1", "R1 out 0 1e3", commands=(Alter((("V1", math.nan),)), Op()))


def test_undefined_parameter(bench: Bench) -> None:
    with pytest.raises(SimulationError, match=r"netlist line|Undefined"):
        bench.circuit("V1 in 0 1", "R1 in out {absent}", "R2 out 0 1e3")


# Deck text


def test_an_element_as_the_first_line_is_eaten(bench: Bench) -> None:
    text = "V1 out 0 1\nR1 out 0 1e3\n.save v(out)\n.op\n.end\n"
    deck = Deck(text, (ExpectedPlot("Operating Point", 1),))
    assert bench.exit_code(deck) == 0
    with pytest.raises(NetlistError, match="title"):
        bench.run(deck)


def test_a_missing_end_card(bench: Bench) -> None:
    deck = Deck("* case\nV1 out 0 1\nR1 out 0 1e3\n.save v(out)\n.op\n", (ExpectedPlot("Operating Point", 1),))
    assert bench.exit_code(deck) == 0
    with pytest.raises(NetlistError, match=r"\.end"):
        bench.run(deck)


def test_measure_cards_are_not_evaluated(bench: Bench) -> None:
    text = "* case\nV1 out 0 PWL(0 0 1e-6 1)\nR1 out 0 1e3\n.tran 1e-8 1e-6\n.measure tran peak max v(out)\n.end\n"
    deck = Deck(text, (ExpectedPlot("Transient Analysis", None, 1e-6),))
    assert bench.exit_code(deck) == 0
    with pytest.raises(SimulationError, match=r"\.measure"):
        bench.run(deck)
    refused_by_screen(".measure tran peak max v(out)", "card")


def test_analysis_cards_run_in_an_order_of_their_own(bench: Bench) -> None:
    text = "* case\nV1 out 0 PWL(0 0 1e-6 1)\nR1 out 0 1e3\n.save v(out)\n.tran 1e-8 1e-6\n.op\n.end\n"
    as_written = (ExpectedPlot("Transient Analysis", None, 1e-6), ExpectedPlot("Operating Point", 1))
    with pytest.raises(MissingPlotError, match="expected"):
        bench.run(Deck(text, as_written))
    assert [p.name for p in bench.run(Deck(text, as_written[::-1]))] == ["Operating Point", "Transient Analysis"]
    written = bench.circuit("V1 out 0 PWL(0 0 1e-6 1)", "R1 out 0 1e3", commands=(TRAN, Op()))  # a control
    assert [p.name for p in written] == ["Transient Analysis", "Operating Point"]


@pytest.mark.parametrize("line", ["*#shell touch harm", "* #shell touch harm", ".control", "*ng_script"])
def test_comments_and_cards_that_run_commands(bench: Bench, line: str) -> None:
    refused_by_screen(line, "cell.cir:3")
    body = f".subckt cell a\n{line}\nR1 a 0 1e3\n.ends\n"
    deck = build_deck("case", [".include cell.cir", "V1 out 0 1"], [Op()], save=["v(out)"], files=[("cell.cir", body)])
    with pytest.raises(NetlistError, match="run as a command"):
        bench.run(deck)
    assert not list(bench.folder.rglob("harm"))


# Control blocks: every one of these ends with exit code 0


def test_alter_of_an_unknown_source(bench: Bench) -> None:
    deck = build_deck("case", ["V1 out 0 1", "R1 out 0 1e3"], [Alter((("Vx", 2.0),)), Op()], save=["v(out)"])
    assert bench.exit_code(deck) == 0
    with pytest.raises(SimulationError, match="no such device"):
        bench.run(deck)


FAILS_AT_5_US = ("V1 in 0 1", "R1 in 0 1e3", "B1 out 0 v = time > 5e-6 ? sqrt(-v(in)) : 0")


def test_a_transient_that_stops_early_writes_a_whole_file(bench: Bench) -> None:
    deck = build_deck("case", FAILS_AT_5_US, [TRAN], save=["v(out)"])
    assert bench.exit_code(deck) == 0
    with pytest.raises(ConvergenceError, match="Timestep too small") as caught:
        bench.run(deck)
    assert "sqrt" in caught.value.log_tail
    assert caught.value.folder is not None
    assert (caught.value.folder / "out.raw").stat().st_size > 1000


def test_a_transient_card_that_stops_early(bench: Bench) -> None:
    text = "\n".join(["* case", *FAILS_AT_5_US, ".save v(out)", ".tran 1e-8 1e-5", ".end", ""])
    with pytest.raises(SimulationError):
        bench.run(Deck(text, (ExpectedPlot("Transient Analysis", None, 1e-5),)))


def test_a_truncated_plot_is_seen_by_its_end_time_alone(bench: Bench) -> None:
    promise = (ExpectedPlot("Transient Analysis", None, 1e-5),)
    lines = ["set filetype=binary", "save v(out)", "tran 1e-8 {} 0 1e-8", "write out.raw"]
    bench.control(*[x.format("1e-5") for x in lines], plots=promise)  # a control
    with pytest.raises(MissingPlotError, match=r"stops at 4\.9.*expected 1e-05|stops at 5e-06"):
        bench.control(*[x.format("5e-6") for x in lines], plots=promise)


def test_a_missing_plot_among_others(bench: Bench) -> None:
    promise = (ExpectedPlot("Operating Point", 1),) * 3
    lines = ["set filetype=binary", "set appendwrite", *["op", "write out.raw"] * 2]
    with pytest.raises(MissingPlotError, match="expected"):
        bench.control(*lines, plots=promise)


def test_a_deck_that_never_reaches_its_end_mark(bench: Bench) -> None:
    promise = (ExpectedPlot("Operating Point", 1),)
    lines = ["set filetype=binary", "op", "write out.raw"]
    bench.control(*lines, plots=promise)  # a control
    with pytest.raises(SimulationError, match="end mark"):
        bench.control(*lines, "quit 0", plots=promise)


def test_a_failing_quit(bench: Bench) -> None:
    with pytest.raises(SimulationError, match="exit code 3"):
        bench.control(f"echo {SENTINEL}", "quit 3")


def test_an_endless_loop(bench: Bench) -> None:
    text = "* case\nR1 a 0 1\n.control\nlet i = 1\nwhile i\nlet i = 1\nend\n.endc\n.end\n"
    with pytest.raises(SimulationTimeoutError, match=r"0\.3 s"):
        bench.run(Deck(text, ()), timeout_s=0.3)


def test_a_raw_file_that_cannot_be_written(bench: Bench) -> None:
    with pytest.raises(SimulationError):
        bench.control("set filetype=binary", "op", "write absent/out.raw", plots=(ExpectedPlot("Operating Point", 1),))


@pytest.mark.parametrize("name", ["v(typo)", "v(in,out)", "@r1[typo]"])
def test_a_saved_name_that_does_not_exist_is_dropped(bench: Bench, name: str) -> None:
    lines = ("V1 in 0 1", "R1 in out 1e3", "R2 out 0 1e3")
    deck = build_deck("case", lines, [TRAN], save=["v(out)", name])
    assert bench.exit_code(deck) == 0
    with pytest.raises(SimulationError, match=re.escape(name) + "|rror"):
        bench.run(deck)


CHAIN = ["V1 n0 0 1", *[f"R{i} n{i} n{i + 1} 1" for i in range(1500)], "Rl n1500 0 1"]
CHAIN_SAVES = [f"v(n{i})" for i in range(1500)]


def test_a_save_line_of_more_than_a_thousand_names(bench: Bench) -> None:
    deck = build_deck("case", CHAIN, [Op()], save=CHAIN_SAVES)
    assert len(bench.run(deck)[0].columns(CHAIN_SAVES)[0]) == 1500  # a control: build_deck breaks the line
    lines = deck.text.splitlines()
    rest = [x for x in lines if not x.startswith("save ")]
    rest.insert(rest.index("set appendwrite") + 1, "save " + " ".join(CHAIN_SAVES))
    with pytest.raises(SimulationError, match="too many args"):
        bench.run(Deck("\n".join(rest) + "\n", deck.plots))


def test_noise_under_klu(bench: Bench) -> None:
    if not bench.simulator.klu:
        pytest.skip("this ngspice has no KLU")
    lines = ("V1 in 0 0 AC 1", "R1 in out 1e3", "C1 out 0 1e-9")
    noise = Noise("v(out)", "V1", 10, 1.0, 1e6)
    with pytest.raises(NetlistError, match="KLU"):
        build_deck("case", lines, [noise], options={"klu": True})
    deck = build_deck("case", lines, [noise])
    by_hand = Deck(deck.text.replace(".control", ".options klu\n.control"), deck.plots)
    with pytest.raises(SimulationError, match="KLU"):
        bench.run(by_hand)


# Processes


def test_runs_never_share_a_folder(bench: Bench) -> None:
    decks = [build_deck("case", [f"V1 out 0 {k}.0", "R1 out 0 1e3"], [TRAN], save=["v(out)"]) for k in range(12)]
    with ThreadPoolExecutor(4) as pool:
        plots = list(pool.map(bench.run, decks))
    assert [float(p[0]["v(out)"][-1]) for p in plots] == list(range(12))
    assert len(list(bench.folder.glob("run-*"))) == 12


def test_a_file_beyond_its_limit_kills_the_run(bench: Bench) -> None:
    deck = build_deck("case", ["V1 out 0 1", "R1 out 0 1e3"], [TRAN], save=["v(out)"])
    bench.run(deck, limits=Limits(file_bytes=1 << 20))  # a control
    with pytest.raises(SimulationError, match="SIGXFSZ; a file may not exceed 4096 bytes"):
        bench.run(deck, limits=Limits(file_bytes=4096))


def test_memory_beyond_its_limit_ends_the_run(bench: Bench) -> None:
    deck = build_deck("case", CHAIN, [Op()], save=CHAIN_SAVES)
    with pytest.raises(SimulationError):
        bench.run(deck, limits=Limits(memory_bytes=12 << 20))


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
    if float(simulator.version) < 44:  # its log calls the failed gmin step a failure and does not say what came of it
        with pytest.raises(SimulationError, match="gmin step failed"):
            run_deck(deck, simulator=simulator, folder=tmp_path)
        return
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


def noise_density(bench: Bench, capacitor: str, per_decade: int, stop_hz: float) -> Plot:
    lines = ["V1 in 0 0 AC 1", "R1 in out 1e3", capacitor]
    deck = build_deck("noise", lines, [Noise("v(out)", "V1", per_decade, 1.0, stop_hz)])
    return bench.run(deck)[0]


def test_resistor_noise_density_is_the_root_of_4ktr(bench: Bench) -> None:
    plot = noise_density(bench, "C1 out 0 1e-15", 5, 1e3)
    np.testing.assert_allclose(plot["onoise_spectrum"], math.sqrt(4 * K_BOLTZMANN * KELVIN * 1e3), rtol=1e-4)


def test_integrated_noise_of_an_rc_is_the_root_of_kt_over_c(bench: Bench) -> None:
    plot = noise_density(bench, "C1 out 0 1e-9", 50, 1e10)
    total_v = math.sqrt(np.trapezoid(plot["onoise_spectrum"] ** 2, plot.sweep))
    assert total_v == pytest.approx(math.sqrt(K_BOLTZMANN * KELVIN / 1e-9), rel=2e-3)
