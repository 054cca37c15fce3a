"""What an amplifier does at DC: offset, supply power, how far the output swings, which common mode the inputs take.

The amplifier stands under unity feedback through an ideal adder. Offset is v(out) less its target with both at
mid-supply: systematic in the nominal cell, random on top of it in a die. A limit is where the slope of a sweep has
changed by 1 %: of the output against its target for the swing (gain compression), against the common mode for the
input range (where it says that the DC common-mode rejection has fallen to 40 dB).
"""

from __future__ import annotations

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
    typical_supply_v,
)
from analog_deq.characterise.measurements.rails import RAIL_QUANTITIES, rail_values, rail_vectors
from analog_deq.netlists.deck import number
from analog_deq.records import Alter, Dc, Op, Plot
from analog_deq.waveforms import departures

COMPRESSION = 0.01
POINTS = 600
BEYOND = 0.05
"""Sweeps go this share of the supply beyond the rails: a limit that lies outside is a model's, not a circuit's."""
WITHOUT_SUPPLY_V = 20.0
"""Width of the sweeps of a cell without supply pins."""
NO_SLOPE = 1e-9
"""Output per common mode that is only the solver's rounding: 180 dB of rejection."""


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
        middle, common = number(bench.corner.middle_v), number(common_mode_v(bench))
        lines = [f"Vt t 0 {middle}", f"Vcm cm 0 {common}"]
        save = []
        for copy in bench.copies:
            lines += feedback_lines(bench, copy)
            save += [f"v(o{copy.tag})", *rail_vectors(bench, copy)]
        low, high = sweep_range(bench)
        step = (high - low) / POINTS
        return Testbench(
            "operating point, output swing and common-mode range of an amplifier",
            lines,
            [Op(), Dc("Vt", low, high, step), Alter((("vt", bench.corner.middle_v),)), Dc("Vcm", low, high, step)],
            save,
        )

    def values(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Value]:
        point, swing, inputs = plots
        out = f"v(o{copy.tag})"
        return [
            _offset(bench, float(point[out][0]) - bench.corner.middle_v),
            *rail_values(bench, copy, point),
            *_swing(bench, swing.sweep, swing[out]),
            *_input_range(bench, inputs.sweep, inputs[out]),
        ]

    def curves(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Curve]:
        out = f"v(o{copy.tag})"
        return [
            Curve("output_swing", plots[1].sweep, plots[1][out], load_text(bench)),
            Curve("common_mode_error", plots[2].sweep, plots[2][out] - bench.corner.middle_v, load_text(bench)),
        ]


def sweep_range(bench: CellBench) -> tuple[float, float]:
    """Lowest and highest voltage of the sweeps: a little beyond the rails of the corner."""
    if not bench.has_supply:
        return -WITHOUT_SUPPLY_V / 2, WITHOUT_SUPPLY_V / 2
    margin = BEYOND * typical_supply_v(bench, WITHOUT_SUPPLY_V)
    return bench.corner.vss_v - margin, bench.corner.vdd_v + margin


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
    if np.all(np.abs(slope) < NO_SLOPE):
        return [
            not_modelled(f"input_{end}", "the output does not depend on the common mode") for end in ("high", "low")
        ]
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
