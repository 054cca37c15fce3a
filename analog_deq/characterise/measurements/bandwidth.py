"""Bandwidth of a cell with one input and one output, from its small-signal response at rest."""

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
    not_modelled,
    undefined,
)
from analog_deq.characterise.measurements import signal_path as path
from analog_deq.characterise.measurements.amplifier import START_HZ
from analog_deq.characterise.measurements.open_loop import FLAT, PER_DECADE, STOP_HZ
from analog_deq.records import Ac, Plot

HALF_POWER = float(np.log(0.5) / 2)
BANDWIDTH = Quantity("bandwidth", "Hz", "low", "frequency where the small-signal response has fallen by 3 dB")
PEAKING = Quantity("peaking", "dB", "high", "largest small-signal response over that at DC")


class Bandwidth(AbstractCellMeasurement):
    """-3 dB frequency and peaking at rest: of v(out) over x, or of the transresistance of a current input."""

    name = "bandwidth"
    roles = path.PATHS
    ranging = True
    quantities = (BANDWIDTH, PEAKING)

    def testbench(self, bench: CellBench) -> Testbench:
        lines, save = path.drive_lines(bench), []
        for copy in bench.copies:
            for name, _ in path.variants(bench):
                lines += path.path_lines(bench, copy, name)
                save += path.output_vectors(bench, copy, name)
        return Testbench("small-signal response", lines, [Ac(PER_DECADE, START_HZ, STOP_HZ)], save, bound=1e12)

    def values(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Value]:
        f = plots[0].sweep
        return [
            value
            for name, at in path.variants(bench)
            for value in response_values(f, path.output(bench, copy, plots[0], name), at)
        ]

    def curves(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Curve]:
        return [
            Curve("response", plots[0].sweep, np.abs(path.output(bench, copy, plots[0], name)), at)
            for name, at in path.variants(bench)
        ]


def response_values(frequency_hz: np.ndarray, response: np.ndarray, at: str = "") -> list[Value]:
    """Bandwidth and peaking of a complex response that starts at DC.

    The crossing is interpolated by a cubic spline in a log-log plot: 20 points per decade give a pole to 1e-5.
    """

    def neither(value: Value) -> list[Value]:
        return [value, Value(PEAKING.id, value.value, at, value.status)]

    size = np.abs(response)
    if size[0] == 0.0:
        return neither(undefined(BANDWIDTH.id, "the cell has no small-signal gain at rest", at))
    if abs(size[PER_DECADE] / size[0] - 1) > FLAT:
        return neither(undefined(BANDWIDTH.id, f"the response still changes at {frequency_hz[0]:g} Hz", at))
    log_hz, level = np.log(frequency_hz), np.log(np.maximum(size / size[0], 1e-30))
    below = np.flatnonzero(level < HALF_POWER)
    peaking = Value(PEAKING.id, 20 / np.log(10) * _top(log_hz, level), at)
    if below.size == 0:
        never = f"the model's response falls by less than 3 dB up to {frequency_hz[-1]:g} Hz"
        return [not_modelled(BANDWIDTH.id, never, at), peaking]
    k = int(below[0])
    roots = _near(log_hz, level, k).solve(HALF_POWER, extrapolate=False)
    within = [r for r in roots if log_hz[k - 1] <= r <= log_hz[k]]
    return [Value(BANDWIDTH.id, float(np.exp(within[0])), at), peaking]


def _top(x: np.ndarray, y: np.ndarray) -> float:
    k = int(np.argmax(y))
    if k in {0, len(y) - 1}:
        return float(y[k])
    spline = _near(x, y, k)
    return max(float(y[k]), *(float(spline(r)) for r in spline.derivative().roots(extrapolate=False)))


def _near(x: np.ndarray, y: np.ndarray, k: int) -> CubicSpline:
    """Spline through the points around point k."""
    near = slice(max(0, k - 6), k + 6)
    return CubicSpline(x[near], y[near])
