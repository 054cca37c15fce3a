"""Supply current and power of a cell whose input is at rest."""

from __future__ import annotations

from collections.abc import Sequence

from analog_deq.characterise.measurement import AbstractCellMeasurement, CellBench, Copy, Testbench, Value
from analog_deq.characterise.measurements import signal_path as path
from analog_deq.characterise.measurements.rails import RAIL_QUANTITIES, rail_values, rail_vectors
from analog_deq.records import Op, Plot


class RestPower(AbstractCellMeasurement):
    """Quiescent current and power, the contract's load (``load_r``) included."""

    name = "power"
    roles = path.PATHS
    quantities = RAIL_QUANTITIES

    def testbench(self, bench: CellBench) -> Testbench:
        lines, save = path.drive_lines(bench), []
        for copy in bench.copies:
            lines += [*bench.supplies(copy), *path.path_lines(bench, copy, own_rails=True)]
            save += [*path.output_vectors(bench, copy), *rail_vectors(bench, copy)]
        return Testbench("power at rest", lines, [Op()], save)

    def values(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Value]:
        return rail_values(bench, copy, plots[0])
