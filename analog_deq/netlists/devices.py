"""What a netlist asks of a model library: the devices it uses and does not define, and the sizes it uses them at."""

from __future__ import annotations

import re
from collections.abc import Collection

from analog_deq.errors import SpecError
from analog_deq.netlists.lines import logical_lines, split_params
from analog_deq.units import parse_spice_number

Size = tuple[float, float, float | None]
"""(w, l, nf or None for the library's default) of an instance, in the library's own unit."""

ASSIGNMENT = re.compile(r"""([A-Za-z_]\w*)(\s*=\s*)(\{[^{}]*\}|'[^']*'|"[^"]*"|[^\s{}'"=]+)""")
"""Name, equals sign and value (braces and quotes kept) of one assignment on a line."""

_MODEL_PLACES = {"m": (5,), "d": (3,), "q": (4, 5), "j": (4,), "s": (5,), "w": (4,), "r": (3,), "c": (3,), "l": (3,)}
_FLAGS = frozenset({"off", "on", "thermal"})


def device_names(netlist: str) -> set[str]:
    """Names of subcircuits and models, lower case, that a netlist uses and does not define: its library must.

    >>> sorted(device_names(".subckt a p n\\nX1 p n 0 0 nfet w=1 l=1\\nD1 p n dm\\n.model dm d\\n.ends\\n"))
    ['nfet']
    """
    return set(device_sizes(netlist))


def device_sizes(netlist: str) -> dict[str, frozenset[Size] | None]:
    """For each of :func:`device_names`: every (w, l, nf) it is instantiated with, or None when one is no number.

    >>> device_sizes(".subckt a p n wx=2\\nX1 p n 0 0 nfet w=1 l=0.5\\nX2 p n 0 0 pfet w={wx} l=1\\n.ends\\n")
    {'nfet': frozenset({(1.0, 0.5, None)}), 'pfet': None}
    """
    lines = [line.text.lower() for line in logical_lines(netlist)]
    defined = {text.split()[1] for text in lines if re.match(r"\.(subckt|model)\s+\S", text)}
    sizes: dict[str, frozenset[Size] | None] = {}
    for text in lines:
        name = _used_name(text, defined)
        if name is None or name in defined:
            continue
        size, known = _size(text), sizes.get(name, frozenset())
        sizes[name] = None if size is None or known is None else known | {size}
    return sizes


def leading_words(text: str) -> list[str]:
    """Words of a line before its first assignment or expression."""
    return re.split(r"[{'\"]", split_params(text)[0], maxsplit=1)[0].split()


def assignments(text: str) -> dict[str, str]:
    """Assignments of a line, lower case, values without braces and quotes.

    >>> assignments("M1 d g s b nch W = {w} l='2*ll' nf=1")
    {'w': 'w', 'l': '2*ll', 'nf': '1'}
    """
    return {match[1].lower(): match[3].strip("{}'\" ").lower() for match in ASSIGNMENT.finditer(text)}


def literal(text: str | None) -> float | None:
    """Value of a SPICE number in lower case, None for anything else."""
    try:
        return None if text is None else parse_spice_number(text)
    except SpecError:
        return None


def _used_name(text: str, defined: Collection[str]) -> str | None:
    """Subcircuit or model that an element line refers to; None for a card, a source, or an element with a value."""
    words = leading_words(text)
    if text[0] == "x":
        return words[-1] if len(words) > 1 else None
    names = [words[k] for k in _MODEL_PLACES.get(text[0], ()) if k < len(words)]
    names = [name for name in names if re.fullmatch(r"[a-z_][\w.]*", name) and name not in _FLAGS]
    local = [name for name in names if name in defined]
    return local[0] if local else names[-1] if names else None


def _size(text: str) -> Size | None:
    given = assignments(text)
    width, length, fingers = (literal(given.get(key)) for key in ("w", "l", "nf"))
    if width is None or length is None or ("nf" in given and not fingers):
        return None
    return width, length, fingers
