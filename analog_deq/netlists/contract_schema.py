"""What a `cell.toml` may say, format version 1, and whether it agrees with its netlist's header."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from analog_deq.errors import SpecError
from analog_deq.netlists.header import SubcktHeader
from analog_deq.units import parse_spice_number

ROLES: Mapping[str, tuple[str, ...]] = {
    "opamp": ("in_p", "in_n", "out", "vdd", "vss"),
    "activation": ("in", "out_p", "out_n", "vdd", "vss"),
    "driver": ("in_p", "in_n", "out_p", "out_n", "vdd", "vss"),
    "synapse": ("row", "col"),
}
"""Pins each role must have. Activation and driver: ``out_p - out_n`` rises with ``in`` (``in_p - in_n``)."""

Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CellSection(_Frozen):
    """What the cell is and where its netlist lies (a file beside the contract)."""

    name: str
    role: Literal["opamp", "activation", "driver", "synapse"]
    netlist: str
    subckt: str
    license: str = ""
    description: str = ""


DRAW_REACH = 5.0
"""Mismatch draws are truncated at this many standard deviations (``analog_deq.draws``)."""


class ParameterSpec(_Frozen):
    """One instance parameter: its unit, the netlist's default, and the range an instance may use."""

    unit: str
    default: Finite
    min: Finite
    max: Finite
    description: str = ""


class StateSpec(_Frozen):
    """What the trainer programs: the parameter it goes to, range, and number of levels (0: analogue)."""

    param: str
    unit: str
    min: Finite
    max: Finite
    levels: Annotated[int, Field(ge=0)] = 0


class MismatchParameter(_Frozen):
    """Distribution of one parameter over instances; ``relative``: a fraction of the nominal quantity (unit 1)."""

    distribution: Literal["normal"]
    sigma: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    unit: str
    relative: bool


class MismatchSection(_Frozen):
    """``params``: drawn outside, one value per instance and die. ``none``: the cell models no mismatch."""

    mode: Literal["params", "none"]
    params: dict[str, MismatchParameter] = Field(default_factory=dict)


class NoiseSection(_Frozen):
    """``native``: the netlist's own devices carry its noise; false: the cell is noiseless and reports say so."""

    native: bool


class Condition(_Frozen):
    """Range a supply, temperature or load may take."""

    typ: Finite
    unit: str
    min: Finite | None = None
    max: Finite | None = None


class CellContract(_Frozen):
    """Content of a ``cell.toml``, format version 1."""

    version: Literal[1] = Field(alias="schema")
    cell: CellSection
    pins: dict[str, str]
    mismatch: MismatchSection
    noise: NoiseSection
    tie: dict[str, Literal["vdd", "vss", "0"]] = Field(default_factory=dict)
    params: dict[str, ParameterSpec] = Field(default_factory=dict)
    state: dict[str, StateSpec] = Field(default_factory=dict)
    conditions: dict[str, Condition] = Field(default_factory=dict)


