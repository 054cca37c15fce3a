"""A first contract for a netlist somebody brings: pins matched by their usual names, parameters by their defaults.

The draft is meant to be read and mended. What could not be guessed is written as a comment that says what to fill in,
and ``analog-deq check`` then names the place; nothing is guessed silently.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from analog_deq.errors import NetlistError, SpecError
from analog_deq.netlists.contract_schema import OPTIONAL_PINS, ROLES
from analog_deq.netlists.header import SubcktHeader, read_header
from analog_deq.units import parse_spice_number

PIN_NAMES: Mapping[str, tuple[str, ...]] = {
    "in_p": ("in_p", "inp", "ip", "vip", "vinp", "in+", "plus", "non", "noninv", "p", "vp", "inplus"),
    "in_n": ("in_n", "inn", "im", "in_m", "vin", "vinn", "vim", "in-", "minus", "inv", "n", "vn", "inminus"),
    "in": ("in", "vin", "input", "i", "a", "x", "sum", "iin"),
    "out": ("out", "vout", "output", "o", "y", "q"),
    "out_p": ("out_p", "outp", "op", "vop", "voutp", "out+", "zp", "out", "vout", "y", "output"),
    "out_n": ("out_n", "outn", "on", "om", "out_m", "von", "voutn", "out-", "zn"),
    "vdd": ("vdd", "vcc", "avdd", "vddd", "vpos", "vplus", "v+", "vp", "vpwr"),
    "vss": ("vss", "vee", "avss", "vneg", "vminus", "v-", "vn", "gnd", "agnd", "vgnd"),
    "ref": ("ref", "vref", "vcm", "cm", "com", "agnd"),
    "row": ("row", "wl", "top", "te", "p", "plus", "a", "1"),
    "col": ("col", "bl", "bot", "bottom", "be", "n", "minus", "b", "2"),
}
"""Names designers give to each role pin, the likeliest first, in lower case."""

_UNITS = (
    (re.compile(r"^(vos|voff|vt|dvt|v\w*)$"), "V"), (re.compile(r"^(i\w*)$"), "A"), (re.compile(r"^(r\w*)$"), "ohm"),
    (re.compile(r"^(c\w*)$"), "F"), (re.compile(r"^(f\w*|gbw)$"), "Hz"), (re.compile(r"^(w|l|w\d+|l\d+)$"), "m"),
    (re.compile(r"^(g|dg|g\d+|gm\w*|gds|gmin|gmax)$"), "S"),
)  # fmt: skip
SUPPLY_V = 0.9


@dataclass(frozen=True, slots=True)
class Draft:
    """Text of a ``cell.toml``, the role it assumes, and what a person still has to fill in."""

    text: str
    role: str
    open_points: tuple[str, ...]


def match_pins(header: SubcktHeader, role: str) -> dict[str, str]:
    """Role pin -> pin of the netlist, for the pins recognised by name; each pin of the netlist is used once."""
    found: dict[str, str] = {}
    for rank in range(max(len(names) for names in PIN_NAMES.values())):
        for pin in ROLES[role]:
            names = PIN_NAMES[pin]
            if pin not in found and rank < len(names) and names[rank] in header.pins:
                candidate = names[rank]
                if candidate not in found.values():
                    found[pin] = candidate
    return found


def guess_role(header: SubcktHeader) -> str:
    """The role whose pins the netlist has, unmatched pins counted against it. SpecError when none is complete."""
    scores = {}
    for role in ROLES:
        pins = match_pins(header, role)
        needed = [p for p in ROLES[role] if p not in OPTIONAL_PINS[role]]
        if all(pin in pins for pin in needed):
            scores[role] = len(pins) - len(header.pins)
    if not scores:
        raise SpecError(
            f".subckt {header.name} ({' '.join(header.pins)}): no role recognised from the pin names; "
            f"give --role, one of {', '.join(ROLES)}"
        )
    return max(scores, key=lambda role: scores[role])  # of equal ones the first: an op-amp before an OTA


def draft_contract(netlist: Path, role: str | None = None, subckt: str | None = None) -> Draft:
    """First contract of the netlist at ``netlist``. NetlistError when it has no header that can be read."""
    try:
        text = netlist.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NetlistError(f"{netlist}: cannot be read ({error}); it must be UTF-8 text") from error
    header = read_header(text, subckt, source=str(netlist))
    if role is not None and role not in ROLES:
        raise SpecError(f"--role {role}: unknown; use one of {', '.join(ROLES)}")
    role = role or guess_role(header)
    pins = match_pins(header, role)
    todo: list[str] = []
    name = re.sub(r"[^A-Za-z0-9_-]", "_", netlist.stem)
    lines = [
        f"# First draft of `analog-deq init-cell {netlist.name}`: mend it, then `analog-deq check {netlist.stem}.toml`",
        "schema = 1", "", "[cell]", f'name = "{name}"', f'role = "{role}"', f'netlist = "{netlist.name}"',
        f'subckt = "{header.name}"', 'license = ""', 'description = ""', "",
        "[pins] # role pin = pin in the .subckt line",
    ]  # fmt: skip
    for pin in ROLES[role]:
        if pin in pins:
            lines.append(f'{pin} = "{pins[pin]}"')
        elif pin not in OPTIONAL_PINS[role]:
            lines.append(f'# {pin} = "?"  # which of {" ".join(header.pins)}?')
            todo.append(f"pins.{pin}")
    extra = [pin for pin in header.pins if pin not in pins.values()]
    if extra:
        lines += ["", "[tie] # every other pin needs a place"]
        for pin in extra:
            lines.append(f'# {pin} = "vdd", "vss", "0", or {{ source = "current", from = "vdd", value = 10e-6 }}')
            todo.append(f"tie.{pin}")
    lines += _params(header, todo)
    if role == "synapse" and "g" in header.params:
        lines += ["", "[state.g] # what the trainer programs", 'param = "g"', 'unit = "S"', "min = 1e-6", "max = 1e-4"]
    elif role == "synapse":
        lines += ["", "# [state.g]  # what the trainer programs: param, unit, min, max"]
        todo.append("state.g")
    lines += ["", "[mismatch]", 'mode = "none" # "params" with [mismatch.params.NAME] once spreads are known']
    lines += ["", "[noise]", "native = true # false when no device of the netlist has noise", "", "[conditions]"]
    if "vdd" in pins:
        lines.append(f'vdd = {{ min = {0.9 * SUPPLY_V:g}, typ = {SUPPLY_V:g}, max = {1.1 * SUPPLY_V:g}, unit = "V" }}')
        todo.append("conditions.vdd")
    if "vss" in pins:
        lines.append(
            f'vss = {{ min = -{1.1 * SUPPLY_V:g}, typ = -{SUPPLY_V:g}, max = -{0.9 * SUPPLY_V:g}, unit = "V" }}'
        )
        todo.append("conditions.vss")
    lines.append('temp = { min = -40.0, typ = 27.0, max = 125.0, unit = "C" }')
    if role in {"opamp", "ota"}:
        lines.append('load = { typ = 1e-12, unit = "F" }')
        todo.append("conditions.load")
    return Draft("\n".join(lines) + "\n", role, tuple(todo))


def _params(header: SubcktHeader, todo: list[str]) -> list[str]:
    lines = []
    for name, written in header.params.items():
        try:
            value = parse_spice_number(written.strip("{}'\" "), name)
        except SpecError:
            lines += ["", f"# parameter {name} = {written} is an expression: it keeps it, and instances cannot set it"]
            continue
        low, high = sorted((value / 2, value * 2)) if value else (-1.0, 1.0)
        unit = next((unit for pattern, unit in _UNITS if pattern.match(name)), "1")
        lines += [
            "",
            f"[params.{name}]",
            f'unit = "{unit}"',
            f"default = {value!r}",
            f"min = {low!r}",
            f"max = {high!r}",
        ]
        todo.append(f"params.{name}")
    return lines


def write_draft(draft: Draft, netlist: Path, path: Path) -> Path:
    """``path``, with the draft written there.

    SpecError when something is there already (it may hold a person's work), or when it is not beside the netlist.
    """
    if path.resolve().parent != netlist.resolve().parent:
        raise SpecError(f"{path}: a contract lies beside its netlist; put it in {netlist.parent}")
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(draft.text)
    except FileExistsError as error:
        raise SpecError(f"{path}: exists already; remove it, or give another place with --out") from error
    return path
