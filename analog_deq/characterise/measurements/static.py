"""What an amplifier does at DC: offset, supply power, how far the output swings, which common mode the inputs take.

The amplifier stands under unity feedback through an ideal adder. Offset is v(out) less its target with both at
mid-supply: systematic in the nominal cell, random on top of it in a die. A limit is where the slope of a sweep has
changed by 1 %: of the output against its target for the swing (gain compression), against the common mode for the
input range (where it says that the DC common-mode rejection has fallen to 40 dB).

The sweeps are ramps in time, so slow that they pass for DC: a transient carries its solution from point to point, while
ngspice starts each point of a DC sweep anew, and on two-stage amplifiers of BSIM4 devices falls back to stepping there.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from analog_deq.characterise.measurement import (
    AbstractCellMeasurement,
    CellBench,
    Copy,
    Curve,
    Quantity,
    Testbench,
    Value,
    not_modelled,
    undefined,
)
from analog_deq.characterise.measurements.amplifier import (
    common_mode_v,
    feedback_lines,
    load_text,
)
from analog_deq.characterise.measurements.rails import RAIL_QUANTITIES, rail_values, rail_vectors
from analog_deq.netlists.deck import number
from analog_deq.records import Alter, Command, Op, Plot, Tran
from analog_deq.waveforms import departures

COMPRESSION = 0.01
POINTS = 600
RAMP = 1e10
"""Length of a ramp in units of 1 / GBW: minutes, so that a node which only leakage holds has moved too."""
SWEEPS = ("t", "cm")
ANY_ERROR = 1e9
"""Truncation error is no reason for smaller steps: they stay so long that even an unstable loop is damped by Gear."""
BEYOND = 0.05
"""Sweeps go this share of the supply beyond the farther rail: a limit outside is a model's, not a circuit's."""
WITHOUT_SUPPLY_V = 20.0
"""Width of the sweeps of a cell without supply."""
NO_CHANGE = 1e-6
"""Change of the output per common mode, over the whole sweep, that is only the solver's rounding."""


class Static(AbstractCellMeasurement):
    """Offset, supply current and power, output swing, input common-mode range: an operating point and two sweeps."""

    name = "static"
    roles = ("opamp", "ota")
    quantities = (
        Quantity("offset", "V", "magnitude", "input offset, unity feedback at mid-supply"),
        *RAIL_QUANTITIES,
        Quantity("swing_high", "V", "low", "highest output: 1 % compression of the gain"),
        Quantity("swing_low", "V", "high", "lowest output: 1 % compression of the gain"),
        Quantity("input_high", "V", "low", "highest input common mode: rejection of 40 dB left"),
        Quantity("input_low", "V", "high", "lowest input common mode: rejection of 40 dB left"),
    )

    def testbench(self, bench: CellBench) -> Testbench:
        ramp = ramp_s(bench)
        lines = [
            f"Vw w 0 PWL(0 0 {number(ramp)} 1)",
            *(f"Vx{name} x{name} 0 0" for name in SWEEPS),
            *(f"B{name} {name} 0 v={number(start)}+v(x{name})*v(w)" for name, start in starts(bench).items()),
        ]
        save = []
        for copy in bench.copies:
            lines += feedback_lines(bench, copy)
            save += [f"v(o{copy.tag})", *rail_vectors(bench, copy)]
        commands: list[Command] = [Op()]
        for swept, side in itertools.product(SWEEPS, (-1, 1)):
            on = tuple((f"vx{name}", side * reach_v(bench, name) if name == swept else 0.0) for name in SWEEPS)
            commands += [Alter(on), Tran(ramp / POINTS, ramp, ramp / POINTS)]
        options = {"trtol": ANY_ERROR, "gmin": 1e-12}
        return Testbench("operating point, output swing and common-mode range", lines, commands, save, options)

    def values(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Value]:
        point, swing, inputs = plots[0], plots[1:3], plots[3:5]
        out = f"v(o{copy.tag})"
        return [
            _offset(bench, float(point[out][0]) - bench.corner.middle_v),
            *rail_values(bench, copy, point),
            *_swing(bench, *_swept(bench, "t", swing, out)),
            *_input_range(bench, *_swept(bench, "cm", inputs, out)),
        ]

    def curves(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Curve]:
        out = f"v(o{copy.tag})"
        common, held = _swept(bench, "cm", plots[3:5], out)
        return [
            Curve("output_swing", *_swept(bench, "t", plots[1:3], out), load_text(bench)),
            Curve("common_mode_error", common, held - bench.corner.middle_v, load_text(bench)),
        ]


