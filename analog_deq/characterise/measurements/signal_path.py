"""How a cell with one input and one output is driven, loaded and read: activation, driver, integrator, summer.

The input x counts from rest. It is the voltage at ``in`` of an activation above ``in_cm`` (mid-supply unless stated),
or between the inputs of a driver, whose common mode stays at ``in_cm``. The current into an integrator or summer is x
times its unit current, which a second instance finds at DC: an ideal source drives that one until its output is
``UNIT`` of the typical supply above ``ref``. So x is a voltage of the output there, whatever the transresistance.
"""

from __future__ import annotations

import math

import numpy as np

from analog_deq.characterise.measurement import CellBench, Copy
from analog_deq.characterise.measurements.amplifier import common_mode_v, compact, typical_supply_v
from analog_deq.netlists.contract_schema import ROLES
from analog_deq.netlists.deck import number
from analog_deq.records import Alter, Dc, Plot

PATHS = ("activation", "driver", "integrator", "summer")
CURRENT_INPUTS = ("integrator", "summer")
UNIT = 0.1
"""Output of the unit current, and the small step, over the typical supply."""
WITHOUT_SUPPLY_V = 2.0
"""Width of what stands for the supply of a cell without supply pins."""
SOURCED, SERVO = "_s", "_w"
"""Instances of a copy besides the bare one: with the source resistor, and the one that finds the unit current."""
PORTS = ("input", "common", "vdd", "vss", "output")
"""Where a signal can enter: volts at inputs and rails, amperes into the output (the input too, of a current input)."""
SHORT = 2e-10
"""What a sweep's step lacks, relative."""
SERVO_GAIN, SERVO_SIEMENS = 1e6, 1e-6
"""Of the source that finds the unit current: the output misses by 1 / (1 + R) for a transresistance of R ohms."""
SERVO_SLOW = 1e10
"""Time constant of that source over 1 / bandwidth: far above the loop gain, so that nothing moves in a transient."""
CLAMP_SIEMENS = 1e3
"""Keeps the input of that instance near ref: pulled beyond a rail, many an amplifier latches."""


def span_v(bench: CellBench) -> tuple[float, float]:
    """Range of x: the contract's ``in_range`` (``min`` to ``max``, or +-``typ``), else the typical rails.

    A driver's inputs move in opposite directions, so its range is twice as wide.
    """
    given = bench.cell.contract.conditions.get("in_range")
    if given is not None and bench.cell.role not in CURRENT_INPUTS:
        return -abs(given.typ) if given.min is None else given.min, abs(given.typ) if given.max is None else given.max
    half = typical_supply_v(bench, WITHOUT_SUPPLY_V) / 2
    return (-2 * half, 2 * half) if bench.cell.role == "driver" else (-half, half)


def sweep(bench: CellBench, steps: int) -> Dc:
    """Sweep of x over :func:`span_v`.

    The step is a trace short: ngspice adds it up, and drops the last point once rounding has carried it past the end.
    """
    low, high = span_v(bench)
    return Dc("Vu", low, high, (high - low) / steps * (1 - SHORT))


def unit_v(bench: CellBench) -> float:
    """The small step of x, volts."""
    low, high = span_v(bench)
    typical = typical_supply_v(bench, WITHOUT_SUPPLY_V)
    return UNIT * (typical if bench.cell.role in CURRENT_INPUTS else (high - low) / 2)


def variants(bench: CellBench) -> list[tuple[str, str]]:
    """(instance name, ``at`` text): the bare cell, and with the contract's ``source_r`` from a current input to ref."""
    if bench.cell.role not in CURRENT_INPUTS or "source_r" not in bench.cell.contract.conditions:
        return [("", "")]
    return [("", ""), (SOURCED, f"source={compact(bench.condition('source_r', 0.0), 'ohm')}")]


def drive_lines(bench: CellBench, wave: str = "dc 0 ac 1") -> list[str]:
    """Shared sources: x is ``v(x) - v(cm)``, strength of the input port times (``Vu``, the ``wave``, plus ``Vhold``).

    The rails of the corner are the shared nodes ``vdd`` and ``vss``, for copies that do not have their own.
    """
    rest = common_mode_v(bench)
    lines = [
        f"Vu u 0 {wave}",
        "Vhold hold 0 0",
        *(f"Vx{port} x{port} 0 {number(float(port == 'input'))}" for port in PORTS),
        f"Vcm rest 0 {number(rest)}",
        "Bcm cm rest v=v(xcommon)*v(u)",
        "Bx x cm v=v(xinput)*(v(hold)+v(u))",
    ]
    if bench.cell.role == "driver":
        lines += ["Ep xp cm x cm 0.5", "En xn cm x cm -0.5"]
    if bench.has_supply:
        rails = (("dd", bench.corner.vdd_v), ("ss", bench.corner.vss_v))
        lines += [f"V{r} r{r} 0 {number(v)}" for r, v in rails]
        lines += [f"B{r} v{r} r{r} v=v(xv{r})*v(u)" for r, _ in rails]
    return lines


def port(name: str) -> Alter:
    """The wave enters at one port with strength 1, the other ports are still."""
    return Alter(tuple((f"vx{p}", float(p == name)) for p in PORTS))


