"""SI numbers at the edges: read SPICE suffixes, print engineering notation.

Inside the package every number is a plain SI float. SPICE reads ``M`` as milli and ``Meg`` as mega, and a
trailing unit such as ``1F`` as femto; a number a person may have meant otherwise is refused, never guessed.
"""

from __future__ import annotations

import math
import re

from analog_deq.errors import SpecError

_SCALES = {
    "meg": 1e6, "t": 1e12, "g": 1e9, "k": 1e3, "m": 1e-3, "u": 1e-6, "n": 1e-9, "p": 1e-12, "f": 1e-15,
}  # fmt: skip
_UNITS = frozenset(
    {
        "a", "amp", "amps", "ampere", "amperes", "c", "f", "farad", "farads", "h", "henry", "henries", "hz", "m", "ohm",
        "ohms", "s", "sec", "secs", "siemens", "v", "volt", "volts", "w", "watt", "watts",
    }
)  # fmt: skip
_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)([a-zA-Z]*)\Z")
_PREFIXES = {-15: "f", -12: "p", -9: "n", -6: "u", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T"}


def parse_spice_number(text: str, where: str = "value") -> float:
    """SI value of a SPICE number such as ``4.7k``, ``10uF`` or ``2Meg``: scale factor and unit, both optional.

    Raises SpecError for text that is no number and for every form that ngspice reads otherwise than a person may
    mean, or reads in two ways: ``4k7`` (4000), ``1M`` and ``5MHz`` (milli), ``1F`` (femto), ``1A`` (atto since
    ngspice 4x, 1 before), ``1mil`` (25.4 um in a value, milli in an expression), ``3kelvin`` (3000), ``1,5`` (5).

    >>> parse_spice_number("4.7k")
    4700.0
    >>> parse_spice_number("2Meg")
    2000000.0
    """
    match = _NUMBER.match(text.strip())
    if match is None or not math.isfinite(float(match[1])):
        raise SpecError(f"{where}: {text!r} is not a number ngspice reads to its end; write it as 1e-6 or 1u")
    digits, suffix = match[1], match[2]
    lower = suffix.lower()
    if lower.startswith("mil"):
        raise SpecError(
            f"{where}: {text!r} is 25.4e-6 in a value and milli in an expression; write metres, or {digits}m for milli"
        )
    if suffix.startswith("M") and not lower.startswith("meg"):
        raise SpecError(f"{where}: {text!r} is milli to ngspice; write {digits}Meg for mega or {digits}m for milli")
    if suffix.startswith("F") or lower.startswith("farad"):
        raise SpecError(f"{where}: {text!r} is femto to ngspice; write {digits} for farads or {digits}f for femto")
    if lower.startswith("a"):
        raise SpecError(f"{where}: {text!r} is atto to ngspice 46 and 1 to 39; write {digits} for ampere")
    for scale, factor in _SCALES.items():
        if lower.startswith(scale) and lower.removeprefix(scale) in _UNITS | {""}:
            return float(digits) * factor
    if lower in _UNITS | {""}:
        return float(digits)
    raise SpecError(
        f"{where}: {text!r} has the unknown suffix {suffix!r}; use f p n u m k Meg G T, then a unit or none"
    )


def engineering(value: float | None, unit: str = "", digits: int = 4) -> str:
    """Text such as ``200 ns`` or ``12.5 pF`` with ``digits`` significant figures; ``-`` for None.

    >>> engineering(2.0e-7, "s"), engineering(0.25, "%/V")
    ('200 ns', '0.25 %/V')
    """
    if value is None:
        return "-"
    if not math.isfinite(value):
        return f"{value} {unit}".strip()
    if unit == "1":
        unit = ""
    if unit in {"", "points", "dB", "deg", "-"} or unit.startswith(("%", "1/")) or value == 0:
        return f"{value:.{digits}g} {unit}".strip()
    exponent = max(-15, min(12, 3 * math.floor(math.log10(abs(value)) / 3)))
    scaled = f"{value / 10.0**exponent:.{digits}g}"
    if abs(float(scaled)) >= 1000 and exponent < 12:
        exponent += 3
        scaled = f"{value / 10.0**exponent:.{digits}g}"
    return f"{scaled} {_PREFIXES[exponent]}{unit}".strip()
