"""What the checks say about logs, decks and plots, without ngspice. Log lines were copied from ngspice 39 and 46."""

from __future__ import annotations

import numpy as np
import pytest

from analog_deq.errors import ConvergenceError, MissingPlotError, NetlistError, SimulationError
from analog_deq.records import Deck, ExpectedPlot, Plot
from analog_deq.spice.checks import check_deck, check_log, check_plots, log_tail, saved_vectors

HEALTHY = """Warning: can't find the initialization file spinit.

Note: No compatibility mode selected!

Circuit: * error budget of the failed singular amplifier

Doing analysis at TEMP = 27.000000 and TNOM = 27.000000
Warning: v1: no DC value, transient time 0 value used
Using SPARSE 1.3 as Direct Linear Solver

Node                                   Voltage
----                                   -------
error_out                                    0
failed                                  -1e-05
unknown                                    0.5            0.5 *

No. of Data Rows : 1
binary raw file "out.raw"
ANALOG_DEQ_DONE
ngspice-46 done
"""


def test_a_healthy_log_raises_no_flag_whatever_its_nodes_are_called() -> None:
    assert not check_log(HEALTHY).stepping


@pytest.mark.parametrize(
    "line",
    [
        "Warning: 'r1 in out' is not a valid resistor instance line, ignored!",
        "Warning: Value of resistor r1 is too small, set to 1.000000e-12 ",
        "r1: resistance to low, set to 1 mOhm",
        "Error: no such device or model name vnone",
        "No .measure possible in batch mode (-b) with -r rawfile set!",
        "warning, can't find model 'nan' from line",
        "Undefined parameter [foo]",
        "save: too many args.",
        "Warning from checkvalid: vector onoise_spectrum is not available or has zero length.",
        "tran simulation(s) aborted",
        "doAnalyses: operation not supported",
        "ERROR: fatal error in ngspice, exit(1)",
    ],
)
def test_trouble_is_refused_and_quoted(line: str) -> None:
    with pytest.raises(SimulationError) as caught:
        check_log(HEALTHY + line + "\n")
    assert not isinstance(caught.value, ConvergenceError)
    assert line.strip() in caught.value.reason


DYNAMIC_FAILED = "Note: Starting dynamic gmin stepping\nWarning: Dynamic gmin stepping failed\n"
TRUE_FAILED = "Note: Starting true gmin stepping\nWarning: True gmin stepping failed\n"


@pytest.mark.parametrize(
    "notes",
    [
        "Note: Starting dynamic gmin stepping\nNote: Dynamic gmin stepping completed\n",
        DYNAMIC_FAILED + "Note: Starting true gmin stepping\nNote: True gmin stepping completed\n",
        DYNAMIC_FAILED + TRUE_FAILED + "Note: Starting source stepping\nNote: Source stepping completed\n",
        "Note: Starting dynamic gmin stepping\nTrying gmin =   9.9996E-03 Warning: Last gmin step failed\n"
        "Warning: Dynamic gmin stepping failed\nNote: Starting true gmin stepping\n"
        "Trying gmin =   1.0000E-12 Note: One successful gmin step\nNote: True gmin stepping completed\n",
    ],
)
def test_completed_stepping_is_a_flag(notes: str) -> None:
    assert check_log(HEALTHY + notes).stepping


@pytest.mark.parametrize(
    "notes",
    [
        DYNAMIC_FAILED,
        "Note: Starting dynamic gmin stepping\n",
        "Note: Starting dynamic gmin stepping\nNote: Dynamic gmin stepping completed\n" + DYNAMIC_FAILED,
        DYNAMIC_FAILED + TRUE_FAILED + "Note: Starting source stepping\nWarning: source stepping failed\n"
        "Note: Transient op started\nNote: Transient op finished successfully\n",
        "Warning: singular matrix:  check node out\n"
        "Note: Starting dynamic gmin stepping\nNote: Dynamic gmin stepping completed\n",
        "doAnalyses: TRAN:  Timestep too small; time = 5e-06, timestep = 1.25e-19: cause unrecorded.\n",
        "doAnalyses: iteration limit reached\n",
        "Note: Starting dynamic gmin stepping\nTrying gmin =   9.9996E-03 Warning: Last gmin step failed\n",
    ],
)
def test_no_convergence_is_refused(notes: str) -> None:
    with pytest.raises(ConvergenceError):
        check_log(HEALTHY + notes)


