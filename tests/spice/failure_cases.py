"""Every way ngspice is known to fail without saying so, or to say so only in its log: one case each, with its guard.

tests/spice/test_silent_failures.py runs them all; tools/failure_catalogue.py writes docs/failures.md from their words.
A case is a deck given to the driver, or a line of a cell given to the screen, or both; where only the screen can tell,
the deck shows that the simulator accepts it.
"""

from __future__ import annotations

import math
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from analog_deq.errors import (
    AnalogDeqError,
    ConvergenceError,
    MissingPlotError,
    NetlistError,
    SimulationError,
    SimulationTimeoutError,
)
from analog_deq.netlists.deck import SENTINEL, build_deck
from analog_deq.netlists.screen import screen_netlist
from analog_deq.records import Alter, Command, Dc, Deck, ExpectedPlot, Noise, Op, Tran
from analog_deq.spice.process import Limits
from analog_deq.spice.runner import run_deck
from analog_deq.spice.simulator import Simulator

TRAN = Tran(1e-8, 1e-5, 1e-8)
OP_PLOT = (ExpectedPlot("Operating Point", 1),)
CELL = ".subckt cell in out\n* the case:\n{line}\n.ends\n"


@dataclass(frozen=True)
class Case:
    """One failure: ``deck`` makes the driver raise ``error`` saying ``says``, ``line`` the screen saying ``screened``.

    ``says`` None: no run can tell, and ``gives`` is (v(out) of ngspice, v(out) of what is written). ``silent``: a bare
    ngspice ends with exit code 0. ``since``: the first version whose log tells; before it the screen is the only guard.
    ``control``: the same without the fault, accepted.
    """

    group: str
    what: str
    deck: Callable[[], Deck] | None = None
    says: str | None = None
    error: type[AnalogDeqError] = SimulationError
    line: str = ""
    screened: str = ""
    silent: bool = True
    since: float = 0.0
    control: Callable[[], Deck] | None = None
    gives: tuple[float, float] | None = None
    timeout_s: float = 30.0
    limits: Limits | None = None


@dataclass(frozen=True)
class Caught:
    """What became of a case: exit code of a bare ngspice (None: none was run), the driver's and the screen's words."""

    exit_code: int | str | None
    driver: str
    screen: str
    gives: float | None = None


def circuit(
    *lines: str, commands: Sequence[Command] = (Op(),), save: str = "v(out)", options: dict[str, bool] | None = None
) -> Callable[[], Deck]:
    return lambda: build_deck("case", lines, commands, save=save.split(), options=options)


def text(*lines: str, plots: tuple[ExpectedPlot, ...] = OP_PLOT) -> Callable[[], Deck]:
    return lambda: Deck("\n".join([*lines, ""]), plots)


def control_block(*commands: str, plots: tuple[ExpectedPlot, ...] = OP_PLOT) -> Callable[[], Deck]:
    """A divider and hand-written control lines, ended as build_deck ends them."""
    body = ["* case", "V1 in 0 PWL(0 0 1e-9 1)", "R1 in out 1e3", "C1 out 0 1e-9", ".control", *commands]
    return text(*body, f"echo {SENTINEL}", "quit 0", ".endc", ".end", plots=plots)


TRAN_PLOT = (ExpectedPlot("Transient Analysis", None, 1e-5),)
ORDER = ("V1 out 0 PWL(0 0 1e-6 1)", "R1 out 0 1e3", ".save v(out)", ".tran 1e-8 1e-5", ".op", ".end")
SQRT = ("V1 in 0 1", "R1 in 0 1e3", "B1 out 0 v = time > 5e-6 ? sqrt(-v(in)) : 0")
WRITE = ("set filetype=binary", "save v(out)", "tran 1e-8 {} 0 1e-8", "write out.raw")
CHAIN = ["V1 n0 0 1", *[f"R{i} n{i} n{i + 1} 1" for i in range(1500)], "Rl n1500 0 1"]
CHAIN_SAVES = [f"v(n{i})" for i in range(1500)]
PROCESS = circuit("V1 out 0 1", "R1 out 0 1e3", commands=(TRAN,))
RC = ("V1 in 0 0 AC 1", "R1 in out 1e3", "C1 out 0 1e-9")


