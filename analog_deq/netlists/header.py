"""Reading a `.subckt` header: pins by name and in order, parameters with their defaults; and the tree of scopes.

SPICE readers in Python take ``params:`` for a pin, or drop a default with spaces round its ``=``; pins are
wired by name here, so a misread header would wire a cell wrongly without any message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from analog_deq.errors import NetlistError
from analog_deq.netlists.lines import LogicalLine as LogicalLine
from analog_deq.netlists.lines import logical_lines as logical_lines
from analog_deq.netlists.lines import parse_assignments, split_params

MAX_DEPTH = 32
"""How deep subcircuits may be defined inside each other."""

_NAME = re.compile(r"\w[\w.#:+-]*\Z")
_PIN = re.compile(r"[^\s(){}'\"=,;]+\Z")


@dataclass(frozen=True, slots=True)
class SubcktHeader:
    """Name, pins in order and parameter defaults (as written, braces kept) of one `.subckt`, all in lower case."""

    name: str
    pins: tuple[str, ...]
    params: dict[str, str]
    line: int


@dataclass(slots=True, eq=False)
class Scope:
    """A `.subckt` with its lines (header and ``.ends`` left out) and the subcircuits defined in it; root: the file.

    Two scopes are equal only when they are the same definition.
    """

    opening: LogicalLine | None = None
    header: SubcktHeader = field(default_factory=lambda: SubcktHeader("", (), {}, 0))
    lines: list[LogicalLine] = field(default_factory=list)
    inner: list[Scope] = field(default_factory=list)
    closing: LogicalLine | None = None
    outer: Scope | None = None

    def walk(self) -> Iterator[Scope]:
        """This scope and every one inside it, outermost first."""
        yield self
        for scope in self.inner:
            yield from scope.walk()

    def find(self, name: str) -> Scope | None:
        """Definition that ``name`` means here: of this scope, else of the nearest one round it."""
        for scope in self.inner:
            if scope.header.name == name.lower():
                return scope
        return None if self.outer is None else self.outer.find(name)

    def params(self) -> dict[str, LogicalLine]:
        """Names set by `.param` lines of this scope itself."""
        lines = [line for line in self.lines if line.card == ".param"]
        return {name: line for line in lines for name in parse_assignments(line.text.split(None, 1)[-1], line)}


def read_scopes(text: str, source: str | Sequence[str] = "netlist") -> Scope:
    """Tree of the subcircuits of ``text``. NetlistError for an unbalanced or misnamed ``.ends`` and a bad header."""
    here, depth = Scope(), 0
    for line in logical_lines(text, source):
        if line.card == ".subckt":
            here.inner.append(Scope(line, parse_header(line), outer=here))
            here, depth = here.inner[-1], depth + 1
            if depth > MAX_DEPTH:
                raise line.error(f"is defined {depth} subcircuits deep", f"at most {MAX_DEPTH}")
        elif line.card == ".ends":
            if here.outer is None:
                raise line.error("closes no .subckt", "remove it")
            if line.text.lower().split()[1:] not in ([], [here.header.name]):
                raise line.error(f"stands at the end of .subckt {here.header.name}", "mend the name or the nesting")
            here.closing = line
            here, depth = here.outer, depth - 1
        else:
            here.lines.append(line)
    if here.opening is not None:
        raise NetlistError(f"{here.opening.where}: .subckt {here.header.name} has no .ends; add '.ends'")
    return here


def read_header(text: str, subckt: str | None = None, source: str | Sequence[str] = "netlist") -> SubcktHeader:
    """Header of the top `.subckt` of ``text``, or of the one named ``subckt`` at any depth.

    Pins and names come back in lower case, as ngspice holds them; defaults come back as written. Raises
    NetlistError naming file and line for: no such subcircuit, several that fit, an unbalanced ``.ends``, a repeated
    pin or parameter, a pin ngspice wires to ground, a parameter without a value or set again by a `.param`.

    >>> read_header(".SUBCKT Amp in out params: gain = {2*k} r=1k\\n.ends\\n").params
    {'gain': '{2*k}', 'r': '1k'}
    """
    root = read_scopes(text, source)
    wanted = root.inner if subckt is None else [s for s in root.walk() if s.header.name == subckt.lower()]
    name = source if isinstance(source, str) else source[0] if source else "netlist"
    if not wanted:
        what = "no .subckt" if subckt is None else f"no '.subckt {subckt}'"
        raise NetlistError(f"{name}: {what} in this file; a cell is one .subckt ... .ends")
    if len(wanted) > 1:
        places = ", ".join(f"{s.header.name} (line {s.header.line})" for s in wanted)
        raise NetlistError(f"{name}: several subcircuits fit: {places}; name one, or nest the helpers inside it")
    check_params(wanted[0])
    return wanted[0].header


def check_params(scope: Scope) -> None:
    """Nothing, when no `.param` of ``scope`` sets a parameter of its header: ngspice lets it overrule the default."""
    for name, line in scope.params().items():
        if name in scope.header.params:
            raise line.error(
                f"sets {name!r}, a parameter of .subckt {scope.header.name}: ngspice drops the default of the header",
                "rename one of them",
            )


def parse_header(line: LogicalLine) -> SubcktHeader:
    """Header of one `.subckt` line, what :func:`read_header` says of errors."""
    text = line.text.split(None, 1)[1] if len(line.text.split(None, 1)) == 2 else ""
    before, params = split_params(text)
    name, _, rest = before.replace("\t", " ").partition(" ")
    if _NAME.match(name) is None:
        raise line.error("has no name", "write '.subckt name pin pin ...'")
    rest = rest.strip()
    if rest.startswith("("):
        rest = rest[1:].replace(")", " ", 1)  # as ngspice does
    if "," in rest:
        raise line.error("has a comma among its pins, where ngspice 46 loses pins", "put blanks between them")
    pins = tuple(rest.lower().split())
    if not pins:
        raise line.error("has no pins", "list them after the name")
    for pin in pins:
        if _PIN.match(pin) is None:
            raise line.error(f"has {pin!r} among its pins", "write the pins as plain names")
        if pin in {"0", "gnd"}:
            raise line.error(f"has the pin {pin!r}, which ngspice wires to ground whatever is connected", "rename it")
    repeated = sorted({pin for pin in pins if pins.count(pin) > 1})
    if repeated:
        raise line.error(f"is wrong: pin {repeated[0]!r} appears twice", "give each pin its own name")
    return SubcktHeader(name.lower(), pins, parse_assignments(params, line), line.number)
