"""Statements of a library as they go into a deck: without ``.option scale``, without what ngspice ignores."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from analog_deq.netlists.devices import ASSIGNMENT
from analog_deq.netlists.model_library import Statement

SCALED: Mapping[str, Mapping[str, int]] = {
    "m": {"l": 1, "w": 1, "pd": 1, "ps": 1, "sa": 1, "sb": 1, "sd": 1, "ad": 2, "as": 2},
    "r": {"l": 1, "w": 1},
    "c": {"l": 1, "w": 1},
    "d": {"l": 1, "w": 1},
}
"""Instance parameters that ngspice multiplies by ``.option scale`` to this power, by element letter.

Measured on 39 and 46 with MOS levels 1 and 54, diodes, R, C, bipolar transistors and JFETs. ngspice 39 also scales
``area`` and ``pj`` of a level-3 diode, twice over, which makes a kit's junctions vanish; without the option both agree.
"""

_ELEMENT = {"nmos": "m", "pmos": "m", "d": "d"}
"""Element letter of the model types whose card may hold defaults of instances, scaled like those; R and C are not."""

_NOT_BIPOLAR = frozenset({"dcap", "gap1", "gap2", "tsky130_fd_pr__res_generic_m1", "tsky130_fd_pr__res_generic_m2"})
IGNORED: Mapping[str, frozenset[str]] = {
    "r": frozenset({"tref"}),
    "d": frozenset({"minr"}),
    "npn": _NOT_BIPOLAR,
    "pnp": _NOT_BIPOLAR,
}
"""Parameters by model type, found in libraries for other simulators, that ngspice 39 and 46 both say they ignore.

They are left out, so that what ngspice says it ignores in a run is always something a person meant.
"""


def rewritten(line: Statement, scale: float) -> str:
    """Text of a statement for a deck in metres: ``scale`` multiplied in, :data:`IGNORED` parameters left out."""
    return _without_scale(_understood(line), scale)


def model_type(line: Statement) -> str:
    """Type of a ``.model`` line in lower case, such as ``nmos``."""
    return re.split(r"[\s(]", " ".join(line.text.split()[2:]).lower(), maxsplit=1)[0]


def _understood(line: Statement) -> Statement:
    """The statement without :data:`IGNORED` parameters."""
    ignored = IGNORED.get(model_type(line), frozenset()) if line.card == ".model" else frozenset()

    def known(match: re.Match[str]) -> str:
        return "" if match[1].lower() in ignored else match[0]

    return replace(line, text=ASSIGNMENT.sub(known, line.text)) if ignored else line


def _without_scale(line: Statement, scale: float) -> str:
    """Text of a statement with ``.option scale`` multiplied into its geometry.

    Bin limits go into braces: under ``ngbehavior=hs`` ngspice drops bins before it expands a subcircuit, comparing the
    limits with the instance's w and l as written (in the library's unit). It leaves alone what is no plain number.
    """
    if scale == 1.0:
        return line.text
    text, letter = line.text, line.card[0]
    if line.card == ".model":
        text = re.sub(r"\b([lw]m(?:in|ax))\s*=\s*([0-9.][^\s{}]*)", r"\1={\2}", text, flags=re.IGNORECASE)
        letter = _ELEMENT.get(model_type(line), "")
    powers = SCALED.get(letter, {})

    def multiply(match: re.Match[str]) -> str:
        power = powers.get(match[1].lower(), 0)
        inner = match[3].strip("{}'\"")
        return f"{match[1]}={{({inner})*{scale**power!r}}}" if power else match[0]

    return ASSIGNMENT.sub(multiply, text)
