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
from analog_deq.netlists.calls import callee
from analog_deq.netlists.contract import FILE_NAME
from analog_deq.netlists.contract_schema import OPTIONAL_PINS, ROLES
from analog_deq.netlists.devices import device_names
from analog_deq.netlists.header import SubcktHeader, read_scopes
from analog_deq.netlists.includes import read_netlist, written_in
from analog_deq.units import parse_spice_number

PIN_NAMES: Mapping[str, tuple[str, ...]] = {
    "in_p": ("in_p", "inp", "ip", "vip", "vinp", "in+", "plus", "non", "noninv", "p", "vp", "inplus"),
    "in_n": (
        "in_n",
        "inn",
        "im",
        "inm",
        "in_m",
        "vin",
        "vinn",
        "vim",
        "vinm",
        "in-",
        "minus",
        "inv",
        "n",
        "vn",
        "inminus",
    ),
    "in": ("in", "vin", "input", "i", "a", "x", "sum", "iin"),
    "out": ("out", "vout", "output", "vo", "o", "y", "q"),
    "out_p": ("out_p", "outp", "op", "vop", "voutp", "out+", "zp", "out", "vout", "y", "output"),
    "out_n": ("out_n", "outn", "on", "om", "out_m", "von", "voutn", "out-", "zn"),
    "vdd": ("vdd", "vcc", "avdd", "vddd", "vpos", "vplus", "v+", "vp", "vpwr"),
    "vss": ("vss", "vee", "avss", "vneg", "vminus", "v-", "vn", "agnd", "vgnd"),
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
GROUNDS = frozenset({"agnd", "vgnd"})


@dataclass(frozen=True, slots=True)
class Draft:
    """Text of a ``cell.toml``, the role it assumes, and what a person still has to decide, a sentence each."""

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


def fitting_roles(header: SubcktHeader) -> list[str]:
    """Roles whose pins the netlist has, most of its own among them; the likeliest first, by pins, then by its name."""
    scores = {}
    for role in ROLES:
        pins = match_pins(header, role)
        needed = [pin for pin in ROLES[role] if pin not in OPTIONAL_PINS[role]]
        if all(pin in pins for pin in needed) and 2 * len(pins) > len(header.pins):
            scores[role] = (len(pins), role in header.name)
    return sorted(scores, key=lambda role: scores[role], reverse=True)  # of equal ones the first stays first


def draft_contract(netlist: Path, role: str | None = None, subckt: str | None = None) -> Draft:
    """First contract of the netlist at ``netlist``, which is read with its includes, screened, and left as it is.

    ``subckt`` names the cell where the file has several; else it is the one that no other calls. NetlistError for a
    netlist that no contract could make a cell; SpecError for an unknown role or none that fits.
    """
    if FILE_NAME.match(netlist.name) is None:
        raise SpecError(
            f"{netlist}: no name for a cell's netlist; call it {re.sub(r'[^A-Za-z0-9]+', '_', netlist.stem)}.cir"
        )
    contract = netlist.with_suffix(".toml")
    header = _cell_header(netlist, contract, subckt)
    text = read_netlist(netlist, netlist.parent, contract, header.name)
    if role is not None and role not in ROLES:
        raise SpecError(f"--role {role}: unknown; use one of {', '.join(ROLES)}")
    fitting = fitting_roles(header)
    if role is None and not fitting:
        raise SpecError(
            f"{netlist}: .subckt {header.name} ({' '.join(header.pins)}): no role recognised from the pin names; "
            f"give --role, one of {', '.join(ROLES)}"
        )
    chosen = role or fitting[0]
    pins = match_pins(header, chosen)
    todo: list[str] = []
    if role is None and (others := [r for r in fitting[1:] if len(match_pins(header, r)) == len(pins)]):
        todo.append(f"cell.role: {chosen} is a guess; the pins are also those of {', '.join(others)}")
    lines = [
        f"# First draft by `analog-deq init-cell {netlist.name}`: look at every line, then `analog-deq check "
        f"{contract.name}`.",
        "schema = 1", "", "[cell]", f'name = "{netlist.stem}"', f'role = "{chosen}"', f'netlist = "{netlist.name}"',
        f'subckt = "{header.name}"', 'license = ""', 'description = ""',
        *_pins(header, chosen, pins, todo), *_models(text, todo), *_params(header, todo), *_state(header, chosen, todo),
        *_mismatch(header), "", "[noise]", "native = true # false when no device of the netlist has noise",
        *_conditions(header, chosen, pins, todo),
    ]  # fmt: skip
    return Draft("\n".join(lines) + "\n", chosen, tuple(todo))


def _cell_header(netlist: Path, contract: Path, subckt: str | None) -> SubcktHeader:
    """Header of the subcircuit called ``subckt`` at the top of the file, else of the one there that no other calls."""
    root = read_scopes(*written_in(netlist, netlist.parent, contract))
    calls = {callee(line)[1] for scope in root.walk() for line in scope.lines if line.card[0] == "x"}
    wanted = [
        scope.header for scope in root.inner
        if (scope.header.name == subckt.lower() if subckt else scope.header.name not in calls)
    ]  # fmt: skip
    if len(wanted) == 1:
        return wanted[0]
    has = ", ".join(scope.header.name for scope in root.inner)
    if not has:
        raise NetlistError(f"{netlist}: no .subckt in this file; a cell is one .subckt ... .ends")
    if subckt:
        raise SpecError(f"--subckt {subckt}: {netlist} has at its top {has}; name one of them")
    raise SpecError(f"{netlist}: which of its subcircuits is the cell? give --subckt, one of {has}")


def _pins(header: SubcktHeader, role: str, pins: Mapping[str, str], todo: list[str]) -> list[str]:
    extra = [pin for pin in header.pins if pin not in pins.values()]
    lines = ["", "[pins] # role pin = pin of the .subckt line"]
    for pin in ROLES[role]:
        optional = pin in OPTIONAL_PINS[role]
        if pin in pins:
            lines.append(f'{pin} = "{pins[pin]}"')
        elif extra:
            lines.append(f'# {pin} = "{extra[0]}" # {"if it has one: " if optional else ""}which of {" ".join(extra)}?')
        if pin not in pins and not optional:
            todo.append(f"pins.{pin}: which of {' '.join(extra or header.pins)}?")
    if extra:
        lines += ["", "[tie] # every other pin needs a place"]
    for pin in extra:
        lines.append(f'# {pin} = {{ source = "current", from = "vdd", value = 10e-6 }} # or "vdd", "vss", "0"')
        todo.append(f"tie.{pin}: where does this pin go?")
    return lines


def _models(text: str, todo: list[str]) -> list[str]:
    missing = sorted(device_names(text))
    if not missing:
        return []
    todo.append(f"models: nothing defines {', '.join(missing)}")
    return [
        "", f"# [models] # the library that defines {', '.join(missing)}",
        '# lib = "models.lib" # beside this file, or "$VARIABLE/path", or "package:NAME/path"', "",
        "# [corners] # name = section of that library, the typical one first",
        '# tt = { section = "tt" }',
    ]  # fmt: skip


def _params(header: SubcktHeader, todo: list[str]) -> list[str]:
    lines = []
    guessed = []
    for name, written in header.params.items():
        value = _number(written)
        if value is None:
            lines += ["", f"# parameter {name} = {written} is an expression: it keeps it, and instances cannot set it"]
            continue
        low, high = sorted((value / 2, value * 2)) if value else (-1.0, 1.0)
        lines += ["", f"[params.{name}]", f'unit = "{_unit(name)}"', f"default = {value!r}"]
        lines += [f"min = {low!r}", f"max = {high!r}"]
        guessed.append(name)
    if guessed:
        todo.append(f"params: units and ranges of {', '.join(guessed)} are guesses")
    return lines


def _unit(name: str) -> str:
    return next((unit for pattern, unit in _UNITS if pattern.match(name)), "1")


def _number(written: str) -> float | None:
    try:
        return parse_spice_number(written.strip("{}'\" "))
    except SpecError:
        return None


def _state(header: SubcktHeader, role: str, todo: list[str]) -> list[str]:
    if role != "synapse":
        return []
    todo.append("state.g: the parameter that is programmed, and its range")
    value = _number(header.params.get("g", "none"))
    low, high = ("1e-6", "1e-4") if value is None else (f"{value / 2!r}", f"{value * 2!r}")
    given = ["[state.g] # what the trainer programs", 'param = "g"', 'unit = "S"', f"min = {low}", f"max = {high}"]
    return ["", *(given if value else (f"# {line}" for line in given))]


def _mismatch(header: SubcktHeader) -> list[str]:
    lines = ["", "[mismatch]", 'mode = "none" # "params" and a table for each parameter that is drawn']
    for name, written in header.params.items():
        if _number(written) == 0:
            lines += ["", f"# [mismatch.params.{name}]", '# distribution = "normal"', "# sigma = 1e-3"]
            lines += [f'# unit = "{_unit(name)}"', "# relative = false"]
    return lines


def _conditions(header: SubcktHeader, role: str, pins: Mapping[str, str], todo: list[str]) -> list[str]:
    lines = ["", "[conditions]"]
    grounded = pins.get("vss", "agnd") in GROUNDS
    low, high = (0.0, 2 * SUPPLY_V) if grounded else (-SUPPLY_V, SUPPLY_V)
    if "vdd" in pins:
        lines.append(f'vdd = {{ min = {0.9 * high:g}, typ = {high:g}, max = {1.1 * high:g}, unit = "V" }}')
        todo.append(f"conditions: the supply of {low:g} to {high:g} V is a guess")
        if not grounded:
            lines.append(f'vss = {{ min = {1.1 * low:g}, typ = {low:g}, max = {0.9 * low:g}, unit = "V" }}')
    elif "vdd" in ROLES[role] and len(pins) < len(header.pins):
        lines.append(f'# vdd = {{ min = {0.9 * high:g}, typ = {high:g}, max = {1.1 * high:g}, unit = "V" }}')
    lines.append('temp = { min = -40.0, typ = 27.0, max = 125.0, unit = "C" }')
    if role in {"opamp", "ota"}:
        lines.append('load = { typ = 1e-12, unit = "F" }')
        todo.append("conditions.load: 1 pF is a guess")
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
