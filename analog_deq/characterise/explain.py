"""From ngspice's words about a cell to the user's own line: place, cause, likely mend.

ngspice names things as they stand after it has expanded the cell (``r.x0.x1.ro``, ``x0.f``), or by a line of the text
it was given, in which includes are written in and helpers moved. Both are followed back to file and line.
Each pattern was seen on ngspice 46 and 39.3, whose words differ.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from analog_deq.characterise.corners import Corner
from analog_deq.errors import ConvergenceError, SimulationError
from analog_deq.netlists.calls import callee
from analog_deq.netlists.cell import Cell
from analog_deq.netlists.header import LogicalLine, Scope, read_scopes
from analog_deq.netlists.includes import written_in

INSTANCE = "x0"
"""Name of the cell's instance in the probe deck, which begins every hierarchical name."""


@dataclass(frozen=True, slots=True)
class _Symptom:
    """What ngspice says of one kind of mistake. Groups: ``name`` is told, ``at`` (else ``name``) is looked for."""

    words: re.Pattern[str]
    cause: str
    mend: str


def _symptom(words: str, cause: str, mend: str) -> _Symptom:
    return _Symptom(re.compile(words, re.IGNORECASE | re.MULTILINE), cause, mend)


_ON_LINE = r"error on line[^\n]*:\s*\n\s*(?P<at>\S+)[^\n]*\n\s*"
_FUNCTIONS = "a function of ngspice (abs exp ln log10 max min pow sin sqrt tanh ...) or of a .func line"
_BRANCH = (
    "it lies in a loop of voltage sources and inductors, whose current nothing limits",
    "put a resistor in the loop, or remove one of its sources",
)
_SYMPTOMS = (
    _symptom(
        r"(?:can't find model|unable to find definition of model)\W*(?P<name>[\w.]+)",
        "the device model {name!r} is not defined",
        "add its .model line, mend the spelling, or name under [models] the library that holds it",
    ),
    _symptom(
        r"unknown subckt:\s*(?P<at>\S+)[^\n]*?(?P<name>\S+)\s*$",
        "the subcircuit {name!r} is not defined",
        "define it in this file, mend the spelling, or name under [models] the library that holds it",
    ),
    _symptom(
        r"undefined parameter \[(?P<name>\w+)\]",
        "the parameter {name!r} is used and not defined",
        "add it to the .subckt line with a default, or mend the spelling",
    ),
    _symptom(r"no such function '(?P<name>\w+)'", "the function {name!r} does not exist", f"use {_FUNCTIONS}"),
    _symptom(
        r"expression err: *(?P<at>[^\n]*?)[}) ]*$",
        "an expression ends where a value should stand, after {at!r}",
        "complete it",
    ),
    _symptom(
        rf"(?:yyparse error|pterror)(?:[^\n]*at line (?P<line>\d+)|(?:.|\n)*?{_ON_LINE})",
        "its expression cannot be read",
        "complete it, and write products with *",
    ),
    _symptom(
        _ON_LINE + r"unknown parameter \((?P<name>[-+]?(?:inf|nan)\w*)\)",
        "an expression gives {name}",
        "mend what it divides by, or takes the root or logarithm of",
    ),
    _symptom(
        _ON_LINE + r"unknown parameter \((?P<name>[^)]*)\)",
        "{name!r} is neither a value nor a parameter of this kind of device",
        "mend the spelling, or remove it",
    ),
    _symptom(_ON_LINE + r"device already exists", "two elements have this name", "rename one of them"),
    _symptom(
        _ON_LINE + r"incorrect model type", "its .model line is for another kind of device", "name a fitting model"
    ),
    _symptom(
        _ON_LINE + r"could not find a valid modelname",
        "no model fits it: the .model has a LEVEL ngspice lacks or covers other sizes, or a node is missing",
        "count its nodes, then look at W, L and the .model line",
    ),
    _symptom(
        r"model issue on line[^\n]*\n\s*\.model \S*?:?(?P<at>[^\s:]+) [^\n]*\n"
        r"(?:[^\n]*\n)*?[^\n]*unrecognized parameter \((?P<name>\w+)\)",
        "the model has no parameter {name!r}: ngspice ignores it",
        "mend the spelling, or remove it",
    ),
    _symptom(
        r"illegal value for level",
        "a .model line has a LEVEL that ngspice does not have: it would take level 1",
        "use a level of ngspice (MOS: 1-6, 8 or 49 for BSIM3, 14 or 54 for BSIM4)",
    ),
    _symptom(r"(?:not enough parameters in|too few (?:parameters|nodes)[^\n]*?) line\s*\n\s*(?P<at>\S+)",
             "the line lacks a node or a value", "count its nodes"),
    _symptom(r"fatal error: (?P<at>\S+): unknown controlling source v\.(?:\w+\.)*(?P<name>\w+)",
             "it is controlled by the current of {name!r}, and there is no such voltage source",
             "add a 0 V source of that name where the current is to be sensed, or mend the spelling"),
    _symptom(r"fatal error: (?P<at>\S+): coupling to non-exist[ae]nt inductor l\.(?:\w+\.)*(?P<name>\w+)",
             "it couples {name!r}, and there is no such inductor", "mend the name"),
    _symptom(r"value of resistor (?P<at>\S+) is too small", "its resistance is 0", "give it a positive value"),
    _symptom(r"(?P<name>\S+) out of range for (?P<function>\w+)\s*\n\s*in line (?P<at>\S+)",
             "its expression takes {function} of {name}", "bound the argument, as in sqrt(max(x, 0))"),
    _symptom(r"singular matrix:?\s*check nodes? (?P<at>\S+#branch)", *_BRANCH),
    _symptom(r"singular matrix:?\s*check nodes? (?P<at>\S+)",
             "node {node!r} has no DC path: it floats, or nothing but capacitors and current sources reaches it",
             "give it a resistive path, or mend the spelling of a node"),
    _symptom(r"(?P<at>[vi]\([^()]*\)) = (?P<name>\S+) at point \d+ is not finite or not below",
             "{at} is at {name} with all inputs at mid-supply: an expression overflows or divides by zero",
             "bound its argument, as in exp(min(x, 80))"),
    _symptom(r"killed after its limit of (?P<name>[\d.]+) s", "ngspice finds no operating point in {name} s",
             "look for expressions that jump or oscillate"),
)  # fmt: skip


