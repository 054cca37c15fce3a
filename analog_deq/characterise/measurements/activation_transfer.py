"""Static transfer of an activation: slope, saturation, offsets, monotonicity, distance from a tanh."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.optimize import least_squares

from analog_deq.characterise.measurement import (
    AbstractCellMeasurement,
    CellBench,
    Copy,
    Curve,
    Quantity,
    Testbench,
    Value,
    WindowTooShortError,
    undefined,
)
from analog_deq.characterise.measurements import signal_path as path
from analog_deq.records import Plot

POINTS = 400
FINE = 10.0
"""Smallest number of points, at the slope at rest, between no output and full output."""
FINEST = 64.0
"""Largest stretch of the number of points; what is steeper still is a switch."""
INPUT_OFFSET = Quantity("input_offset", "V", "magnitude", "input, from rest, of no output")
OUTPUT_OFFSET = Quantity("output_offset", "V", "magnitude", "output with the input at rest")


class ActivationTransfer(AbstractCellMeasurement):
    """Output against the input over its range: ``in_range`` of the contract, else the typical rails.

    The sweep gets four times the points until the steep part has enough of them. Full scale (FS) is half the distance
    between the saturation levels. The tanh is S tanh((x - a)/x0) + b with all four fitted by least squares: a and b are
    the offsets, stated apart.
    """

    name = "transfer"
    roles = ("activation",)
    quantities = (
        Quantity("slope", "V/V", "low", "slope of the output at rest"),
        Quantity("saturation_high", "V", "low", "highest output over the input range"),
        Quantity("saturation_low", "V", "high", "lowest output over the input range"),
        INPUT_OFFSET,
        OUTPUT_OFFSET,
        Quantity("tanh_deviation", "%FS", "high", "largest distance from the best-fitting tanh, offsets taken out"),
        Quantity("backslide", "%FS", "high", "largest fall of the output while the input rises; 0 for a monotone cell"),
    )

    def testbench(self, bench: CellBench) -> Testbench:
        lines, save = path.drive_lines(bench), []
        for copy in bench.copies:
            lines += path.path_lines(bench, copy)
            save += path.output_vectors(bench, copy)
        return Testbench("static transfer of an activation", lines, [path.sweep(bench, points(bench))], save)

    def values(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Value]:
        x, y = plots[0].sweep, path.output(bench, copy, plots[0]) - path.output_rest_v(bench)
        high, low = float(y.max()), float(y.min())
        if high == low:
            return [undefined(q.id, "the output does not move") for q in self.quantities]
        spline, scale = CubicSpline(x, y), (high - low) / 2
        at_rest = bool(x[0] <= 0 <= x[-1])
        slope = float(spline(0.0, 1)) if at_rest else np.nan
        steepest = float(np.max(np.abs(np.diff(y) / np.diff(x))))
        if steepest * (x[1] - x[0]) > scale / FINE and bench.stretch < FINEST:
            raise WindowTooShortError("the steep part of the transfer has too few points")
        roots = spline.solve(0.0, extrapolate=False)
        outside = "rest is outside the input range"
        return [
            Value("slope", slope) if at_rest else undefined("slope", outside),
            Value("saturation_high", high),
            Value("saturation_low", low),
            Value(INPUT_OFFSET.id, float(roots[np.argmin(np.abs(roots))]))
            if roots.size
            else undefined(INPUT_OFFSET.id, "the output does not cross zero in the input range"),
            Value(OUTPUT_OFFSET.id, float(spline(0.0))) if at_rest else undefined(OUTPUT_OFFSET.id, outside),
            Value("tanh_deviation", 100 * tanh_deviation(x, y) / scale),
            Value("backslide", 100 * float(np.max(np.maximum.accumulate(y) - y)) / scale),
        ]

    def curves(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Curve]:
        return [Curve("transfer", plots[0].sweep, path.output(bench, copy, plots[0]))]


def points(bench: CellBench) -> int:
    """Steps of the sweep."""
    return round(POINTS * min(bench.stretch, FINEST))


def tanh_deviation(x: np.ndarray, y: np.ndarray) -> float:
    """Largest |y - S tanh((x - a)/x0) - b|, in the unit of ``y``, S, x0, a, b by least squares.

    >>> x = np.linspace(-1, 1, 201)
    >>> tanh_deviation(x, 0.3 * np.tanh((x - 0.1) / 0.2) + 0.05) < 1e-9
    True
    """
    scale, centre = (y.max() - y.min()) / 2, (y.max() + y.min()) / 2
    steep = float(np.max(np.abs(np.gradient(y, x))))
    start = [np.sign(y[-1] - y[0]) or 1.0, scale / steep, float(x[np.argmin(np.abs(y - centre))]), 0.0]

    def residual(p: np.ndarray) -> np.ndarray:
        return p[0] * np.tanh((x - p[2]) / p[1]) + p[3] - (y - centre) / scale

    fit = least_squares(residual, start, x_scale=[1.0, start[1], start[1], 1.0], xtol=1e-14, ftol=1e-14, gtol=1e-14)
    return float(scale * np.max(np.abs(fit.fun)))
