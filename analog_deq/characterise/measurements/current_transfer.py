"""Static transfer of a current input, an integrator's or a summer's: transresistance, offset, swing."""

from __future__ import annotations

from collections.abc import Sequence

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
from analog_deq.characterise.measurements.activation_transfer import OUTPUT_OFFSET, POINTS
from analog_deq.characterise.measurements.driver_transfer import SWING_HIGH, SWING_LOW, swing_values
from analog_deq.records import Plot


class CurrentTransfer(AbstractCellMeasurement):
    """Output against the input current, as far as an ideal cell would take it to the typical rails."""

    name = "transfer"
    roles = path.CURRENT_INPUTS
    quantities = (
        Quantity("transresistance", "ohm", "magnitude", "change of the output per ampere into the input, at DC"),
        OUTPUT_OFFSET,
        SWING_HIGH,
        SWING_LOW,
    )

    def testbench(self, bench: CellBench) -> Testbench:
        lines, save = path.drive_lines(bench), []
        for copy in bench.copies:
            lines += [*path.path_lines(bench, copy, unit=True), *path.servo_lines(bench, copy)]
            save += [*path.output_vectors(bench, copy), path.input_vector(copy)]
        return Testbench("static transfer of a current input", lines, [path.sweep(bench, POINTS)], save)

    def values(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Value]:
        current, y = _curve(bench, copy, plots[0])
        if current[0] == current[-1]:
            return [undefined(q.id, "no direct current into the input moves the output") for q in self.quantities]
        rising = current if current[-1] > current[0] else -current
        spline = CubicSpline(rising, y)
        sign = 1.0 if rising is current else -1.0
        return [
            Value("transresistance", sign * float(spline(0.0, 1))),
            Value(OUTPUT_OFFSET.id, float(spline(0.0))),
            *swing_values(rising, y),
        ]

    def curves(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Curve]:
        return [Curve("transfer", *_curve(bench, copy, plots[0]))]


def _curve(bench: CellBench, copy: Copy, plot: Plot) -> tuple:
    return plot[path.input_vector(copy)], path.output(bench, copy, plot) - path.output_rest_v(bench)
