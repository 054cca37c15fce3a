"""Refusing what a cell's netlist must not hold, line by line, before any simulator reads it.

ngspice runs shell commands from a control block, from a ``*#`` "comment", and from included files; it takes a
resistor without a value for 1 mohm and ``1M`` for a milli without an error. So the screen is an allow-list of
element letters, dot cards and model types: what it does not know, it refuses.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator

from analog_deq.errors import NetlistError, SpecError
from analog_deq.netlists.header import LogicalLine, logical_lines, read_header
from analog_deq.units import parse_spice_number

ELEMENT_WORDS = {
    "r": 4, "c": 4, "l": 4, "k": 4, "v": 3, "i": 3, "e": 5, "g": 5, "f": 5, "h": 5, "b": 4, "d": 4, "q": 5, "j": 5,
    "m": 6, "x": 3, "s": 6, "w": 5, "t": 6,
}  # fmt: skip
"""Allowed element letters and the fewest words such a line can have."""

INCLUDE_CARDS = frozenset({".include", ".inc", ".lib"})
CARDS = frozenset({".subckt", ".ends", ".model", ".param", ".func"}) | INCLUDE_CARDS
MODEL_TYPES = frozenset(
    {"r", "c", "l", "d", "npn", "pnp", "njf", "pjf", "nmos", "pmos", "vdmos", "sw", "csw"},
)
_COMMANDS = frozenset(
    {
        "codemodel", "destroy", "echo", "edit", "exec", "hardcopy", "load", "quit", "run", "set", "setcs", "shell",
        "snload", "snsave", "source", "system", "write", "wrdata", "wrs2p",
    }
)  # fmt: skip
"""Command words that would pass for an element by their first letter; no element is named so in good faith."""

_RANDOM = re.compile(
    r"\b(agauss|gauss|aunif|unif|sgauss|sunif|limit|rnd|rand|random|poisson|exponential)\s*\(|\b(trnoise|trrandom)\b",
    re.IGNORECASE,
)
_XSPICE = re.compile(r"\b(poly|table|laplace|s_xfer)\s*[({=]|\bexternal\b", re.IGNORECASE)
_FILE = re.compile(r"\b(input_|state_)?file(name)?\s*=", re.IGNORECASE)
_NOT_FINITE = re.compile(r"(?<![\w.])(nan|inf|infinity)(?![\w.(])", re.IGNORECASE)
_LITERAL = re.compile(r"(?<![\w.])((?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)([A-Za-z]*)")
_CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def screen_netlist(text: str, source: str, *, fragment: bool = False) -> None:
    """None when ``text`` is a safe cell: one top `.subckt` that holds everything; ``fragment``: a file for one.

    ``source`` names the file in messages. Raises NetlistError with file, line, the line quoted, and the mend, for:
    anything outside an allow-list of elements, cards and model types; control language, ``*#`` lines, backticks;
    random functions and noise sources (all randomness is drawn outside); file reading and XSPICE; a
    resistor without a value or not positive; NaN, infinity, and the suffixes ``M`` and ``F`` ngspice misreads.

    >>> screen_netlist(".subckt a p n\\nR1 p n 1k\\n.ends\\n", "a.cir")
    """
    for number, raw in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        _screen_raw(raw, f"{source}:{number}")
    resistor_models = set(re.findall(r"^\s*\.model\s+(\S+)\s+r\b", text, re.IGNORECASE | re.MULTILINE))
    depth, tops = 0, 0
    for line in logical_lines(text, source):
        where = f"{source}:{line.number}"
        refuse = _refuser(where, line)
        card = line.text.split(None, 1)[0].lower()
        if card == ".subckt":
            tops += depth == 0
            depth += 1
        elif depth == 0 and not fragment:
            refuse("stands outside the .subckt", "move it inside, so that two cells can share one deck")
        elif card == ".ends":
            depth -= 1
        if tops > 1 and not fragment:
            refuse("starts a second top-level .subckt", "nest helper subcircuits inside the cell's own")
        if card in INCLUDE_CARDS and not fragment:
            refuse("brings in a file", "a cell is one text: read_netlist writes its files in")
        _screen_line(line, card, refuse, resistor_models)
    if not fragment:
        read_header(text, source=source)


def _refuser(where: str, line: LogicalLine) -> Callable[[str, str], None]:
    def refuse(what: str, mend: str) -> None:
        raise NetlistError(f"{where}: {line.raw!r} {what}; {mend}")

    return refuse


def _screen_raw(raw: str, where: str) -> None:
    """What is refused wherever it stands, comments included: ngspice's own reader comes before its comments."""
    line = raw.strip(" \t")  # ngspice knows no other blanks
    quoted = repr(raw.strip()[:200])
    if re.match(r"\*\s*#|\*\s*ng_script", line, re.IGNORECASE):
        raise NetlistError(f"{where}: {quoted} runs as a command in ngspice, it is no comment; remove it")
    if _CONTROL_CHARACTER.search(raw):
        raise NetlistError(f"{where}: {quoted} holds a control character; keep to printable text and tabs")
    if "`" in raw or "\\" in raw:
        raise NetlistError(f"{where}: {quoted} holds a backtick or backslash; continue a line with '+' instead")
    if line[:1] == "$":
        raise NetlistError(f"{where}: {quoted} starts with '$', which ngspice warns of; start a comment with '*'")
    if line[:1] not in {"*", ";"}:
        body = re.split(r";|\s\$\s", line, maxsplit=1)[0]
        if not body.isascii():
            raise NetlistError(f"{where}: {quoted} holds a non-ASCII character; keep those to comments")