def explain_failure(cell: Cell, corner: Corner, error: SimulationError) -> str:
    """Message of a cell that ngspice cannot instantiate: file and line, cause, likely mend, ngspice's own words.

    The run's folder must still stand: the whole log is read.
    """
    path = None if error.folder is None else error.folder / "ngspice.log"
    log = path.read_text(encoding="latin-1") if path is not None and path.is_file() else ""
    netlist = netlist_path(cell)
    for symptom in _SYMPTOMS:
        match = symptom.words.search(f"{log}\n{error.reason}")
        if match is None:
            continue
        found = {key: value for key, value in match.groupdict().items() if value is not None}
        line = _find(cell, found)
        place = str(netlist) if line is None else line.quoted
        cause = symptom.cause.format(**found, node=found.get("at", "").lower().removeprefix(f"{INSTANCE}."))
        words = " ".join(match[0].split())[:200]
        return f"{place}: {cause}; {symptom.mend}. ngspice at {corner.name}: {words!r}"
    if isinstance(error, ConvergenceError):
        return (
            f"{netlist}: ngspice finds no operating point of {cell.name} at {corner.name}, all inputs at mid-supply; "
            f"check bias, supplies in [conditions], and expressions that jump. ngspice: {error.reason!r}"
        )
    what = f"ngspice cannot instantiate {cell.name} at {corner.name}: {error.reason}"
    return f"{netlist}: {what}; it said:\n{error.log_tail}"


def netlist_path(cell: Cell) -> Path:
    """The user's file that holds the cell's netlist."""
    return Path(cell.source).with_name(cell.contract.cell.netlist)


def written_scopes(cell: Cell) -> Scope:
    """Tree of the subcircuits of the cell's files as the user wrote them; each line knows its file and line number."""
    path = netlist_path(cell)
    return read_scopes(*written_in(path, path.parent, Path(cell.source)))


def _find(cell: Cell, found: dict[str, str]) -> LogicalLine | None:
    """Line of the user's files that ngspice means, by its number, its hierarchical name, or a word on it."""
    root = written_scopes(cell)
    lines = [line for scope in root.walk() for line in (scope.opening, *scope.lines) if line is not None]
    if "line" in found:  # counted in the text ngspice was given
        given = cell.netlist.split("\n")[int(found["line"]) - 1].split()
        return next((line for line in lines if given and line.card == given[0].lower()), None)
    at = found.get("at", found.get("name", "")).lower()
    path = re.sub(r"^[vi]\(|\)$|#branch$", "", at).split(".")
    if INSTANCE in path:
        top = next(scope for scope in root.inner if scope.header.name == cell.header.name)
        return _follow(top, path[path.index(INSTANCE) + 1 :])
    word = re.compile(rf"(?<![\w.]){re.escape(at)}(?!\w)")
    elements = [line for line in lines if line.card == at]
    models = [line for line in lines if re.match(rf"\.model\s+{re.escape(at)}\b", line.text.lower())]
    return next(iter([*elements, *models, *(line for line in lines if at and word.search(line.text.lower()))]), None)


def _follow(scope: Scope, path: list[str]) -> LogicalLine | None:
    """The element, or the first one at the node, that a hierarchical name means; where it leaves the file, the call."""
    for name in path[:-1]:
        call = next((line for line in scope.lines if line.card == name), None)
        called = scope.find(callee(call)[1]) if call is not None and name.startswith("x") else None
        if called is None:
            return call
        scope = called
    elements = [line for line in scope.lines if line.card == path[-1]]
    at_node = [
        line for line in scope.lines if line.card[0] != "." and path[-1] in re.findall(r"\w+", line.text.lower())
    ]
    return next(iter([*elements, *at_node]), None)
