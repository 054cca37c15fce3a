"""Checking a cell: its contract is read, its netlist linted, then ngspice instantiates it at every process corner.

An answer takes seconds. Errors name the file, the line, the cause and the likely mend; warnings say what the tables
will show as "not modelled".
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from analog_deq.characterise.blocks import library_drawn
from analog_deq.characterise.corners import Corner, full_grid, typical_corner
from analog_deq.characterise.explain import INSTANCE, explain_failure, netlist_path, written_scopes
from analog_deq.characterise.measurement import SPICE_OPTIONS, CellBench, Copy
from analog_deq.errors import NetlistError, SimulationError, SpecError
from analog_deq.netlists.calls import callee
from analog_deq.netlists.cell import Cell
from analog_deq.netlists.deck import build_deck, number
from analog_deq.netlists.devices import leading_words
from analog_deq.netlists.header import LogicalLine, Scope
from analog_deq.netlists.library import cell_arguments, cell_files, include_lines
from analog_deq.records import Deck, Noise, Op
from analog_deq.spice.runner import run_deck
from analog_deq.spice.simulator import Simulator

PROBE_OHM = 1e6
PROBE_TIMEOUT_S = 60.0
PROBE_BOUND = 1e12
"""Volts or amperes that no working cell has inside: ngspice clamps a division by zero to 1e32, an overflow to 1e99."""

_NODE_COUNT = {"e": 4, "g": 4, "m": 4, "s": 4, "t": 4, "q": 3, "j": 3}
_PROBED = re.compile(r"\bv\(([^()]*)\)")


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


def check_cell(cell: Cell, *, simulator: Simulator) -> CheckedCell:
    """Findings of a cell whose contract was read without an error; nothing is written.

    Raises NetlistError, with file, line, cause and mend, when ngspice cannot instantiate it at one of its process
    corners at typical temperature and supply.
    """
    with tempfile.TemporaryDirectory() as folder:
        return _checked(cell, simulator, Path(folder))


def _checked(cell: Cell, simulator: Simulator, folder: Path) -> CheckedCell:
    corners = tuple(dict.fromkeys([typical_corner(cell), *(c for c in full_grid(cell) if _only_process(c, cell))]))
    findings = lint(cell)
    seconds = 0.0
    currents: list[float] = []
    for corner in corners:
        try:
            deck = probe_deck(cell, corner)
            if library_drawn(cell):
                cell_files([cell.at(corner.process, mismatch_section=True)])  # the dies' models must be there too
            run = run_deck(deck, simulator=simulator, folder=folder, timeout_s=PROBE_TIMEOUT_S)
        except SpecError as error:  # the model library has not what the netlist asks of it
            raise SpecError(f"{netlist_path(cell)}: {error}") from error
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
    return CheckedCell(cell, tuple(findings), tuple(c.name for c in corners), seconds)


def _only_process(corner: Corner, cell: Cell) -> bool:
    typical = typical_corner(cell)
    return (corner.temperature_celsius, corner.vdd_v) == (typical.temperature_celsius, typical.vdd_v)


def probe_deck(cell: Cell, corner: Corner, *, noise: bool = False) -> Deck:
    """Deck of one instance with its rails set and every other pin held at mid-supply through ``PROBE_OHM``.

    With ``noise``: the noise at its output pin, at one frequency, instead of the operating point.
    """
    bound = cell.at(corner.process)
    bench = CellBench(bound, corner, (Copy(INSTANCE[1:]),))
    middle = number(bench.condition("in_cm", corner.middle_v))
    pins = [p for p in bound.contract.pins if p not in {"vdd", "vss"}]
    lines = [*include_lines([bound]), *bench.supplies(bench.copies[0]), f"Vmid mid 0 dc {middle} ac 1"]
    lines += [f"R{p} {p} mid {number(PROBE_OHM)} noisy=0" for p in pins]
    lines.append(bench.instance(bench.copies[0], {p: p for p in pins}))
    output = next(p for p in ("out", "out_p", "col") if p in pins)
    return build_deck(
        f"probe of {cell.name} at {corner.name}",
        lines,
        [Noise(f"v({output})", "Vmid", 1, 1e3, 1e4)] if noise else [Op()],
        save=[] if noise else ["all"],  # an expression inside that overflows shows nowhere else
        options=SPICE_OPTIONS,
        files=cell_files([bound]),
        temperature_celsius=corner.temperature_celsius,
        bound=PROBE_BOUND,
        arguments=cell_arguments([bound]),
    )


def lint(cell: Cell) -> list[Finding]:
    """What can be seen without simulating: unused parameters, nodes with one connection, what is not modelled."""
    root = written_scopes(cell)
    top = next(scope for scope in root.inner if scope.header.name == cell.header.name)
    contract, where = cell.contract, cell.source
    findings = [*_unused(top), *(finding for scope in root.walk() for finding in _loose_nodes(scope))]
    if contract.mismatch.mode == "none":
        findings.append(Finding("warning", f"{where}: mismatch.mode", 'mismatch is "not modelled": dies are all alike'))
    if not contract.noise.native and contract.noise.extra is None:
        findings.append(Finding("warning", f"{where}: noise.native", 'noise is "not modelled"'))
    if "temp" not in contract.conditions:
        findings.append(
            Finding("warning", f"{where}: conditions", "no temperature range: only 27 C is characterised", "add temp")
        )
    if not contract.corners:
        findings.append(Finding("note", f"{where}: corners", "no process corners: the grid is temperature x supply"))
    return findings


def _unused(scope: Scope) -> Iterator[Finding]:
    assert scope.opening is not None, "a cell has a header"
    body = " ".join(line.text.lower().partition(" ")[2] for inner in scope.walk() for line in inner.lines)
    for name in scope.header.params:
        if not re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", body):
            text = f"parameter {name!r} of .subckt {scope.header.name} is never used"
            yield Finding("warning", scope.opening.where, text, "use or remove it")


def _loose_nodes(scope: Scope) -> Iterator[Finding]:
    """Pins that nothing connects to, and nodes that one element connects to once: most often a misspelt name."""
    uses: dict[str, list[LogicalLine]] = {}
    for line in scope.lines:
        for node in _nodes(line):
            uses.setdefault(node, []).append(line)
    for pin in scope.header.pins:
        if pin not in uses and scope.opening is not None:
            text = f"pin {pin!r} of .subckt {scope.header.name} is connected to nothing"
            yield Finding("warning", scope.opening.where, text, "mend the spelling where it is used")
    for node, lines in uses.items():
        if len(lines) == 1 and node not in {*scope.header.pins, "0", "gnd"}:
            yield Finding(
                "warning", lines[0].quoted, f"nothing else connects to node {node!r}", "mend the spelling, or remove it"
            )


def _nodes(line: LogicalLine) -> list[str]:
    """Nodes of an element line, those its expressions read included; none of a card."""
    if line.card[0] in ".k":
        return []
    if line.card[0] == "x":
        return callee(line)[0]
    read = [node.strip() for pair in _PROBED.findall(line.text.lower()) for node in pair.split(",")]
    return leading_words(line.text.lower().replace("(", " ("))[1 : 1 + _NODE_COUNT.get(line.card[0], 2)] + read


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
            "set native = false, or give the cell a resistor that carries it (behavioural sources are noiseless)",
        )
    ]  # fmt: skip
