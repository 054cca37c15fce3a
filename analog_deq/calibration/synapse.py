"""Current of a synapse without mismatch, versus what it is programmed to and the voltage across it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analog_deq.calibration.measurement import SPICE_OPTIONS, AbstractMeasurement, Bench, Rows
from analog_deq.calibration.mismatch import READ_V
from analog_deq.netlists.crossbar import synapse_instance
from analog_deq.netlists.deck import build_deck
from analog_deq.netlists.library import cell_arguments, cell_files, include_lines
from analog_deq.records import Dc, Deck, Plot

LEVELS = 33
STEPS_TO_READ = 2
"""Sweep points from 0 V to ``READ_V``."""


class SynapseCurve(AbstractMeasurement):
    """Samples are programmed conductances, evenly spaced over the design's range.

    The sweep reaches the array's full scale ``z_unit_v`` on both sides, in steps that meet ``READ_V``.
    """

    name = "synapse"
    tables = ("synapse",)

    def samples(self, bench: Bench) -> list[float]:
        array = bench.design.crossbar
        return [float(g) for g in np.linspace(array.g_min_siemens, array.g_max_siemens, LEVELS)]

    def block_size(self, bench: Bench) -> int:
        return LEVELS

    def decks(self, bench: Bench, block: Sequence[float]) -> tuple[Deck, ...]:
        cells = [bench.cells.synapse]
        lines = [*include_lines(cells), "Vread read 0 0"]
        for k, g in enumerate(block):
            lines += [synapse_instance(cells[0], f"Xg{k}", "read", f"g{k}", g, {}), f"Vg{k} g{k} 0 0"]
        step = READ_V / STEPS_TO_READ
        reach = step * math.ceil(bench.design.neuron.z_unit_v / step - 1e-9)
        return (
            build_deck(
                "current of the synapse",
                lines,
                [Dc("Vread", -reach, reach, step)],
                save=[f"i(vg{k})" for k in range(len(block))],
                options=SPICE_OPTIONS,
                files=cell_files(cells),
                temperature_celsius=bench.design.operating.temperature_celsius,
                arguments=cell_arguments(cells),
            ),
        )

    def tabulate(self, bench: Bench, block: Sequence[float], plots: Sequence[tuple[Plot, ...]]) -> Rows:
        plot = plots[0][0]
        frames = [
            pd.DataFrame({"g": g, "v": plot.sweep, "current": np.real(plot[f"i(vg{k})"])}) for k, g in enumerate(block)
        ]
        return {"synapse": pd.concat(frames)}

    def axes(self, bench: Bench, sample: float) -> dict[str, dict[str, Any]]:
        return {"synapse": {"g": sample}}
