"""Temperature coefficient of a synapse's conductance, at the corner's own temperature."""

from __future__ import annotations

from collections.abc import Sequence

from analog_deq.characterise.measurement import (
    AbstractCellMeasurement,
    CellBench,
    Copy,
    Quantity,
    Testbench,
    Value,
    not_modelled,
    undefined,
)
from analog_deq.characterise.measurements import synapse as s
from analog_deq.records import Alter, Command, Dc, Plot

STEP_K = 1.0
"""Half the step of the central difference: an Arrhenius law of 0.1 eV bends by 3e-5 of its slope over it."""


class TemperatureCoefficient(AbstractCellMeasurement):
    """(dG/dT) / G at the read voltage; G from both signs of it, so that an offset current cancels."""

    name = "temperature_coefficient"
    roles = ("synapse",)
    quantities = (Quantity("conductance_tc", "%/K", "magnitude", "relative change of the conductance per kelvin"),)

    def testbench(self, bench: CellBench) -> Testbench:
        centre, read = bench.corner.temperature_celsius, s.read_v(bench)
        sweep = Dc("temp", centre - STEP_K, centre + STEP_K, STEP_K)
        commands: list[Command] = [Alter(((s.ROW, read),)), sweep, Alter(((s.ROW, -read),)), sweep]
        lines = [s.row_line(), *s.level_lines(bench)]
        return Testbench("temperature of a synapse", lines, commands, s.saved(bench), options=s.DC_OPTIONS)

    def values(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Value]:
        found = []
        for k, g in enumerate(s.levels(bench.cell)):
            at = s.text("g", g, "S")
            cold, here, hot = s.current(plots[0], copy, f"l{k}") - s.current(plots[1], copy, f"l{k}")
            if abs(here) <= s.RESOLUTION_A:
                found.append(undefined("conductance_tc", "the cell conducts no current", at))
            elif abs(hot - cold) <= s.RESOLUTION * abs(here):
                found.append(not_modelled("conductance_tc", "temperature does not move the conductance", at))
            else:
                found.append(Value("conductance_tc", float(100 * (hot - cold) / (2 * STEP_K * here)), at))
        return found
