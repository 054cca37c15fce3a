"""Response of an amplifier to a small and a large step: slew rate, settling time, overshoot.

The amplifier stands under unity feedback through an ideal adder. The pulse goes from half a step below mid-supply to
half a step above and back. Final values come from operating points, not from the end of the waveform: what is still
creeping there counts as outside its band. Time counts from the middle of the edge.

The slew rate is the slope from 20 to 80 % of the large step. A tail current that saturates like tanh with a linear
range of v0 = SR / (2 pi GBW) is measured 1 % low at a step of 8 v0, 6 % low at 4.5 v0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

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
from analog_deq.characterise.measurements.amplifier import (
    common_mode_v,
    compact,
    feedback_lines,
    load_text,
    typical_supply_v,
)
from analog_deq.netlists.deck import number
from analog_deq.records import Alter, Command, Op, Plot, Tran
from analog_deq.waveforms import overshoot, settling_time, slew_rate

SMALL_STEP_V = 10e-3
LARGE_SHARE = {"opamp": 0.6, "ota": 0.35}
"""Large step in shares of the typical supply. One stage swings less: its input pair bounds the output."""
WITHOUT_SUPPLY_V = 2.0
WINDOW = 8.0
"""Time after each edge, in units of 1 / GBW: 50 time constants of a single pole."""
POINTS = 2000
"""Least number of time steps in a window: a single pole then settles to 0.01 % within 0.02 % of the closed form."""
RISE = 2e-3
"""Rise time of the edge, and the time before it, in units of 1 / GBW; a slewing output is early by half of it."""
SETTLED_SHARE = 0.75
"""A response must be settled this early in its window to count."""
TOLERANCES = {"settle_0p1": 1e-3, "settle_0p01": 1e-4}
SCALES = 1e-3
"""A large and a small step that agree this well in the time from 20 to 80 % of each have no slew limit between them."""
SHRINKS = 0.9


class StepResponse(AbstractCellMeasurement):
    """Slew rate both ways; settling to 0.1 % and 0.01 % and overshoot of a small and a large step, both ways.

    The large step is the contract's condition ``step`` in volts, else ``LARGE_SHARE`` of the typical supply.
    """

    name = "step_response"
    roles = ("opamp", "ota")
    copies = 16
    quantities = (
        Quantity("slew_rise", "V/s", "low", "slope from 20 to 80 % of a rising step"),
        Quantity("slew_fall", "V/s", "low", "slope from 20 to 80 % of a falling step"),
        Quantity("settle_0p1", "s", "high", "time to stay within 0.1 % of a step"),
        Quantity("settle_0p01", "s", "high", "time to stay within 0.01 % of a step"),
        Quantity("overshoot", "1", "high", "excursion beyond the final value, relative to the step"),
    )

    def testbench(self, bench: CellBench) -> Testbench:
        window = window_s(bench)
        edge = RISE / bench.bandwidth_hz
        middle, common = number(bench.corner.middle_v), number(common_mode_v(bench))
        corners = [(0.0, -0.5), (edge, -0.5), (2 * edge, 0.5), (window + edge, 0.5), (window + 2 * edge, -0.5)]
        lines = [
            f"Vw w 0 PWL({' '.join(f'{number(t)} {number(v)}' for t, v in corners)})",
            "Vsize z 0 0",
            "Vhold h 0 0",
            f"Bt t 0 v={middle}+v(z)*(v(h)+v(w))",
            f"Vcm cm 0 {common}",
        ]
        for copy in bench.copies:
            lines += feedback_lines(bench, copy)
        commands: list[Command] = []
        for size in (SMALL_STEP_V, large_step_v(bench)):
            stop = 2 * window + 2 * edge
            commands += [
                Alter((("vsize", size), ("vhold", 1.0))), Op(),
                Alter((("vhold", 0.0),)), Tran(window / POINTS, stop, window / POINTS),
            ]  # fmt: skip
        save = [f"v(o{copy.tag})" for copy in bench.copies]
        # ngspice's own trtol of 7 leaves 1 % of error in an overshoot
        return Testbench("step responses of an amplifier", lines, commands, save, {"trtol": 1.0})

    def values(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Value]:
        small = edges(bench, copy, plots[:2], SMALL_STEP_V)
        large = edges(bench, copy, plots[2:], large_step_v(bench))
        gain = small[0].gain
        found = [
            _slew(name, *pair, _trouble(large, gain) or _trouble(small, gain))
            for name, pair in zip(("slew_rise", "slew_fall"), zip(large, small, strict=True), strict=True)
        ]
        for pulse in (small, large):
            trouble = _trouble(pulse, gain)
            for edge in pulse:
                found += _settling(edge, trouble)
        return found

    def curves(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Curve]:
        return [
            Curve("step_response", plot.sweep, plot[f"v(o{copy.tag})"], f"step={compact(size, 'V')} {load_text(bench)}")
            for plot, size in ((plots[1], SMALL_STEP_V), (plots[3], large_step_v(bench)))
        ]


@dataclass(frozen=True, slots=True)
class Edge:
    """Response to one edge: time from the middle of the edge, output, where it starts and where it must end."""

    at: str
    t_s: np.ndarray
    y: np.ndarray
    start: float
    final: float
    step: float

    @property
    def gain(self) -> float:
        """Output per volt of the step, both at rest."""
        return (self.final - self.start) / self.step

    @property
    def slope(self) -> float:
        """Slope from 20 to 80 %, relative to the step of the output."""
        return slew_rate(self.t_s, self.y, self.start, self.final) / abs(self.final - self.start)


def window_s(bench: CellBench) -> float:
    """Time after each edge."""
    return WINDOW * bench.stretch / bench.bandwidth_hz


def large_step_v(bench: CellBench) -> float:
    """Size of the large step: the contract's ``step``, else a share of its typical supply; the same at every corner."""
    share = LARGE_SHARE[bench.cell.role] * typical_supply_v(bench, WITHOUT_SUPPLY_V)
    return bench.condition("step", float(f"{share:.3g}"))


