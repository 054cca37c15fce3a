"""Step response of a cell with one input and one output: delay, settling, overshoot.

The input steps from rest to a small and a large value, both ways, and back is not looked at. Final values come from
operating points, not from the end of the waveform. Time counts from the middle of the edge.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from analog_deq.characterise.measurement import (
    AbstractCellMeasurement,
    CellBench,
    Copy,
    Curve,
    Quantity,
    Testbench,
    Value,
    WindowTooShortError,
    not_modelled,
    undefined,
)
from analog_deq.characterise.measurements import signal_path as path
from analog_deq.characterise.measurements.amplifier import compact
from analog_deq.characterise.measurements.step_response import SETTLED_SHARE, TOLERANCES, StepResponse
from analog_deq.netlists.deck import number
from analog_deq.records import Alter, Command, Op, Plot, Tran
from analog_deq.waveforms import crossing, overshoot, settling_time

LARGE = 2.5
"""The large step over the small one (``signal_path.UNIT``)."""
TIME_CONSTANTS = 16.0
"""Window after the edge, in time constants of a single pole of the cell's bandwidth."""
POINTS = 1000
MOST_POINTS = 4000
"""A stretched window gets more points up to this: the fast end of what is measured keeps its resolution."""
EDGE = 5e-3
"""Rise time of the edge, and the time before it, in time constants. Sharper ones cost convergence, not accuracy."""
STILL = 1e-6
"""Output change over the input step below which the output does not move."""
OPTIONS = {"reltol": 1e-7}
"""0.01 % of a small step is some microvolts, which the usual tolerance on a node at 1 V would not show."""
DELAY = Quantity("delay", "s", "high", "time to 50 % of the output's step from 50 % of the input's")


class PathStep(AbstractCellMeasurement):
    """Delay, settling to 0.1 % and 0.01 %, overshoot; each for a small and a large step up and down.

    The steps are a tenth and a quarter of half the input range; of a current input, those shares of the typical supply
    at the output.
    """

    name = "step_response"
    roles = path.PATHS
    copies = 16
    quantities = (DELAY, *(q for q in StepResponse.quantities if q.id in {*TOLERANCES, "overshoot"}))

    def testbench(self, bench: CellBench) -> Testbench:
        current = bench.cell.role in path.CURRENT_INPUTS
        lines, save = path.drive_lines(bench, step_wave(bench)), []
        for copy in bench.copies:
            lines += path.servo_lines(bench, copy)
            for name, _ in path.variants(bench):
                lines += path.path_lines(bench, copy, name, unit=current)
                save += path.output_vectors(bench, copy, name)
        commands: list[Command] = []
        for x in steps_v(bench):
            commands += [
                Alter((("vxinput", x), ("vhold", 1.0))), Op(),
                Alter((("vhold", 0.0),)), step_tran(bench, window_s(bench)),
            ]  # fmt: skip
        return Testbench("step responses", lines, commands, save, options=OPTIONS)

    def values(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Value]:
        return [
            value
            for at, step, t, y, final in _responses(bench, copy, plots)
            for value in _step_values(bench, at, step, t, y, final)
        ]

    def curves(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Curve]:
        return [Curve("step_response", t, y, at) for at, _, t, y, _ in _responses(bench, copy, plots)]


def steps_v(bench: CellBench) -> list[float]:
    """The steps of x, volts."""
    unit = path.unit_v(bench)
    return [unit, -unit, LARGE * unit, -LARGE * unit]


def window_s(bench: CellBench, time_constants: float = TIME_CONSTANTS) -> float:
    """Time after the edge; of a cell of infinite bandwidth, some arbitrary time."""
    return time_constants * bench.stretch / (2 * math.pi * min(bench.bandwidth_hz, 1e12))


def edge_s(bench: CellBench) -> float:
    """Rise time of the step, and the time before it; no longer window makes it longer."""
    return EDGE / (2 * math.pi * min(bench.bandwidth_hz, 1e12))


def step_wave(bench: CellBench) -> str:
    """Source waveform that steps from 0 to 1."""
    edge = edge_s(bench)
    return f"dc 0 PWL(0 0 {number(edge)} 0 {number(2 * edge)} 1)"


def step_tran(bench: CellBench, window: float) -> Tran:
    """Transient of a step and the window after it."""
    longest = window / min(POINTS * bench.stretch, MOST_POINTS)
    return Tran(longest, window + 2 * edge_s(bench), longest)


def after_edge(bench: CellBench, plot: Plot, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Time since the middle of the edge, and ``y``, from just before the edge on."""
    t = plot.sweep - 1.5 * edge_s(bench)
    keep = t >= -edge_s(bench)
    return t[keep], y[keep]


def _responses(
    bench: CellBench, copy: Copy, plots: Sequence[Plot]
) -> Iterator[tuple[str, float, np.ndarray, np.ndarray, float]]:
    """(``at``, step of x, time, output, final output) of every instance and step."""
    for name, source in path.variants(bench):
        for k, x in enumerate(steps_v(bench)):
            text = f"step={compact(abs(x), 'V')} {'rise' if x > 0 else 'fall'} {source}".strip()
            final = float(path.output(bench, copy, plots[2 * k], name)[0])
            t, y = after_edge(bench, plots[2 * k + 1], path.output(bench, copy, plots[2 * k + 1], name))
            yield text, x, t, y, final


def _step_values(bench: CellBench, at: str, x: float, t: np.ndarray, y: np.ndarray, final: float) -> list[Value]:
    ids = [DELAY.id, *TOLERANCES, "overshoot"]
    start = float(y[0])
    step = final - start
    if abs(step) <= STILL * abs(x):
        return [undefined(i, "the output does not move", at) for i in ids]
    if math.isinf(bench.bandwidth_hz):
        return [not_modelled(i, "the model's bandwidth is infinite", at) for i in ids]
    share = (y - start) / step
    reached = np.flatnonzero(share >= 0.5)
    times = [settling_time(t, y, final, tolerance * abs(step)) for tolerance in TOLERANCES.values()]
    if reached.size == 0 or not max(times) <= SETTLED_SHARE * t[-1]:
        raise WindowTooShortError(f"the output has not settled within {t[-1]:.3g} s ({at})")
    return [
        Value(DELAY.id, crossing(t, share, int(reached[0]), 0.5), at),
        *(Value(i, time, at) for i, time in zip(TOLERANCES, times, strict=True)),
        Value("overshoot", overshoot(y, start, final), at),
    ]
