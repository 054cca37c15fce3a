"""Reading a `.subckt` header: pins by name and in order, parameters with their defaults.

SPICE readers in Python take ``params:`` for a pin, or drop a default with spaces round its ``=``; pins are
wired by name here, so a misread header would wire a cell wrongly without any message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from analog_deq.errors import NetlistError

_NAME = re.compile(r"[A-Za-z_][\w.#:+-]*\Z")
_ASSIGNMENT = re.compile(r"\s*([A-Za-z_]\w*)\s*=\s*")
_PARAMS_WORD = re.compile(r"(?<!\S)params:", re.IGNORECASE)
_FIRST_ASSIGNMENT = re.compile(r"(?<!\S)[A-Za-z_]\w*\s*=")
_CLOSING = {"{": "}", "'": "'", '"': '"', "(": ")"}


@dataclass(frozen=True, slots=True)
class LogicalLine:
    """A netlist line with its continuations joined: first line number, text as written, text without comments."""

    number: int
    raw: str
    text: str


@dataclass(frozen=True, slots=True)
class SubcktHeader:
    """Name, pins in order and parameter defaults (as written, braces kept) of one `.subckt`, all in lower case."""

    name: str
    pins: tuple[str, ...]
    params: dict[str, str]
    line: int


def logical_lines(text: str, source: str = "netlist") -> Iterator[LogicalLine]:
    """Lines of ``text`` as ngspice sees them: continuations joined, comment lines and trailing comments dropped.

    Comments are a line starting with ``*``, ``$`` or ``;``, and what follows ``;`` or a spaced ``$`` in a line.
    Comment lines may stand between a line and its continuation. Raises NetlistError when a ``+`` line
    continues nothing.

    >>> [line.text for line in logical_lines("R1 a b\\n* note\\n+ 1k ; load\\n")]
    ['R1 a b 1k']
    """
    pending: LogicalLine | None = None
    for number, raw in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        stripped = strip_comment(raw)
        if not stripped:
            continue
        if stripped.startswith("+"):
            if pending is None:
                raise NetlistError(
                    f"{source}:{number}: {raw.strip()!r} continues no line; remove the '+' or the blank before it"
                )
            joined = f"{pending.text} {stripped[1:].strip()}".rstrip()
            pending = LogicalLine(pending.number, f"{pending.raw} {raw.strip()}", joined)
            continue
        if pending is not None:
            yield pending
        pending = LogicalLine(number, raw.strip(), stripped)
    if pending is not None:
        yield pending


def strip_comment(raw: str) -> str:
    """``raw`` without its comment and outer blanks; empty for a comment line.

    >>> strip_comment("  R1 a b 1k  $ load")
    'R1 a b 1k'
    """
    line = raw.strip()
    if line[:1] in {"*", "$", ";"}:
        return ""
    line = line.split(";", 1)[0]
    return re.split(r"(?:^|(?<=\s))\$(?=\s|$)", line, maxsplit=1)[0].strip()


def read_header(text: str, subckt: str | None = None, source: str = "netlist") -> SubcktHeader:
    """Header of the top `.subckt` of ``text``, or of the one named ``subckt`` at any depth.

    Pins and names come back in lower case, as ngspice holds them; defaults come back as written. Raises
    NetlistError naming file and line for: no such subcircuit, several at the top and none named, an unbalanced
    ``.ends``, a repeated pin or parameter, a parameter without a value.

    >>> read_header(".SUBCKT Amp in out params: gain = {2*k} r=1k\\n.ends\\n").params
    {'gain': '{2*k}', 'r': '1k'}
    """
    depth, found, opened = 0, [], []
    for line in logical_lines(text, source):
        card = line.text.split(None, 1)[0].lower()
        if card == ".subckt":
            header = _parse(line, source)
            if (depth == 0) if subckt is None else (header.name == subckt.lower()):
                found.append(header)
            opened.append(header)
            depth += 1
        elif card == ".ends":
            if depth == 0:
                raise NetlistError(f"{source}:{line.number}: {line.raw!r} closes no .subckt; remove it")
            depth -= 1
            opened.pop()
    if opened:
        raise NetlistError(f"{source}:{opened[-1].line}: .subckt {opened[-1].name} has no .ends; add '.ends'")
    if not found:
        wanted = "no .subckt" if subckt is None else f"no '.subckt {subckt}'"
        raise NetlistError(f"{source}: {wanted} in this file; a cell is one .subckt ... .ends")
    if len(found) > 1:
        places = ", ".join(f"{h.name} (line {h.line})" for h in found)
        raise NetlistError(f"{source}: several subcircuits fit: {places}; name one, or nest the helpers inside it")
    return found[0]


def _parse(line: LogicalLine, source: str) -> SubcktHeader:
    where = f"{source}:{line.number}"
    words = line.text.split(None, 1)
    rest = words[1] if len(words) == 2 else ""
    marker = _PARAMS_WORD.search(rest)
    first = _FIRST_ASSIGNMENT.search(rest)
    if marker is not None and (first is None or marker.start() < first.start()):
        pins_text, params_text = rest[: marker.start()], rest[marker.end() :]
    elif first is not None:
        pins_text, params_text = rest[: first.start()], rest[first.start() :]
    else:
        pins_text, params_text = rest, ""
    names = pins_text.lower().split()
    if not names or _NAME.match(names[0]) is None:
        raise NetlistError(f"{where}: {line.raw!r} has no name; write '.subckt name pin pin ...'")
    name, pins = names[0], tuple(names[1:])
    if not pins:
        raise NetlistError(f"{where}: {line.raw!r} has no pins; list them after the name")
    repeated = sorted({p for p in pins if pins.count(p) > 1})
    if repeated:
        raise NetlistError(f"{where}: pin {repeated[0]!r} appears twice in {line.raw!r}; give each pin its own name")
    return SubcktHeader(name, pins, _parse_params(params_text, where, line.raw), line.number)


def _parse_params(text: str, where: str, raw: str) -> dict[str, str]:
    params: dict[str, str] = {}
    position = 0
    while text[position:].strip():
        match = _ASSIGNMENT.match(text, position)
        if match is None:
            raise NetlistError(
                f"{where}: cannot read {text[position:].strip()!r} in {raw!r}; write every parameter as name=value"
            )
        position = _value_end(text, match.end())
        value = text[match.end() : position].strip()
        if not value:
            raise NetlistError(f"{where}: parameter {match[1]!r} has no value in {raw!r}; write {match[1]}=number")
        key = match[1].lower()
        if key in params:
            raise NetlistError(f"{where}: parameter {match[1]!r} appears twice in {raw!r}; keep one")
        params[key] = value
    return params


def _value_end(text: str, start: int) -> int:
    """End of the value starting at ``start``: a balanced brace or quoted expression, else up to the next blank."""
    if start < len(text) and text[start] in _CLOSING:
        opening, closing, depth = text[start], _CLOSING[text[start]], 0
        for index in range(start, len(text)):
            if text[index] == closing and (opening == closing) and index > start:
                return index + 1
            if opening != closing:
                depth += (text[index] == opening) - (text[index] == closing)
                if depth == 0:
                    return index + 1
        return start  # never closed: reported as a parameter without a value
    match = re.compile(r"\S*").match(text, start)
    return start if match is None else match.end()
