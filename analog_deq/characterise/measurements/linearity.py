"""Read law of a synapse: how far I(V)/V strays from the small-signal conductance, its asymmetry, and the read power.

For a sinh law I = G V0 sinh(V/V0) the deviation is V0 sinh(V/V0)/V - 1: (V/V0)^2/6 to first order.
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
from analog_deq.characterise.measurements import synapse as s
from analog_deq.records import Alter, Command, Dc, Op, Plot

STEPS = 40
"""Steps of the sweep from the largest negative to the largest positive read voltage."""


class ReadLaw(AbstractCellMeasurement):
    """I(V) at each level over the read range, the current at 0 V subtracted."""

    name = "linearity"
    roles = ("synapse",)
    quantities = (
        Quantity("nonlinearity", "%", "high", "largest deviation of I(V)/V from the small-signal conductance"),
        Quantity(
            "asymmetry", "%", "magnitude", "(|I(+V)| - |I(-V)|) / (|I(+V)| + |I(-V)|) at the largest read voltage"
        ),
        Quantity("read_power", "W", "high", "power drawn from the row at the read voltage"),
    )

    def testbench(self, bench: CellBench) -> Testbench:
        read, most = s.read_v(bench), s.largest_read_v(bench)
        small = s.SMALL * read
        commands: list[Command] = [
            Dc(s.ROW, -small, small, small),
            Dc(s.ROW, -most, most, 2 * most / STEPS),
            Alter(((s.ROW, read),)),
            Op(),
        ]
        lines = [s.row_line(), *s.level_lines(bench)]
        return Testbench("read law of a synapse", lines, commands, s.saved(bench, pins="rc"), options=s.DC_OPTIONS)

    def values(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Value]:
        read, most = s.read_v(bench), s.largest_read_v(bench)
        found = []
        for k, g in enumerate(s.levels(bench.cell)):
            level, place = s.text("g", g, "S"), f"l{k}"
            at = f"{level} {s.text('v', most, 'V')}"
            conductance = s.slope(plots[0], copy, place)
            offset = s.current(plots[0], copy, place)[1]
            v, i = plots[1].sweep, s.current(plots[1], copy, place) - offset
            power = read * float(s.current(plots[2], copy, place, "r")[0])
            found += [*law(v, i, conductance, at), Value("read_power", power, f"{level} {s.text('v', read, 'V')}")]
        return found

    def curves(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Curve]:
        return [
            Curve("read_current", plots[1].sweep, s.current(plots[1], copy, f"l{k}"), s.text("g", g, "S"))
            for k, g in enumerate(s.levels(bench.cell))
        ]


def law(v: np.ndarray, i: np.ndarray, conductance: float, at: str) -> list[Value]:
    """Non-linearity and asymmetry of a current over a symmetric sweep, its value at 0 V subtracted.

    ``not modelled`` below the solver's resolution: such a model is linear, or odd in voltage, by construction.
    """
    both = ("nonlinearity", "asymmetry")
    away = np.abs(v) > 0.5 * abs(v[1] - v[0])
    if conductance * np.max(v) <= s.RESOLUTION_A:
        return [undefined(q, "the cell conducts no current", at) for q in both]
    bend = float(np.max(np.abs(i[away] / (v[away] * conductance) - 1)))
    tilt = float((i[-1] + i[0]) / (i[-1] - i[0]))
    return [
        Value("nonlinearity", 100 * bend, at)
        if bend > s.RESOLUTION
        else not_modelled("nonlinearity", "the model is linear in voltage", at),
        Value("asymmetry", 100 * tilt, at)
        if abs(tilt) > s.RESOLUTION
        else not_modelled("asymmetry", "the model's current is odd in voltage", at),
    ]