def edges(bench: CellBench, copy: Copy, plots: Sequence[Plot], step: float) -> tuple[Edge, Edge]:
    """The rising and the falling edge of a pulse. ``plots``: operating point at the top, transient."""
    name, window = f"v(o{copy.tag})", window_s(bench)
    top, (t, y) = float(plots[0][name][0]), (plots[1].sweep, plots[1][name])
    bottom = float(y[0])
    edge = RISE / bench.bandwidth_hz
    middle, falls = 1.5 * edge, window + edge
    at = f"step={compact(step, 'V')} {load_text(bench)}"
    rising, falling = t <= falls, t >= falls
    return (
        Edge(f"{at} rise", t[rising] - middle, y[rising], bottom, top, step),
        Edge(f"{at} fall", t[falling] - window - middle, y[falling], top, bottom, -step),
    )


def _slew(name: str, large: Edge, small: Edge, trouble: str) -> Value:
    at = large.at.rsplit(" ", 1)[0]
    if trouble:
        return undefined(name, trouble, at)
    if not math.isfinite(large.slope):
        raise WindowTooShortError("the output does not reach 80 % of the step")
    if abs(large.slope / small.slope - 1) < SCALES:
        return not_modelled(
            name, "the large step is as fast for its size as the small one, nothing limits the slope", at
        )
    return Value(name, large.slope * abs(large.final - large.start), at)


def _settling(edge: Edge, trouble: str) -> list[Value]:
    if trouble:
        return [undefined(name, trouble, edge.at) for name in (*TOLERANCES, "overshoot")]
    found = []
    for name, tolerance in TOLERANCES.items():
        time = settling_time(edge.t_s, edge.y, edge.final, tolerance * abs(edge.final - edge.start))
        if not time <= SETTLED_SHARE * edge.t_s[-1]:
            raise WindowTooShortError(f"the output has not settled within {edge.t_s[-1]:.3g} s ({edge.at})")
        found.append(Value(name, time, edge.at))
    # what is left of a monotone response's is the solver's tolerance
    return [*found, Value("overshoot", round(overshoot(edge.y, edge.start, edge.final), 6), edge.at)]


def _trouble(pulse: tuple[Edge, Edge], gain: float) -> str:
    """Why a pulse has no times: the output cannot make the step, or never rests. Empty when it has."""
    rise = pulse[0]
    if gain <= 0.5 or abs(rise.gain - gain) > 0.01 * gain:
        return (
            f"the output goes from {rise.start:.4g} to {rise.final:.4g} V in a step of {rise.step:.4g} V; "
            "a smaller step is declared by conditions.step"
        )
    return "the response rings on without decaying" if any(_rings_on(edge) for edge in pulse) else ""


def _rings_on(edge: Edge) -> bool:
    """Whether the error crosses zero over and over in the last quarter and is no smaller than in the one before."""
    error, share = edge.y - edge.final, edge.t_s / edge.t_s[-1]
    last, before = error[share > 0.75], error[(share > 0.5) & (share <= 0.75)]
    crossings = np.count_nonzero(np.diff(np.sign(last)))
    outside = np.max(np.abs(last)) > 1e-4 * abs(edge.final - edge.start)
    return bool(outside and crossings >= 8 and np.max(np.abs(last)) > SHRINKS * np.max(np.abs(before)))
