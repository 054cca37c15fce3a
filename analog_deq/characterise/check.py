"""Checking a cell: its contract is read, its netlist linted, then ngspice instantiates it at every process corner.

An answer takes seconds. Errors name the file, the line, the cause and the likely mend; warnings say what the tables
will show as "not modelled".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from analog_deq.characterise.corners import Corner, full_grid, typical_corner
from analog_deq.characterise.measurement import SPICE_OPTIONS, CellBench, Copy
from analog_deq.errors import NetlistError, SimulationError
from analog_deq.netlists.cell import Cell
from analog_deq.netlists.deck import build_deck, number
from analog_deq.netlists.header import LogicalLine, logical_lines
from analog_deq.netlists.library import cell_arguments, cell_files, include_lines
from analog_deq.records import Deck, Noise, Op
from analog_deq.spice.runner import run_deck
from analog_deq.spice.simulator import Simulator

PROBE_OHM = 1e6
PROBE_TIMEOUT_S = 60.0

_NOISY = re.compile(r"^[dqmj]|^x", re.IGNORECASE)
_MENDS: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (
        re.compile(r"(?:undefined parameter|unknown parameter|undefined identifier)\W*\[?'?(\w+)", re.IGNORECASE),
        "the parameter {0!r} is used and nowhere defined",
        "add it to the .subckt line with a default, or mend the spelling",
    ),
    (
        re.compile(r"(?:can't find model|unable to find definition of model|no such model)\W*([\w.]+)", re.IGNORECASE),
        "the device model {0!r} is not defined",
        "add its .model line, or [models] with the library that holds it",
    ),
    (
        re.compile(r"unknown subckt:?\s*(.*)", re.IGNORECASE),
        "a subcircuit is instantiated that does not exist: {0}",
        "define it in this file, or name the library under [models]",
    ),
    (
        re.compile(r"singular matrix:?\s*check nodes?\s+(\S+)", re.IGNORECASE),
        "node {0!r} has no DC path: it floats, or a loop of sources holds it",
        "give the node a resistive path, or remove the loop",
    ),
    (
        re.compile(r"(too few|too many|incorrect number of) (?:parameters|nodes|arguments)[^\n]*", re.IGNORECASE),
        "an instance line has {0} nodes",
        "count the pins of the subcircuit it names",
    ),
    (
        re.compile(r"(no convergence|timestep too small|stepping failed)", re.IGNORECASE),
        "ngspice finds no operating point ({0})",
        "check the bias, the supply range in [conditions], and expressions that divide or take roots",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """One remark about a cell: a ``warning`` or a plain ``note``, the place it concerns, and what to do about it."""

    severity: Literal["warning", "note"]
    place: str
    text: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class CheckedCell:
    """A cell that passed: its findings, the corners instantiated, and the seconds ngspice took."""

    cell: Cell
    findings: tuple[Finding, ...]
    corners: tuple[str, ...]
    seconds: float


def check_cell(cell: Cell, *, simulator: Simulator, folder: Path) -> CheckedCell:
    """Findings of a cell whose contract was read without an error.

    Raises NetlistError, with file, line, cause and mend, when ngspice cannot instantiate it at one of its process
    corners at typical temperature and supply.
    """
    corners = [typical_corner(cell), *(c for c in full_grid(cell) if _only_process(c, cell))]
    findings = lint(cell)
    seconds = 0.0
    currents: list[float] = []
    for corner in dict.fromkeys(corners):
        deck = probe_deck(cell, corner)
        try:
            run = run_deck(deck, simulator=simulator, folder=folder, timeout_s=PROBE_TIMEOUT_S)
        except SimulationError as error:
            raise NetlistError(explain_failure(cell, corner, error)) from error
        seconds += run.wall_s
        if run.stepping:
            findings.append(
                Finding("note", corner.name, "the operating point needed gmin or source stepping", "expect slow runs")
            )
        plot = run.plots[0]
        currents += [abs(float(np.real(plot[v])[0])) for v in plot.variables if v in {"i(vdd0)", "i(vss0)"}]
    if currents and max(currents) == 0:
        findings.append(
            Finding("warning", cell.source, "the cell draws no supply current: its power will be 'not modelled'")
        )
    findings += _noise_findings(cell, simulator, folder)
    return CheckedCell(cell, tuple(findings), tuple(c.name for c in dict.fromkeys(corners)), seconds)


def _only_process(corner: Corner, cell: Cell) -> bool:
    typical = typical_corner(cell)
    return (corner.temperature_celsius, corner.vdd_v) == (typical.temperature_celsius, typical.vdd_v)


def probe_deck(cell: Cell, corner: Corner, *, noise: bool = False) -> Deck:
    """Deck of one instance with its rails set and every other pin held at mid-supply through ``PROBE_OHM``.

    With ``noise``: the noise at its output pin, at one frequency, instead of the operating point.
    """
    bound = cell.at(corner.process)
    bench = CellBench(bound, corner, (Copy("0"),))
    middle = number(bench.condition("in_cm", corner.middle_v))
    pins = [p for p in bound.contract.pins if p not in {"vdd", "vss"}]
    lines = [*include_lines([bound]), *bench.supplies(bench.copies[0]), f"Vmid mid 0 dc {middle} ac 1"]
    lines += [f"R{p} {p} mid {number(PROBE_OHM)} noisy=0" for p in pins]
    lines.append(bench.instance(bench.copies[0], {p: p for p in pins}))
    output = next(p for p in ("out", "out_p", "col") if p in pins)
    rails = [f"i(v{r}0)" for r in ("dd", "ss")] if bench.has_supply else []
    return build_deck(
        f"probe of {cell.name} at {corner.name}",
        lines,
        [Noise(f"v({output})", "Vmid", 1, 1e3, 1e4)] if noise else [Op()],
        save=[] if noise else [*(f"v({p})" for p in pins), *rails],
        options=SPICE_OPTIONS,
        files=cell_files([bound]),
        temperature_celsius=corner.temperature_celsius,
        bound=1e6,
        arguments=cell_arguments([bound]),
    )


def lint(cell: Cell) -> list[Finding]:
    """What can be seen without simulating: unused parameters, nodes with one connection, what is not modelled."""
    contract, where = cell.contract, cell.source
    lines = list(logical_lines(cell.netlist, where))
    body = " ".join(line.text.lower() for line in lines if not line.text.lower().startswith(".subckt"))
    header = f"{contract.cell.netlist}:{cell.header.line}"
    findings = [
        Finding(
            "warning", header, f"parameter {name!r} of .subckt {cell.header.name} is never used", "use or remove it"
        )
        for name in cell.header.params
        if not re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", body)
    ]
    if contract.mismatch.mode == "none":
        findings.append(Finding("warning", f"{where}: mismatch.mode", 'mismatch is "not modelled": dies are all alike'))
    if not contract.noise.native and contract.noise.extra is None:
        findings.append(Finding("warning", f"{where}: noise.native", 'noise is "not modelled"'))
    if "temp" not in contract.conditions:
        findings.append(
            Finding("warning", f"{where}: conditions", "no temperature range: only 27 C is characterised", "add temp")
        )
    if "vdd" in contract.pins and "vdd" not in contract.conditions:
        findings.append(
            Finding("warning", f"{where}: conditions", "a supply pin, and no supply: rails stay at 0 V", "add vdd")
        )
    if not contract.corners:
        findings.append(Finding("note", f"{where}: corners", "no process corners: the grid is temperature x supply"))
    if contract.noise.native and not any(_may_be_noisy(line) for line in lines):
        findings.append(
            Finding(
                "warning", f"{where}: noise.native", "no element of the netlist is noisy; behavioural sources are not",
                "set native = false, or give the cell a resistor that carries it",
            )
        )  # fmt: skip
    return findings


def _may_be_noisy(line: LogicalLine) -> bool:
    text = line.text.lower()
    if text.startswith("r"):
        return "noisy=0" not in text.replace(" ", "")
    return bool(_NOISY.match(text))


def _noise_findings(cell: Cell, simulator: Simulator, folder: Path) -> list[Finding]:
    if not cell.contract.noise.native:
        return []
    deck = probe_deck(cell, typical_corner(cell), noise=True)
    try:
        run = run_deck(deck, simulator=simulator, folder=folder, timeout_s=PROBE_TIMEOUT_S)
    except SimulationError as error:
        return [Finding("warning", f"{cell.source}: noise.native", f"the noise analysis fails: {error.reason}")]
    if float(np.max(np.real(run.plots[0]["onoise_spectrum"]))) > 0:
        return []
    return [
        Finding(
            "warning", f"{cell.source}: noise.native", "the noise at its output is exactly zero: it is 'not modelled'",
            "set native = false",
        )
    ]  # fmt: skip


def explain_failure(cell: Cell, corner: Corner, error: SimulationError) -> str:
    """Message of a cell that ngspice cannot instantiate: file and line, cause, ngspice's own words, likely mend."""
    said = error.log_tail or error.reason
    netlist = Path(cell.source).with_name(cell.contract.cell.netlist)
    for pattern, cause, mend in _MENDS:
        match = pattern.search(f"{error.reason}\n{said}")
        if match is not None:
            word = match[1].strip() if match.groups() else ""
            place = _place(cell, word, netlist)
            return f"{place}: {cause.format(word)}; {mend}. ngspice at {corner.name}: {error.reason}"
    return (
        f"{netlist}: ngspice cannot instantiate {cell.name} at {corner.name}: {error.reason}; "
        f"its last words:\n{error.log_tail}"
    )


def _place(cell: Cell, word: str, netlist: Path) -> str:
    """``file:line: 'text'`` of the first line of the cell's own file that uses ``word``; the file when none does.

    ngspice names things with their hierarchy (``x1.node``); the innermost name that occurs is taken.
    """
    for name in reversed([part for part in re.split(r"[\s.#]+", word.lower()) if part]):
        for line in logical_lines(netlist.read_text(encoding="utf-8"), str(netlist)):
            if re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", line.text.lower()):
                return f"{netlist}:{line.number}: {line.raw!r}"
    return str(netlist)