def chain_on_one_line() -> Deck:
    deck = build_deck("case", CHAIN, [Op()], save=CHAIN_SAVES)
    rest = [x for x in deck.text.splitlines() if not x.startswith("save ")]
    rest.insert(rest.index("set appendwrite") + 1, "save " + " ".join(CHAIN_SAVES))
    return Deck("\n".join(rest) + "\n", deck.plots)


def noise_under_klu() -> Deck:
    deck = build_deck("case", RC, [Noise("v(out)", "V1", 10, 1.0, 1e6)])
    return Deck(deck.text.replace(".control", ".options klu\n.control"), deck.plots)


def wires(*lines: str) -> Callable[[], Deck]:
    """Lines between a 1 V source at ``in`` and a resistor from ``out`` to ground."""
    return circuit("V1 in 0 1", *lines, "Rout out 0 1e3")


def cell_on_top(line: str) -> Callable[[], Deck]:
    """A cell with ``line`` in it, driven by 1 V."""
    return circuit(*CELL.format(line=line).rstrip("\n").split("\n"), "V1 a 0 1", "X1 a out cell", "Rout out 0 1e3")


ELEMENTS, EQUATIONS, TEXT, CONTROL, PROCESSES, MEANING = (
    "Elements and values", "Equations without a solution", "Text of a deck", "Commands and plots",
    "Processes and files", "Names and calls that mean something else",
)  # fmt: skip

