"""Conductance of a synapse at its programmed levels, at a small read voltage.

Over dies this is the programming spread: each die draws its own error parameters, at the level's own sigma.
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
)
from analog_deq.characterise.measurements import synapse as s
from analog_deq.records import Dc, Plot


class Conductance(AbstractCellMeasurement):
    """dI/dV at 0 V by a central difference over 0.1 % of the read voltage, and the current at 0 V itself."""

    name = "conductance"
    roles = ("synapse",)
    quantities = (
        Quantity("conductance", "S", "low", "small-signal conductance at the programmed level"),
        Quantity("conductance_error", "%", "magnitude", "conductance relative to the programmed value, less 1"),
        Quantity("offset_current", "A", "magnitude", "current out of the column with 0 V across the cell"),
    )

    def testbench(self, bench: CellBench) -> Testbench:
        small = s.SMALL * s.read_v(bench)
        return Testbench(
            "conductance of a synapse",
            [s.row_line(), *s.level_lines(bench)],
            [Dc(s.ROW, -small, small, small)],
            s.saved(bench),
            options=s.DC_OPTIONS,
        )

    def values(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Value]:
        found = []
        for k, g in enumerate(s.levels(bench.cell)):
            at = s.text("g", g, "S")
            measured = s.slope(plots[0], copy, f"l{k}")
            i = s.current(plots[0], copy, f"l{k}")
            found += [Value("conductance", measured, at), Value("conductance_error", 100 * (measured / g - 1), at)]
            if abs(i[1]) <= max(s.RESOLUTION_A, s.RESOLUTION * abs(i[2] - i[0])):
                found.append(not_modelled("offset_current", "nothing in the model drives a current at 0 V", at))
            else:
                found.append(Value("offset_current", float(i[1]), at))
        return found

    def curves(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Curve]:
        programmed = np.array(s.levels(bench.cell))
        measured = np.array([s.slope(plots[0], copy, f"l{k}") for k in range(len(programmed))])
        return [Curve("conductance", programmed, measured)]
