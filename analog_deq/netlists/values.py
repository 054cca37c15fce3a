"""Refusing values in a netlist that ngspice reads otherwise than they look: numbers, resistances, loose brackets."""

from __future__ import annotations

import re

from analog_deq.errors import NetlistError, SpecError
from analog_deq.netlists.lines import LogicalLine
from analog_deq.units import parse_spice_number

_LITERAL = re.compile(r"(?<![\w.$])((?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[A-Za-z]*)([\w.%@]*)")
_PROBE = re.compile(r"\b[vi]\([^()]*\)", re.IGNORECASE)  # node names may look like numbers
_VERSION = re.compile(r"\bversion\s*=\s*[\w.]+", re.IGNORECASE)
_NOT_FINITE = re.compile(r"(?<![\w.])(nan|inf|infinity)(?![\w.(])", re.IGNORECASE)
_NAME_WORDS = {
    "r": 3, "c": 3, "l": 3, "k": 3, "v": 3, "i": 3, "b": 3, "f": 4, "h": 4, "d": 4, "j": 5, "q": 5, "s": 6, "w": 5,
    "t": 5, "m": 6,
}  # fmt: skip
"""How many words of an element's line are its name, nodes and model, which may look like numbers."""


def screen_values(line: LogicalLine, resistor_models: frozenset[str] | None) -> None:
    """Nothing, when every number of ``line`` is what it looks like. NetlistError quoting the line otherwise.

    A resistor needs a positive value, an expression, or a model of ``resistor_models`` (None: not known yet).
    """
    _screen_brackets(line)
    if _NOT_FINITE.search(line.text):
        raise line.error("holds NaN or infinity", "write a finite number")
    values = _values(line)
    comma = re.search(r"\d,\d+", re.sub(r"\([^()]*\)", "", values))
    if comma:
        raise line.error(f"holds {comma[0]!r}, of which ngspice keeps one part", "write a decimal point, or a blank")
    quoted = line.quoted
    for number, rest in _LITERAL.findall(_VERSION.sub("", _PROBE.sub("", values))):
        try:
            parse_spice_number(number + rest, quoted)
        except SpecError as error:
            raise NetlistError(str(error)) from None
    if line.card[0] == "r":
        _screen_resistor(line, resistor_models)


def _values(line: LogicalLine) -> str:
    """The part of ``line`` that holds values, not names of nodes, models and subcircuits."""
    words = line.text.split()
    if line.card == ".subckt" or line.card[0] == "x":
        first = re.search(r"\w+\s*=", line.text)
        return line.text[first.start() :] if first else ""
    if line.card == ".model":
        return line.text.split(None, 2)[2] if len(words) > 2 else ""
    if line.card in {".include", ".inc", ".lib"}:
        return ""
    if line.card[0] in "eg":
        controlled = len(words) > 4 and not re.search(r"[={(']", words[3] + words[4])
        return " ".join(words[5 if controlled else 3 :])
    return " ".join(words[_NAME_WORDS.get(line.card[0], 1) :])


def _screen_brackets(line: LogicalLine) -> None:
    for opening, closing in ("{}", "()"):
        if line.text.count(opening) != line.text.count(closing):
            raise line.error(f"has an unequal number of {opening!r} and {closing!r}", "close each one")
    for quote in "'\"":
        if line.text.count(quote) % 2:
            raise line.error(f"has a {quote} that is never closed", "close it")


def _screen_resistor(line: LogicalLine, models: frozenset[str] | None) -> None:
    value = line.text.split(None, 3)[3]
    keyed = re.match(r"(?:r|resistance)\s*=\s*(.*)", value, re.IGNORECASE)
    value = (keyed[1] if keyed else value).strip()
    expression = value[:1] in {"{", "'"}
    inner = value[1:].split("}" if value[0] == "{" else "'", 1)[0].strip() if expression else value.split()[0]
    try:
        ohm = parse_spice_number(inner)
    except SpecError:
        # ngspice takes a bare word for a model name, and an unknown one for 1 mohm.
        if not expression and models is not None and inner.lower() not in models:
            raise line.error(
                f"has no value ngspice can read ({inner!r})", "write a positive number or {expression}"
            ) from None
        return
    if ohm <= 0:
        taken = "and ngspice takes it so" if ohm < 0 else "which ngspice makes 1 mohm or less"
        raise line.error(f"has the resistance {inner}, {taken}", "write a positive value")
