"""What each cell of a neuron draws from its own rails: a cell that draws nothing models no supply current."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analog_deq.calibration.measurement import SPICE_OPTIONS, AbstractMeasurement, Bench, Rows
from analog_deq.netlists.deck import build_deck
from analog_deq.netlists.testbench import supply_bench
from analog_deq.records import Dc, Deck, Plot

REACH_H = 1.0


class SupplyCurrent(AbstractMeasurement):
    """One sample, the load at the summing node: the neuron at h = -1, 0 and 1, each cell on rails of its own."""

    name = "supply"
    tables = ("supply",)

    def samples(self, bench: Bench) -> list[float]:
        return [bench.plan.mismatch.load_siemens]

    def block_size(self, bench: Bench) -> int:
        return 1

    def decks(self, bench: Bench, block: Sequence[float]) -> tuple[Deck, ...]:
        design, reach = bench.design, REACH_H * bench.volts_per_h
        return (
            build_deck(
                "supply current of each cell of the neuron",
                supply_bench("Vx x 0 0", block[0], design.neuron, design.operating, bench.cells),
                [Dc("Vx", -reach, reach, reach)],
                save=[f"i({rail}{slot})" for slot in bench.cells.neuron for rail in ("vdd", "vss")],
                options=SPICE_OPTIONS,
                files=bench.cells.files,
                temperature_celsius=design.operating.temperature_celsius,
                arguments=bench.cells.arguments,
            ),
        )

    def tabulate(self, bench: Bench, block: Sequence[float], plots: Sequence[tuple[Plot, ...]]) -> Rows:
        plot = plots[0][0]
        frames = [
            pd.DataFrame(
                {
                    "slot": slot, "cell": cell.name, "drive": plot.sweep,
                    "i_vdd": -np.real(plot[f"i(vdd{slot})"]), "i_vss": np.real(plot[f"i(vss{slot})"]),
                }
            )
            for slot, cell in bench.cells.neuron.items()
        ]  # fmt: skip
        return {"supply": pd.concat(frames)}

    def axes(self, bench: Bench, sample: float) -> dict[str, dict[str, Any]]:
        return {"supply": {"slot": "all", "cell": ""}}
