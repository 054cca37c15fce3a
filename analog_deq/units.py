"""SI numbers at the edges: read SPICE suffixes, print engineering notation.

Inside the package every number is a plain SI float. SPICE reads ``M`` as milli and ``Meg`` as mega, and a
trailing unit such as ``1F`` as femto; a number a person may have meant otherwise is refused, never guessed.
"""

from __future__ import annotations

import math
import re

from analog_deq.errors import SpecError

_SUFFIXES = {
    "t": 1e12, "g": 1e9, "meg": 1e6, "k": 1e3, "mil": 25.4e-6, "m": 1e-3, "u": 1e-6, "n": 1e-9, "p": 1e-12, "f": 1e-15,
}  # fmt: skip
_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)([a-zA-Z]*)\Z")
_PREFIXES = {-15: "f", -12: "p", -9: "n", -6: "u", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T"}


def parse_spice_number(text: str, where: str = "value") -> float:
    """SI value of a SPICE number such as ``4.7k``, ``10u`` or ``2Meg``.

    Raises SpecError for text that is not a number, for ``1F`` (farad or femto?) and for a capital ``M``,
    bare or as in ``5MHz`` (ngspice reads milli where people mean mega).

    >>> parse_spice_number("4.7k")
    4700.0
    >>> parse_spice_number("2Meg")
    2000000.0
    """
    match = _NUMBER.match(text.strip())
    if match is None:
        raise SpecError(f"{where}: {text!r} is not a number; write it as 1e-6 or 1u")
    mantissa, suffix = float(match[1]), match[2]
    if suffix == "":
        return mantissa
    lower = suffix.lower()
    if suffix[0] == "M" and not lower.startswith(("meg", "mil")):
        raise SpecError(f"{where}: {text!r} is milli to ngspice; write {match[1]}Meg for mega or {match[1]}m for milli")
    if suffix[0] == "F":
        raise SpecError(f"{where}: {text!r} is femto to ngspice; write {match[1]} for farads or {match[1]}f for femto")
    for name in sorted(_SUFFIXES, key=len, reverse=True):
        if lower.startswith(name):
            return mantissa * _SUFFIXES[name]
    if lower in {"v", "a", "ohm", "hz", "s"}:
        return mantissa
    raise SpecError(f"{where}: {text!r} has the unknown suffix {suffix!r}; use f p n u m k Meg G T")


def engineering(value: float | None, unit: str = "", digits: int = 4) -> str:
    """Text such as ``200 ns`` or ``12.5 pF`` with ``digits`` significant figures; ``-`` for None.

    >>> engineering(2.0e-7, "s")
    '200 ns'
    """
    if value is None:
        return "-"
    if not math.isfinite(value):
        return f"{value} {unit}".strip()
    if unit in {"", "%", "points", "dB", "deg", "-", "%FS"} or value == 0:
        return f"{value:.{digits}g} {unit}".strip()
    exponent = max(-15, min(12, 3 * math.floor(math.log10(abs(value)) / 3)))
    scaled = f"{value / 10.0**exponent:.{digits}g}"
    if abs(float(scaled)) >= 1000 and exponent < 12:
        exponent += 3
        scaled = f"{value / 10.0**exponent:.{digits}g}"
    return f"{scaled} {_PREFIXES[exponent]}{unit}".strip()
