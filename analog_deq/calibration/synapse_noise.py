"""Current noise of a synapse without mismatch at its read voltage: thermal, or more than a resistor's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analog_deq.calibration.measurement import SPICE_OPTIONS, AbstractMeasurement, Bench, Rows
from analog_deq.calibration.mismatch import READ_V
from analog_deq.netlists.crossbar import synapse_instance
from analog_deq.netlists.deck import build_deck, number
from analog_deq.netlists.library import cell_arguments, cell_files, include_lines
from analog_deq.records import Deck, Noise, Plot

PER_DECADE = 5


class SynapseNoise(AbstractMeasurement):
    """Samples are programmed conductances: ends and middle of the design's range. The band is that of the plan."""

    name = "synapse_noise"
    tables = ("synapse_noise",)

    def samples(self, bench: Bench) -> list[float]:
        array = bench.design.crossbar
        return [float(g) for g in np.linspace(array.g_min_siemens, array.g_max_siemens, 3)]

    def block_size(self, bench: Bench) -> int:
        return 3

    def decks(self, bench: Bench, block: Sequence[float]) -> tuple[Deck, ...]:
        plan, cells = bench.plan.noise, [bench.cells.synapse]
        lines = [*include_lines(cells), f"Vread read 0 dc {number(READ_V)} ac 1"]
        for k, g in enumerate(block):
            lines += [synapse_instance(cells[0], f"Xg{k}", "read", f"g{k}", g, {}), f"Vg{k} g{k} 0 0"]
            lines += [f"Hg{k} i{k} 0 Vg{k} 1"]  # 1 V stands for 1 A
        return (
            build_deck(
                "current noise of the synapse",
                lines,
                [Noise(f"v(i{k})", "Vread", PER_DECADE, plan.start_hz, plan.stop_hz) for k in range(len(block))],
                options=SPICE_OPTIONS,
                files=cell_files(cells),
                temperature_celsius=bench.design.operating.temperature_celsius,
                arguments=cell_arguments(cells),
            ),
        )

    def tabulate(self, bench: Bench, block: Sequence[float], plots: Sequence[tuple[Plot, ...]]) -> Rows:
        frames = [
            pd.DataFrame({"g": g, "frequency": plot.sweep, "density": np.real(plot["onoise_spectrum"])})
            for g, plot in zip(block, plots[0], strict=True)
        ]
        return {"synapse_noise": pd.concat(frames)}

    def axes(self, bench: Bench, sample: float) -> dict[str, dict[str, Any]]:
        return {"synapse_noise": {"g": sample}}