def _screen_line(line: LogicalLine, card: str, refuse: Callable[[str, str], None], resistor_models: set[str]) -> None:
    # Patterns look at the line as written, trailing comment included: a comment ngspice reads otherwise hides nothing.
    if _RANDOM.search(line.raw):
        refuse("draws random numbers", "pass mismatch in as a parameter; every draw is made outside, with its seed")
    if _FILE.search(line.raw):
        refuse("reads a file", "write the values in the netlist")
    if _XSPICE.search(line.raw):
        refuse("needs an XSPICE code model or an outside source", "write it with E, G or B and an expression")
    if "$" in line.text or "//" in line.text or "#" in line.text:
        refuse("holds '$', '//' or '#', which ngspice may take for a comment", "comment with '*' or ';'")
    if card.startswith("."):
        _screen_card(line, card, refuse)
    elif card[0] not in ELEMENT_WORDS or card in _COMMANDS:
        refuse(
            f"is not an element a cell may hold ({card!r})",
            "allowed are R C L K V I E G F H B D Q J M X S W T, each with a number or name after the letter",
        )
    elif len(line.text.replace("=", " = ").split()) < ELEMENT_WORDS[card[0]]:
        refuse("is too short for its element", "give its nodes and a value")
    if _NOT_FINITE.search(line.text):
        refuse("holds NaN or infinity", "write a finite number")
    _screen_literals(line, refuse)
    if card[0] == "r":
        _screen_resistor(line, refuse, resistor_models)


def _screen_card(line: LogicalLine, card: str, refuse: Callable[[str, str], None]) -> None:
    if card not in CARDS:
        refuse(f"has the card {card}, which a cell must not hold", "analyses, options and supplies are the deck's")
    words = line.text.split()
    if card == ".model":
        kind = re.split(r"[\s(]", " ".join(words[2:]).lower() or " ", maxsplit=1)[0]
        if kind not in MODEL_TYPES:
            refuse(f"has the model type {kind!r}", f"allowed are {', '.join(sorted(MODEL_TYPES))}")
    if card in INCLUDE_CARDS:
        _screen_include(line, card, refuse)


def _screen_include(line: LogicalLine, card: str, refuse: Callable[[str, str], None]) -> None:
    name, section = included_file(line)
    if card == ".lib" and not (name and re.fullmatch(r"[\w.-]+", section)):
        refuse("is no '.lib FILE SECTION'", "name a file beside the cell and one of its .lib sections")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", name) or ".." in name.split("/"):
        refuse(f"includes {name!r}", "include a file beside the cell, by its relative name")


def included_file(line: LogicalLine) -> tuple[str, str]:
    """(file, section) of an ``.include`` or ``.lib`` line, quotes off; empty where it names none or says more.

    >>> included_file(LogicalLine(1, "", ".lib 'corners.lib' TT"))
    ('corners.lib', 'tt')
    """
    card, *words = re.findall(r"'[^']*'|\"[^\"]*\"|\S+", line.text)
    names = [word.strip("\"'") for word in words]
    if card.lower() == ".lib":
        return (names[0], names[1].lower()) if len(names) == 2 else ("", "")
    return (names[0] if len(names) == 1 else "", "")


def _literals(text: str) -> Iterator[tuple[str, str]]:
    for match in _LITERAL.finditer(text):
        yield match[1], match[2]


def _screen_literals(line: LogicalLine, refuse: Callable[[str, str], None]) -> None:
    words = line.text.split(None, 1)
    for mantissa, suffix in _literals(words[1] if len(words) == 2 else ""):
        if not math.isfinite(float(mantissa)):
            refuse(f"holds {mantissa}, which overflows", "write a finite number")
        lower = suffix.lower()
        if suffix.startswith("M") and not lower.startswith(("meg", "mil")):
            refuse(
                f"holds {mantissa}{suffix}, milli to ngspice", f"write {mantissa}Meg for mega or {mantissa}m for milli"
            )
        if suffix.startswith("F") or lower.startswith("farad"):
            refuse(
                f"holds {mantissa}{suffix}, femto to ngspice", f"write {mantissa} for farads or {mantissa}f for femto"
            )


def _screen_resistor(line: LogicalLine, refuse: Callable[[str, str], None], models: set[str]) -> None:
    value = line.text.split(None, 3)[3]
    keyed = re.match(r"(?:r|resistance)\s*=\s*(.*)", value, re.IGNORECASE)
    value = (keyed[1] if keyed else value).strip()
    if value[:1] in {"{", "'"}:
        inner = value[1:].split("}" if value[0] == "{" else "'", 1)[0].strip()
        expression = True
    else:
        inner, expression = value.split()[0] if value else "", False
    try:
        ohm = parse_spice_number(inner)
    except SpecError:
        # ngspice takes a bare word for a model name, and an unknown one for 1 mohm.
        if not expression and inner.lower() not in {m.lower() for m in models}:
            refuse(f"has no value ngspice can read ({inner!r})", "write a positive number or {expression}")
        return
    if ohm <= 0:
        refuse(f"has the resistance {inner}, ngspice makes that 1 mohm or worse", "write a positive value")
