"""Whether a contract agrees with itself and with its netlist's header."""

from __future__ import annotations

import math
from pathlib import Path

from analog_deq.errors import SpecError
from analog_deq.netlists.contract_schema import (
    ABSOLUTE_ZERO_CELSIUS,
    CONDITIONS,
    DRAW_REACH,
    OPTIONAL_PINS,
    ROLES,
    TEMPERATURE_PARAMS,
    CellContract,
)
from analog_deq.netlists.header import SubcktHeader
from analog_deq.units import parse_spice_number


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
        if role not in contract.pins and role not in OPTIONAL_PINS[cell.role]:
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
            refuse(f"tie.{pin}", target.origin, f"not a pin of {header.name} ({' '.join(header.pins)}); remove it")
        if target.origin != "0" and target.origin not in ROLES[cell.role]:
            refuse(f"tie.{pin}", target.origin, f"a {cell.role} has no {target.origin}; tie it to '0'")
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
    _check_conditions(contract, path)
    _check_corners(contract, header, path)
    _check_state_and_mismatch(contract, path)
    _check_temperature(contract, path)


def _check_temperature(contract: CellContract, path: Path) -> None:
    law = contract.temperature
    if law is None:
        return
    if contract.cell.role != "synapse" or not set(TEMPERATURE_PARAMS) <= set(contract.params):
        raise SpecError(
            f"{path}: temperature: its coefficients go to the parameters tc1 and tc2 of a synapse; declare both under "
            "[params] and give them to its resistor, or remove the section"
        )
    celsius = contract.conditions.get("temp")
    for value in () if celsius is None else (celsius.min, celsius.typ, celsius.max):
        if value is not None and not 0.0 < law.factor(value) < math.inf:
            raise SpecError(f"{path}: temperature: no positive resistance at {value:g} C; narrow conditions.temp")


def _check_conditions(contract: CellContract, path: Path) -> None:
    for name, condition in contract.conditions.items():
        where = f"{path}: conditions.{name}"
        if name not in CONDITIONS:
            raise SpecError(f"{where}: nothing reads it; known are {', '.join(CONDITIONS)}")
        if condition.unit != CONDITIONS[name]:
            raise SpecError(f"{where}.unit = {condition.unit!r}: give it in {CONDITIONS[name]}")
        low = condition.typ if condition.min is None else condition.min
        high = condition.typ if condition.max is None else condition.max
        if not low <= condition.typ <= high:
            raise SpecError(f"{where} = {low:g} to {high:g}, typ {condition.typ:g}: must rise from min over typ to max")
        if name == "temp" and low <= ABSOLUTE_ZERO_CELSIUS:
            raise SpecError(f"{where} = {low:g}: no temperature is below {ABSOLUTE_ZERO_CELSIUS:g} C; mend it")


def _check_corners(contract: CellContract, header: SubcktHeader, path: Path) -> None:
    for name, corner in contract.corners.items():
        if (corner.section is None) != (contract.models is None):
            mend = "add [models]" if contract.models is None else 'name its section, as in { section = "tt" }'
            raise SpecError(f"{path}: corners.{name} = {corner.model_dump(exclude_defaults=True)!r}: {mend}")
        for key, value in corner.params.items():
            spec = contract.params.get(key)
            if spec is None or not spec.min <= value <= spec.max:
                raise SpecError(f"{path}: corners.{name}.params.{key} = {value!r}: not a parameter in range; mend it")
    if contract.models is not None and not contract.corners:
        raise SpecError(f'{path}: corners: missing; name the library\'s sections, as in tt = {{ section = "tt" }}')
    if contract.drift is not None and contract.drift.param not in contract.params:
        raise SpecError(f"{path}: drift.param = {contract.drift.param!r}: not under [params]; declare it there")
    mode, models = contract.mismatch.mode, contract.models
    if mode in {"section", "switch"} and models is None:
        raise SpecError(f'{path}: mismatch.mode = {mode!r}: needs [models], whose mismatch it uses; or use "params"')
    if (mode == "switch") != (contract.mismatch.switch is not None):
        raise SpecError(f'{path}: mismatch.switch: goes with mode = "switch" and only with it; here mode is {mode!r}')


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
        if mismatch.sigma is None and "g" not in contract.state:
            raise SpecError(f"{path}: mismatch.params.{name}: a sigma that depends on the state needs [state.g]")
        reach = DRAW_REACH * mismatch.largest
        if not (spec.min <= -reach and reach <= spec.max):
            raise SpecError(
                f"{path}: mismatch.params.{name}.sigma = {mismatch.largest!r}: draws reach {DRAW_REACH:g} sigma = "
                f"{reach:g}, beyond params.{name} ({spec.min!r}..{spec.max!r}); widen that range"
            )
