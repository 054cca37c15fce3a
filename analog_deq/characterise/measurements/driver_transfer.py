"""Static transfer of a driver: gain, gain error, offset, swing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.interpolate import CubicSpline

from analog_deq.characterise.measurement import (
    AbstractCellMeasurement,
    CellBench,
    Copy,
    Curve,
    Quantity,
    Testbench,
    Value,
    undefined,
)
from analog_deq.characterise.measurements import signal_path as path
from analog_deq.characterise.measurements.activation_transfer import INPUT_OFFSET, POINTS
from analog_deq.characterise.measurements.static import COMPRESSION
from analog_deq.records import Plot

SWING_HIGH = Quantity("swing_high", "V", "low", "highest output: 1 % compression of the gain")
SWING_LOW = Quantity("swing_low", "V", "high", "lowest output: 1 % compression of the gain")


class DriverTransfer(AbstractCellMeasurement):
    """v(out_p) - v(out_n) against v(in_p) - v(in_n), both inputs moving in opposite directions, under the load.

    The gain error is relative to the contract's condition ``gain``.
    """

    name = "transfer"
    roles = ("driver",)
    quantities = (
        Quantity("gain", "V/V", "low", "differential gain at rest"),
        Quantity("gain_error", "%", "magnitude", "deviation of the gain from the one the contract states"),
        INPUT_OFFSET,
        SWING_HIGH,
        SWING_LOW,
    )

    def testbench(self, bench: CellBench) -> Testbench:
        lines, save = path.drive_lines(bench), []
        for copy in bench.copies:
            lines += path.path_lines(bench, copy)
            save += path.output_vectors(bench, copy)
        return Testbench("static transfer of a driver", lines, [path.sweep(bench, POINTS)], save)

    def values(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Value]:
        x, y = plots[0].sweep, path.output(bench, copy, plots[0])
        spline = CubicSpline(x, y)
        gain = float(spline(0.0, 1))
        if gain == 0.0:
            return [undefined(q.id, "the output does not move") for q in self.quantities]
        stated = bench.condition("gain", 0.0)
        roots = spline.solve(0.0, extrapolate=False)
        return [
            Value("gain", gain),
            Value("gain_error", 100 * (gain / stated - 1))
            if stated
            else undefined("gain_error", "the contract states no gain (conditions.gain)"),
            Value(INPUT_OFFSET.id, float(roots[np.argmin(np.abs(roots))]))
            if roots.size
            else undefined(INPUT_OFFSET.id, "the output does not cross zero in the input range"),
            *swing_values(x, y),
        ]

    def curves(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Curve]:
        return [Curve("transfer", plots[0].sweep, path.output(bench, copy, plots[0]))]


def swing_values(x: np.ndarray, y: np.ndarray) -> list[Value]:
    """``swing_high`` and ``swing_low`` of an output ``y``: where dy/dx has changed by 1 % of its value at x = 0.

    ``undefined`` where it changes less in the whole sweep.
    """
    spline = CubicSpline(x, y)
    slope = spline.derivative()
    gain = float(slope(0.0))
    bent = np.concatenate([slope.solve((1 + sign * COMPRESSION) * gain, extrapolate=False) for sign in (1, -1)])
    ends = [
        float(spline(part[np.argmin(np.abs(part))])) if part.size else None for part in (bent[bent < 0], bent[bent > 0])
    ]
    low, high = ends if gain > 0 else ends[::-1]
    never = "the gain changes by less than 1 % in the range of the sweep"
    return [
        undefined(q.id, never) if value is None else Value(q.id, value)
        for q, value in ((SWING_HIGH, high), (SWING_LOW, low))
    ]