def check_contract(contract: CellContract, header: SubcktHeader, path: Path) -> None:
    """None when contract and header agree; SpecError naming file, key, value and mend otherwise.

    Every role pin must be a pin of the netlist, every other pin tied, every default the netlist's own, and every
    mismatch parameter 0 by default, so that mismatch off means off.
    """
    cell = contract.cell

    def refuse(key: str, value: object, mend: str) -> None:
        raise SpecError(f"{path}: {key} = {value!r}: {mend}")

    if header.name != cell.subckt.lower():
        refuse(
            "cell.subckt", cell.subckt, f"{cell.netlist} holds .subckt {header.name} (line {header.line}); name that"
        )
    for role in ROLES[cell.role]:
        if role not in contract.pins:
            refuse("pins", list(contract.pins), f'role {cell.role} needs the pin {role!r}; add {role} = "<pin>"')
    for role, pin in contract.pins.items():
        if role not in ROLES[cell.role]:
            refuse(
                f"pins.{role}", pin, f"role {cell.role} has only {', '.join(ROLES[cell.role])}; put others under [tie]"
            )
        if pin.lower() not in header.pins:
            refuse(f"pins.{role}", pin, f"not a pin of {header.name} ({' '.join(header.pins)}); name one of those")
    taken = [pin.lower() for pin in (*contract.pins.values(), *contract.tie)]
    for pin in header.pins:
        if taken.count(pin) != 1:
            mend = "map it under [pins] or tie it under [tie]" if pin not in taken else "map each pin once"
            refuse("pins", pin, f"pin of {header.name} mapped {taken.count(pin)} times; {mend}")
    for pin, target in contract.tie.items():
        if pin.lower() not in header.pins:
            refuse(f"tie.{pin}", target, f"not a pin of {header.name} ({' '.join(header.pins)}); remove it")
        if target != "0" and target not in ROLES[cell.role]:
            refuse(f"tie.{pin}", target, f"a {cell.role} has no {target}; tie it to '0'")
    for name, spec in contract.params.items():
        if name not in header.params:
            refuse(f"params.{name}", spec.default, f"not a parameter of {header.name} ({' '.join(header.params)})")
        if not spec.min <= spec.default <= spec.max:
            refuse(f"params.{name}.default", spec.default, f"outside [{spec.min!r}, {spec.max!r}]; mend one of them")
        written = parse_spice_number(
            header.params[name].strip("{}'\" "), f"{path}: default of {name} in {cell.netlist}"
        )
        if not math.isclose(written, spec.default, rel_tol=1e-12, abs_tol=0.0):
            refuse(
                f"params.{name}.default", spec.default, f"{cell.netlist} says {header.params[name]}; make them agree"
            )
    _check_state_and_mismatch(contract, path)


def _check_state_and_mismatch(contract: CellContract, path: Path) -> None:
    if contract.cell.role == "synapse" and "g" not in contract.state:
        raise SpecError(
            f"{path}: state = {list(contract.state)!r}: a synapse needs [state.g], what the trainer programs"
        )
    for name, state in contract.state.items():
        spec = contract.params.get(state.param)
        if spec is None:
            raise SpecError(f"{path}: state.{name}.param = {state.param!r}: not under [params]; declare it there")
        if not spec.min <= state.min < state.max <= spec.max or state.unit != spec.unit or state.min <= 0:
            raise SpecError(
                f"{path}: state.{name} = {state.min!r}..{state.max!r} {state.unit}: must be positive, rising "
                f"and inside params.{state.param} ({spec.min!r}..{spec.max!r} {spec.unit})"
            )
    if contract.mismatch.mode == "none" and contract.mismatch.params:
        raise SpecError(f'{path}: mismatch.mode = "none": yet parameters are listed; use "params" or remove them')
    for name, mismatch in contract.mismatch.params.items():
        spec = contract.params.get(name)
        if spec is None:
            raise SpecError(f"{path}: mismatch.params.{name}: not under [params]; declare it there")
        if spec.default != 0.0:
            raise SpecError(f"{path}: params.{name}.default = {spec.default!r}: mismatch off must mean off; make it 0")
        if mismatch.unit != spec.unit or (mismatch.relative and mismatch.unit != "1"):
            raise SpecError(
                f"{path}: mismatch.params.{name}.unit = {mismatch.unit!r}: the parameter has {spec.unit!r}"
                " (relative ones have '1'); make them agree"
            )
        reach = DRAW_REACH * mismatch.sigma
        if not (spec.min <= -reach and reach <= spec.max):
            raise SpecError(
                f"{path}: mismatch.params.{name}.sigma = {mismatch.sigma!r}: draws reach {DRAW_REACH:g} sigma = "
                f"{reach:g}, beyond params.{name} ({spec.min!r}..{spec.max!r}); widen that range"
            )