def ramp_s(bench: CellBench) -> float:
    """Time of a sweep from its start to either end."""
    return RAMP / bench.bandwidth_hz


def starts(bench: CellBench) -> dict[str, float]:
    """Where the sweep of each shared node starts: target at mid-supply, inputs at their common mode."""
    return {"t": bench.corner.middle_v, "cm": common_mode_v(bench)}


def reach_v(bench: CellBench, name: str) -> float:
    """How far a sweep goes to either side: a little beyond the farther rail of the corner."""
    if not bench.has_supply:
        return WITHOUT_SUPPLY_V / 2
    start, corner = starts(bench)[name], bench.corner
    return max(corner.vdd_v - start, start - corner.vss_v) + BEYOND * (corner.vdd_v - corner.vss_v)


def _swept(bench: CellBench, name: str, plots: Sequence[Plot], vector: str) -> tuple[np.ndarray, np.ndarray]:
    """(swept voltage, vector) on a rising grid, from a ramp down and a ramp up."""
    share = np.linspace(0.0, 1.0, POINTS + 1)
    down, up = (np.interp(share * ramp_s(bench), plot.sweep, plot[vector]) for plot in plots)
    swept = starts(bench)[name] + reach_v(bench, name) * np.concatenate([-share[:0:-1], share])
    return swept, np.concatenate([down[:0:-1], up])


def _offset(bench: CellBench, volts: float) -> Value:
    if volts == 0.0 and bench.cell.contract.mismatch.mode == "none":
        return not_modelled("offset", "the model has neither a systematic nor a random offset")
    return Value("offset", volts)


def _swing(bench: CellBench, target: np.ndarray, out: np.ndarray) -> list[Value]:
    slope, at = np.diff(out) / np.diff(target), (target[1:] + target[:-1]) / 2
    start = bench.corner.middle_v
    unit = float(np.interp(start, at, slope))
    if unit <= 0.5:
        why = f"the output does not follow at mid-supply: the gain of the unity buffer is {unit:.3g}"
        return [undefined(f"swing_{end}", why, load_text(bench)) for end in ("high", "low")]
    low, high = departures(at, slope / unit, start, 1.0, COMPRESSION)
    return [
        Value(f"swing_{end}", float(np.interp(limit, target, out)), load_text(bench)) if np.isfinite(limit)
        else not_modelled(f"swing_{end}", f"the output follows beyond {edge:.4g} V", load_text(bench))
        for end, limit, edge in (("high", high, at[-1]), ("low", low, at[0]))
    ]  # fmt: skip


def _input_range(bench: CellBench, common: np.ndarray, out: np.ndarray) -> list[Value]:
    slope, at = np.diff(out) / np.diff(common), (common[1:] + common[:-1]) / 2
    start = common_mode_v(bench)
    if np.ptp(slope) < NO_CHANGE:
        return [not_modelled(f"input_{end}", "the common mode is rejected alike everywhere") for end in ("high", "low")]
    rejected = float(np.interp(start, at, np.abs(slope)))
    if rejected > COMPRESSION:
        why = f"the common mode is rejected by only {-20 * np.log10(rejected):.1f} dB at {start:.4g} V"
        return [undefined(f"input_{end}", why) for end in ("high", "low")]
    low, high = departures(at, slope, start, 0.0, COMPRESSION)
    return [
        Value(f"input_{end}", limit) if np.isfinite(limit)
        else undefined(f"input_{end}", f"no limit as far as {edge:.4g} V, where the sweep ends")
        for end, limit, edge in (("high", high, at[-1]), ("low", low, at[0]))
    ]  # fmt: skip