def test_the_tail_leaves_statistics_out() -> None:
    assert log_tail("Error: x\nTotal DRAM available = 24105.559 MB.\n\nngspice-46 done\n") == "Error: x"


def deck(text: str, *files: tuple[str, str]) -> Deck:
    return Deck(text, (), files)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (deck("V1 a 0 1\n.end\n"), "first line is its title"),
        (deck(""), "first line is its title"),
        (deck("* t\nV1 a 0 1\n"), "must end with '.end'"),
        (deck("* t\n *#SHELL touch x\n.end\n"), "as a command"),
        (deck("* t\n.control\nshell x\n.endc\n* u\n.control\nop\n.endc\n.end\n"), "has 2, so a name carried one in"),
        (deck("* t\n.end\n", ("cell.cir", "  .CONTROL\n")), r"cell.cir:1.*run as a command"),
        (deck("* t\n.end\n", ("../cell.cir", "")), "relative name"),
        (deck("* t\n.end\n", ("/cell.cir", "")), "relative name"),
        (deck("* t\n.end\n", ("out.raw", "")), "relative name"),
    ],
)
def test_decks_that_ngspice_would_misread_are_refused(bad: Deck, message: str) -> None:
    with pytest.raises(NetlistError, match=message):
        check_deck(bad)


def tran(time: list[float], volts: list[float]) -> Plot:
    return Plot("Transient Analysis", ("time", "v(a)"), np.array([time, volts]).T)


END = (ExpectedPlot("Transient Analysis", None, 1e-6),)


def test_whole_plots_pass_and_the_sweep_is_not_bounded() -> None:
    check_plots([tran([0, 1e-6], [0, 1])], END, 1e3, saved=("v(a)",))
    ac = Plot("AC Analysis", ("frequency", "v(a)"), np.array([[1, 1j], [1e9, 0.1j]]))
    check_plots([ac], [ExpectedPlot("AC Analysis", 2, 1e9)], 2.0)
    down = Plot("DC transfer characteristic", ("v(v-sweep)", "v(a)"), np.array([[-1.0, 0.0], [-1.4e-16, 0.0]]))
    check_plots([down], [ExpectedPlot("DC transfer characteristic", 2, 0.0)], 2.0)


@pytest.mark.parametrize(
    ("plots", "expected", "error", "message"),
    [
        ([], END, MissingPlotError, "expected"),
        ([tran([0, 1e-6], [0, 1])], END * 2, MissingPlotError, "expected"),
        ([tran([0, 1e-6], [0, 1])], [ExpectedPlot("Operating Point", 1)], MissingPlotError, "expected"),
        ([tran([0, 1e-6], [0, 1])], [ExpectedPlot("Transient Analysis", 3, 1e-6)], MissingPlotError, "2 points"),
        ([tran([0, 0.999e-6], [0, 1])], END, MissingPlotError, "stops at"),
        ([tran([0, np.nan], [0, 1])], END, MissingPlotError, "stops at"),
        ([tran([0, 1e-6], [0, np.nan])], END, SimulationError, "not finite"),
        ([tran([0, 1e-6], [0, -np.inf])], END, SimulationError, "not finite"),
        ([tran([0, 1e-6], [0, 1e99])], END, SimulationError, r"v\(a\) = .*1e\+99"),
        ([tran([0, 1e-6], [0, -1e3])], END, SimulationError, "bound"),
    ],
)
def test_broken_plots_are_refused(
    plots: list[Plot], expected: list[ExpectedPlot], error: type[SimulationError], message: str
) -> None:
    with pytest.raises(error, match=message):
        check_plots(plots, expected, 1e3)


def test_a_saved_vector_that_is_absent_is_refused() -> None:
    with pytest.raises(MissingPlotError, match=r"first 'v\(b\)'"):
        check_plots([tran([0, 1e-6], [0, 1])], END, 1e3, saved=("v(a)", "v(b)"))


def test_saved_vectors_are_spelt_as_in_a_raw_file() -> None:
    text = "* t\n.control\nsave v(OUT) V1#branch x.y\nsave @R1[i] all v(x*)\n.endc\n"
    assert saved_vectors(text) == ("v(out)", "i(v1)", "v(x.y)", "@r1[i]")
    current = Plot("Operating Point", ("i(@r1[i])",), np.ones((1, 1)))
    check_plots([current], [ExpectedPlot("Operating Point", 1)], 2.0, saved=("@r1[i]",))