# fmt: off
CASES: tuple[Case, ...] = (
    Case(ELEMENTS, "resistor without a value", wires("R1 in out"), r"R1 in out|r1 in out|resistance to",
         line="R1 in out", screened="too short"),
    Case(ELEMENTS, "resistance 0", wires("R1 in out 0"), "too small", line="R1 in out 0", screened="resistance 0",
         since=44, control=wires("R1 in out 1e-3")),
    Case(ELEMENTS, "negative resistance", line="R1 in out -5", screened="resistance -5", gives=(1e3 / 995,
         1e3 / 1005)),
    Case(ELEMENTS, "`1M` is a milliohm", wires("R1 in out 1M"), line="R1 in out 1M", screened="milli",
         gives=(1 / (1 + 1e-6), 1 / (1 + 1e3))),
    Case(ELEMENTS, "`1F` is femto", wires("E1 out 0 in 0 1F"), line="C1 in out 1F", screened="femto", gives=(1e-15,
         1.0)),
    Case(ELEMENTS, "`4k7` is 4000", wires("R1 in out 4k7"), line="R1 in out 4k7",
         screened="not a number ngspice reads", gives=(1 / 5, 1 / 5.7)),
    Case(ELEMENTS, "`1,5` is 5", wires("R1 in out 1,5"), line="R1 in out 1,5", screened="keeps one part",
         gives=(1e3 / 1005, 1e3 / 1001.5)),
    Case(ELEMENTS, "`1mil`: 25.4e-6 in a value, 1e-3 in an expression", circuit("V1 out 0 {1e3*1mil}", "R1 out 0 1"),
         line="R1 in out {1mil}", screened="milli in an expression", gives=(1.0, 0.0254)),
    Case(ELEMENTS, "`1A`: 1e-18 to ngspice 46, 1 to 39", circuit("I1 0 out 1A", "R1 out 0 1"), line="I1 0 out 1A",
         screened="atto"),
    Case(ELEMENTS, "NaN as a value", wires("R1 in out nan"), "nan", line="V1 in out nan", screened="NaN",
         silent=False),
    Case(ELEMENTS, "undefined parameter", wires("R1 in out {absent}"), "netlist line|Undefined", silent=False),
    Case(ELEMENTS, "missing model", wires("D1 in out nomodel"), "nomodel|model", silent=False),
    Case(ELEMENTS, "missing subcircuit", wires("X1 in out nosub"), "nosub|unknown subckt", silent=False),
    Case(ELEMENTS, "missing included file", wires(".include none.cir"), "none.cir|rror", silent=False),
    Case(ELEMENTS, "unknown element", wires("~1 in out 1"), "unknown device|rror", line="~1 in out 1",
         screened="not an element", silent=False),
    Case(ELEMENTS, "unknown dot card", wires(".unheardof 1"), "unimplemented|rror", line=".unheardof 1",
         screened="card .unheardof", silent=False),
    Case(ELEMENTS, "element name twice", text("* case", "V1 out 0 1", "R1 out 0 1", "R1 out 0 2", ".op", ".end"),
         "lready|rror", silent=False),
    Case(ELEMENTS, "element name twice, in a deck we build", circuit("V1 out 0 1", "R1 out 0 1", "r1 out 0 2"),
         "appears twice", NetlistError),

    Case(EQUATIONS, "operating point that does not exist", circuit("B1 out 0 i=v(out)*v(out)+1", "R1 out 0 1e3"), "",
         ConvergenceError),
    Case(EQUATIONS, "floating node", circuit("V1 in 0 1", "R1 in 0 1e3", "C1 in out 1e-9", "C2 out 0 1e-9"),
         "singular", ConvergenceError),
    Case(EQUATIONS, "current source into a capacitor", circuit("I1 0 out 1e-6", "C1 out 0 1e-9"), "singular",
         ConvergenceError),
    Case(EQUATIONS, "no ground", circuit("V1 in a 1", "R1 in out 1e3", "R2 out a 1e3"), "singular", ConvergenceError),
    Case(EQUATIONS, "loop of voltage sources", circuit("V1 out 0 1", "V2 out 0 2"), "singular", ConvergenceError),
    Case(EQUATIONS, "exponential that overflows, clamped to 1e99", wires("B1 out2 0 v=exp(1000*v(in))", "R1 in out 1",
         ".save v(out2)"), "bound"),
    Case(EQUATIONS, "division by zero, a large number", circuit("V1 in 0 0", "R1 in 0 1e3", "B1 out 0 v=1/v(in)"),
         "bound"),
    Case(EQUATIONS, "division by zero in a sweep", circuit("V1 in 0 0", "R1 in 0 1e3", "B1 out 0 v=1/v(in)",
         commands=(Dc("V1", -1.0, 1.0, 0.5),)), "bound"),
    Case(EQUATIONS, "square root of a negative number in a transient", circuit(*SQRT, commands=(TRAN,)),
         "Timestep too small", ConvergenceError),
    Case(EQUATIONS, "the same from a `.tran` card", text("* case", *SQRT, ".save v(out)", ".tran 1e-8 1e-5", ".end",
         plots=TRAN_PLOT), "imestep too small|rror", silent=False),

    Case(TEXT, "element on the first line, eaten as the title", text("V1 out 0 1", "R1 out 0 1e3", ".save v(out)",
         ".op", ".end"), "title", NetlistError),
    Case(TEXT, "no `.end`, a deck cut off", text("* case", "V1 out 0 1", "R1 out 0 1e3", ".save v(out)", ".op"),
         r"\.end", NetlistError, control=text("* case", "V1 out 0 1", "R1 out 0 1e3", ".save v(out)", ".op", ".end")),
    Case(TEXT, "`.measure`, never evaluated", text("* case", "V1 out 0 PWL(0 0 1e-6 1)", "R1 out 0 1e3",
         ".tran 1e-8 1e-5", ".measure tran peak max v(out)", ".end", plots=TRAN_PLOT), r"\.measure",
         line=".measure tran peak max v(out)", screened="card .measure"),
    Case(TEXT, "`.op` and `.tran` cards, run in an order of their own", text("* case", *ORDER,
         plots=TRAN_PLOT + OP_PLOT), "expected", MissingPlotError, control=text("* case", *ORDER,
         plots=OP_PLOT + TRAN_PLOT)),
    Case(TEXT, "`*#` line in an included file", lambda: build_deck("case", [".include cell.cir", "V1 out 0 1"],
         [Op()], save=["v(out)"], files=[("cell.cir", "*#shell touch harm\n")]), "run as a command", NetlistError,
         line="*#shell touch harm", screened="it is no comment"),

    Case(CONTROL, "`alter` of a source that does not exist", circuit("V1 out 0 1", "R1 out 0 1e3",
         commands=(Alter((("Vx", 2.0),)), Op())), "no such device"),
    Case(CONTROL, "`alter` to NaN", circuit("V1 out 0 1", "R1 out 0 1e3", commands=(Alter((("V1", math.nan),)),
         Op())), "nan", NetlistError),
    Case(CONTROL, "`print` of a vector that does not exist", control_block("set filetype=binary", "op",
         "write out.raw", "print v(typo)"), "typo"),
    Case(CONTROL, "transient that ends early, in a whole file", control_block(*[x.format("5e-6") for x in WRITE],
         plots=TRAN_PLOT), "stops at", MissingPlotError, control=control_block(*[x.format("1e-5") for x in WRITE],
         plots=TRAN_PLOT)),
    Case(CONTROL, "one plot missing among others", control_block("set filetype=binary", "set appendwrite", "op",
         "write out.raw", "op", "write out.raw", plots=OP_PLOT * 3), "expected", MissingPlotError),
    Case(CONTROL, "deck that ends before its end", control_block("set filetype=binary", "op", "write out.raw",
         "quit 0"), "end mark", control=control_block("set filetype=binary", "op", "write out.raw")),
    Case(CONTROL, "`quit` with a code", control_block(f"echo {SENTINEL}", "quit 3", plots=()), "exit code 3",
         silent=False),
    Case(CONTROL, "saved node that does not exist", circuit("V1 in 0 1", "R1 in out 1e3", "R2 out 0 1e3",
         commands=(TRAN,), save="v(out) v(typo)"), r"v\(typo\)"),
    Case(CONTROL, "saved difference", circuit("V1 in 0 1", "R1 in out 1e3", "R2 out 0 1e3", commands=(TRAN,),
         save="v(out) v(in,out)"), r"v\(in,out\)|rror"),
    Case(CONTROL, "saved device parameter that does not exist", circuit("V1 in 0 1", "R1 in out 1e3", "R2 out 0 1e3",
         commands=(TRAN,), save="v(out) @r1[typo]"), r"@r1\[typo\]|rror"),
    Case(CONTROL, "`save` of 1500 names on one line", chain_on_one_line, "too many args",
         control=lambda: build_deck("case", CHAIN, [Op()], save=CHAIN_SAVES)),
    Case(CONTROL, "`.noise` under KLU", lambda: build_deck("case", RC, [Noise("v(out)", "V1", 10, 1.0, 1e6)],
         options={"klu": True}), "KLU", NetlistError),
    Case(CONTROL, "`.noise` under KLU, set by hand", noise_under_klu, "KLU"),
    Case(CONTROL, "nothing but an unknown node saved", text("* case", "V1 out 0 1", "R1 out 0 1", ".save v(typo)",
         ".op", ".end"), "", silent=False),

    Case(PROCESSES, "endless loop", text("* case", "R1 a 0 1", ".control", "let i = 1", "while i", "let i = 1", "end",
         ".endc", ".end", plots=()), r"limit of 0\.3 s", SimulationTimeoutError, timeout_s=0.3),
    Case(PROCESSES, "raw file that cannot be written", control_block("set filetype=binary", "op",
         "write absent/out.raw"), ""),
    Case(PROCESSES, "raw file beyond its size limit", PROCESS, "may not write a file of more than|SIGXFSZ",
         limits=Limits(file_bytes=4096), control=PROCESS),
    Case(PROCESSES, "memory limit", lambda: build_deck("case", CHAIN, [Op()], save=CHAIN_SAVES), "",
         limits=Limits(memory_bytes=12 << 20)),

    Case(MEANING, "spaces round an operator: `k = 2 * 3` is 2", gives=(1 / 3, 1 / 7), screened="cannot read '[*] 3'",
         line="X1 in out sub k = 2 * 3\n.subckt sub a b k=1\nR1 a b {k*1e3}\n.ends"),
    Case(MEANING, "`.param w = 2 * 3` is 2", gives=(1 / 3, 1 / 7), screened="cannot read '[*] 3'",
         line=".param w = 2 * 3\nR1 in out {w*1e3}"),
    Case(MEANING, "parameter the subcircuit has not, dropped", gives=(1 / 2, 1 / 3),
         screened="sets 'kk', which 'sub' has not",
         line="X1 in out sub kk=2\n.subckt sub a b k=1\nR1 a b {k*1e3}\n.ends"),
    Case(MEANING, "swapped parameters `x={y} y={x}`: both get y", gives=(1 / 9, 1 / 6),
         screened="ngspice takes that one",
         line=".param x=1k y=2k\nX1 in out sub x={y} y={x}\n.subckt sub a b x=1 y=1\nR1 a b {x+3*y}\n.ends"),
    Case(MEANING, "parameter called `e`, `pi`, `time`, `temper` or `hertz`: a source takes its own meaning",
         gives=(math.e / 2, 5 / 2), screened="a meaning of its own",
         line=".param e=5\nR1 in out 1e3\nB1 in out i=e*1e-3-1e-3"),
    Case(MEANING, "`.param` that overrules the header's default", gives=(1 / 6, 1 / 2), screened="drops the default",
         line="X1 in out sub\n.subckt sub a b k=1\n.param k=5\nR1 a b {k*1e3}\n.ends"),
    Case(MEANING, "pin called `gnd`: ground, whatever it is connected to", gives=(0.0, 0.5),
         screened="wires to ground", line="X1 in out sub\n.subckt sub a gnd\nR1 a gnd 1e3\n.ends"),
    Case(MEANING, "two `.model` cards of one name: the first wins", gives=(1 / 2, 1 / 4),
         screened="defines .model 'rm' again", line="R1 in out rm l=1 w=1\n.model rm r rsh=1e3\n.model rm r rsh=3e3"),
    Case(MEANING, "two `.func` cards of one name: the last wins", gives=(1 / 3, 1 / 2),
         screened="defines .func 'f' again", line=".func f(x) {x}\n.func f(x) {2*x}\nR1 in out {f(1e3)}"),
    Case(MEANING, "two `.subckt` cards of one name", says="redefinition", screened="defines .subckt 's' again",
         line="X1 in out s\n.subckt s a b\nR1 a b 1e3\n.ends\n.subckt s a b\nR1 a b 9e3\n.ends"),
    Case(MEANING, "`;` comment before a continuation, which goes with it", says="ignored|resistance to",
         line="R1 in out\n; note\n+ 1e3", screened="continues the ';' comment"),
)
# fmt: on


