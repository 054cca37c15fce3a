"""Output noise of a cell with one input and one output, the input at rest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analog_deq.characterise.measurement import AbstractCellMeasurement, CellBench, Copy, Curve, Testbench, Value
from analog_deq.characterise.measurements import signal_path as path
from analog_deq.characterise.measurements.spectra import (
    NOISE_PER_DECADE,
    NOISE_QUANTITIES,
    NOISE_START_HZ,
    noise_stop_hz,
    noise_values,
)
from analog_deq.records import Noise, Plot


class OutputNoise(AbstractCellMeasurement):
    """Density, rms value over the whole band, and 1/f corner, under the contract's load.

    A voltage input is driven from 0 ohm, a current input from an ideal current source, and once more with ``source_r``.
    """

    name = "noise"
    roles = path.PATHS
    copies = 1
    quantities = NOISE_QUANTITIES

    def testbench(self, bench: CellBench) -> Testbench:
        lines, commands = path.drive_lines(bench), []
        for copy in bench.copies:
            for name, _ in path.variants(bench):
                lines += path.path_lines(bench, copy, name)
                output = path.output_expression(bench, copy, name)
                commands.append(Noise(output, "Vu", NOISE_PER_DECADE, NOISE_START_HZ, noise_stop_hz(bench)))
        return Testbench("output noise", lines, commands)

    def values(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Value]:
        return [
            value
            for plot, (_, at) in zip(plots, path.variants(bench), strict=True)
            for value in noise_values(bench, plot.sweep, np.real(plot["onoise_spectrum"]), at)
        ]

    def curves(self, bench: CellBench, copy: Copy, plots: Sequence[Plot]) -> list[Curve]:
        return [
            Curve("output_noise_density", plot.sweep, np.real(plot["onoise_spectrum"]), at)
            for plot, (_, at) in zip(plots, path.variants(bench), strict=True)
        ]