def path_lines(
    bench: CellBench,
    copy: Copy,
    name: str = "",
    *,
    own_rails: bool = False,
    unit: bool = False,
    loaded: bool = True,
) -> list[str]:
    """One instance of a copy: drive, contract's load, on the copy's own rails or the shared ones.

    ``unit``: a current input is driven with x unit currents (:func:`servo_lines`); else with x amperes. Loads are
    noiseless, as is the source resistor of the instance ``SOURCED``.
    """
    k = f"{name}{copy.tag}"
    rails = copy.tag if own_rails else ""
    nodes = {pin: f"{_NODES[pin]}{k}" for pin in bench.cell.contract.pins if pin in _NODES}
    nodes |= {"ref": "cm"} if "ref" in bench.cell.contract.pins else {}
    nodes |= {rail: f"{rail}{rails}" for rail in ("vdd", "vss")} if bench.has_supply else {}
    lines = [bench.instance(copy, nodes, name)]
    match bench.cell.role:
        case "activation":
            lines.append(f"Vi{k} x i{k} 0")
        case "driver":
            lines += [f"Vi{k} xp i{k} 0", f"Vj{k} xn j{k} 0"]
        case _:
            lines += _current_input(bench, copy, name, unit=unit)
    for node in output_nodes(bench, copy, name) if loaded else ():
        if "load" in bench.cell.contract.conditions:
            lines.append(f"Cl{node} {node} 0 {number(bench.condition('load', 0.0))}")
        if "load_r" in bench.cell.contract.conditions:
            lines.append(f"Rl{node} {node} rest {number(bench.condition('load_r', 0.0))} noisy=0")
    return lines


_NODES = {"in": "i", "in_p": "i", "in_n": "j", "out": "o", "out_p": "o", "out_n": "q"}


def _current_input(bench: CellBench, copy: Copy, name: str, *, unit: bool) -> list[str]:
    k = f"{name}{copy.tag}"
    lines = [f"Vi{k} d{k} i{k} 0"]
    if name == SOURCED:
        lines.append(f"Rs{k} i{k} cm {number(bench.condition('source_r', 0.0))} noisy=0")
    if unit:
        per_volt = number(1 / unit_v(bench))
        lines.append(f"Bd{k} 0 d{k} i={per_volt}*i(Vi{SERVO}{copy.tag})*(v(x)-v(cm))")
    elif name != SERVO:
        lines.append(f"Gd{k} 0 d{k} x cm 1")
    return lines


def servo_lines(bench: CellBench, copy: Copy, *, own_rails: bool = False) -> list[str]:
    """The further instance of a current-input copy that finds its unit current; only DC closes its loop.

    None for other cells.
    """
    if bench.cell.role not in CURRENT_INPUTS:
        return []
    k, reach = f"{SERVO}{copy.tag}", number(unit_v(bench))
    slow_s = SERVO_SLOW / bench.bandwidth_hz if 0 < bench.bandwidth_hz < math.inf else 1.0
    return [
        *path_lines(bench, copy, SERVO, own_rails=own_rails),
        f"Bh{k} 0 h{k} i=v(o{k})-v(cm)-{reach}",
        f"Rh{k} h{k} 0 {number(SERVO_GAIN)} noisy=0",
        f"Ch{k} h{k} 0 {number(slow_s / SERVO_GAIN)}",
        f"Gh{k} 0 d{k} h{k} 0 {number(SERVO_SIEMENS)}",
        f"Bc{k} d{k} 0 i={number(CLAMP_SIEMENS)}*(max(v(d{k})-v(cm)-{reach},0)+min(v(d{k})-v(cm)+{reach},0))",
    ]


def output_nodes(bench: CellBench, copy: Copy, name: str = "") -> list[str]:
    """Output nodes of an instance: one, or the positive and the negative one."""
    pins = [pin for pin in ROLES[bench.cell.role] if pin.startswith("out") and pin in bench.cell.contract.pins]
    return [f"{_NODES[pin]}{name}{copy.tag}" for pin in pins]


def output_vectors(bench: CellBench, copy: Copy, name: str = "") -> list[str]:
    """Vectors of the output, to be saved."""
    return [f"v({node})" for node in output_nodes(bench, copy, name)]


def output_expression(bench: CellBench, copy: Copy, name: str = "") -> str:
    """The output as a noise analysis takes it: ``v(a)`` or ``v(a,b)``."""
    return f"v({','.join(output_nodes(bench, copy, name))})"


def output(bench: CellBench, copy: Copy, plot: Plot, name: str = "") -> np.ndarray:
    """Output of an instance at each point: the difference of two outputs, or the single one."""
    signals = [plot[vector] for vector in output_vectors(bench, copy, name)]
    return signals[0] - signals[1] if len(signals) == 2 else signals[0]


def output_rest_v(bench: CellBench) -> float:
    """What counts as no output: 0 between two outputs; ``out_cm`` (mid-supply unless stated) of a single one."""
    if "out_n" in bench.cell.contract.pins:
        return 0.0
    return (
        common_mode_v(bench) if bench.cell.role in CURRENT_INPUTS else bench.condition("out_cm", bench.corner.middle_v)
    )


def input_vector(copy: Copy, name: str = "") -> str:
    """Current into the (positive) input, to be saved."""
    return f"i(vi{name}{copy.tag})"
