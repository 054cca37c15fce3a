"""Static transfer of the neuron: integrator, activation and driver, and the supply power, from one .dc sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analog_deq.calibration.measurement import SPICE_OPTIONS, AbstractMeasurement, Bench, Rows
from analog_deq.netlists.deck import build_deck
from analog_deq.netlists.testbench import NeuronCopy, copy_vectors, neuron_bench
from analog_deq.records import Dc, Deck, Plot

Sample = tuple[float, float]


class Transfer(AbstractMeasurement):
    """Samples are (load at the summing node, load at each driver output), in siemens.

    Every load is swept with an open driver; the middle load is swept under every driver load too.
    """

    name = "transfer"
    tables = ("transfer", "power")

    def samples(self, bench: Bench) -> list[Sample]:
        plan = bench.plan.transfer
        middle = plan.loads_siemens[len(plan.loads_siemens) // 2]
        return [(load, 0.0) for load in plan.loads_siemens] + [
            (middle, driver) for driver in plan.driver_loads_siemens if driver > 0
        ]

    def block_size(self, bench: Bench) -> int:
        return 8

    def decks(self, bench: Bench, block: Sequence[Sample]) -> tuple[Deck, ...]:
        plan, design = bench.plan.transfer, bench.design
        copies = [NeuronCopy(load, driver) for load, driver in block]
        reach = plan.h_max * bench.volts_per_h
        step = 2 * reach / (plan.points - 1)
        lines = neuron_bench(copies, ["Vx x 0 0"], design.neuron, design.operating, bench.cells)
        return (
            build_deck(
                "static transfer of the neuron",
                lines,
                [Dc("Vx", -reach, reach, step)],
                save=copy_vectors(len(block)),
                options={
                    **SPICE_OPTIONS,
                    "reltol": 1e-7,
                },  # 1e-6 is 5e-7 of a state, all that proxy and circuit differ by
                files=bench.cells.files,
                temperature_celsius=design.operating.temperature_celsius,
                arguments=bench.cells.arguments,
            ),
        )

    def tabulate(self, bench: Bench, block: Sequence[Sample], plots: Sequence[tuple[Plot, ...]]) -> Rows:
        plot = plots[0][0]
        rail = bench.design.operating
        transfer, power = [], []
        for k, (load, driver) in enumerate(block):
            frame = pd.DataFrame({"load": load, "driver_load": driver, "drive": plot.sweep})
            for signal in ("v", "s", "zp", "zn"):
                frame[signal] = np.real(plot[f"v({signal}{k})"])
            # a source's current flows into its + terminal, so a supplying rail reads negative
            frame["i_vdd"] = -np.real(plot[f"i(vdd{k})"])
            frame["i_vss"] = np.real(plot[f"i(vss{k})"])
            transfer.append(frame)
            supply = frame[["load", "driver_load", "drive", "zp", "zn"]].copy()
            supply["p_vdd"] = frame["i_vdd"] * rail.vdd_v
            supply["p_vss"] = frame["i_vss"] * -rail.vss_v
            power.append(supply)
        return {"transfer": pd.concat(transfer), "power": pd.concat(power)}

    def axes(self, bench: Bench, sample: Sample) -> dict[str, dict[str, Any]]:
        axes = {"load": sample[0], "driver_load": sample[1]}
        return {"transfer": axes, "power": axes}