def bare_exit_code(deck: Deck, simulator: Simulator, folder: Path) -> int | str:
    """What a bare ngspice says of a deck: the reason these cases exist. "never ends" after 2 s."""
    folder.mkdir()
    for name, content in (("deck.cir", deck.text), *deck.files):
        (folder / name).write_text(content)
    command = [str(simulator.executable), "-n", "-b", "-r", "out.raw", "deck.cir"]
    try:
        done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=2.0)
    except subprocess.TimeoutExpired:
        return "never ends"
    return done.returncode


def run_case(case: Case, simulator: Simulator, folder: Path) -> Caught:
    """What a case gives, its errors in words. AssertionError when a guard lets it pass or says something else."""
    exit_code: int | str | None = None
    driver = screen = said = ""
    gives: float | None = None
    whole = case.deck or (cell_on_top(case.line) if case.gives or case.says is not None else None)
    if whole is not None:
        try:
            deck = whole()
            exit_code = bare_exit_code(deck, simulator, folder / "bare")
            run = run_deck(deck, simulator=simulator, folder=folder, timeout_s=case.timeout_s, limits=case.limits)
            gives = float(run.plots[0]["v(out)"][0])
        except case.error as error:
            driver = error.reason if isinstance(error, SimulationError) else str(error)
            said = f"{driver}\n{error.log_tail if isinstance(error, SimulationError) else ''}"
    if case.line:
        try:
            screen_netlist(CELL.format(line=case.line), "cell.cir")
        except NetlistError as error:
            screen = str(error)
    driver_tells = whole is not None and case.says is not None and float(simulator.version) >= case.since
    assert bool(driver) == driver_tells, f"{case.what}: the driver says {driver!r}"
    assert not driver or re.search(case.says or "", said), f"{case.what}: {said}"
    assert re.search(rf"cell\.cir:\d+: .*(?:{case.screened})" if case.line else "", screen), f"{case.what}: {screen}"
    assert bool(screen) == bool(case.line), f"{case.what}: the screen says {screen!r}"
    assert driver or screen, f"{case.what}: nothing caught it"
    assert exit_code is None or (exit_code in {0, "never ends"}) == case.silent, f"{case.what}: exit code {exit_code}"
    if case.gives is not None:
        assert gives is not None, case.what
        assert math.isclose(gives, case.gives[0], rel_tol=1e-5, abs_tol=1e-12), f"{case.what}: {gives!r}"
        assert not math.isclose(gives, case.gives[1], rel_tol=1e-3), case.what
    if case.control is not None:
        run_deck(case.control(), simulator=simulator, folder=folder)
    return Caught(exit_code, driver, screen, gives)
