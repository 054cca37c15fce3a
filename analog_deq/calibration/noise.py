"""Output noise density of the neuron at the integrator (v) and at the rows (z), versus load and bias."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analog_deq.calibration.measurement import SPICE_OPTIONS, AbstractMeasurement, Bench, Rows
from analog_deq.netlists.deck import build_deck, number
from analog_deq.netlists.testbench import NeuronCopy, neuron_bench
from analog_deq.records import Deck, Noise, Plot

Sample = tuple[float, float]

OUTPUTS = {"v": "v(v0)", "z": "v(zp0,zn0)"}


class NoiseDensity(AbstractMeasurement):
    """Samples are (load in siemens, bias of h). The z output is the differential voltage zp - zn."""

    name = "noise"
    tables = ("noise",)

    def samples(self, bench: Bench) -> list[Sample]:
        plan = bench.plan.noise
        return [(load, bias) for load in plan.loads_siemens for bias in plan.biases_h]

    def block_size(self, bench: Bench) -> int:
        return 1  # an output's noise belongs to one copy; further copies would only cost time

    def decks(self, bench: Bench, block: Sequence[Sample]) -> tuple[Deck, ...]:
        plan, design = bench.plan.noise, bench.design
        (load, bias) = block[0]
        drive = f"Vx x 0 dc {number(bias * bench.volts_per_h)} ac 1"
        return (
            build_deck(
                "output noise of the neuron",
                neuron_bench([NeuronCopy(load)], [drive], design.neuron, design.operating, bench.cells),
                [Noise(o, "Vx", plan.per_decade, plan.start_hz, plan.stop_hz) for o in OUTPUTS.values()],
                options=SPICE_OPTIONS,
                files=bench.cells.files,
                temperature_celsius=design.operating.temperature_celsius,
                arguments=bench.cells.arguments,
            ),
        )

    def tabulate(self, bench: Bench, block: Sequence[Sample], plots: Sequence[tuple[Plot, ...]]) -> Rows:
        (load, bias) = block[0]
        frames = [
            pd.DataFrame(
                {
                    "load": load, "bias": bias * bench.volts_per_h, "output": output,
                    "frequency": plot.sweep, "density": np.real(plot["onoise_spectrum"]),
                }
            )
            for output, plot in zip(OUTPUTS, plots[0], strict=True)
        ]  # fmt: skip
        return {"noise": pd.concat(frames)}

    def axes(self, bench: Bench, sample: Sample) -> dict[str, dict[str, Any]]:
        return {"noise": {"load": sample[0], "bias": sample[1] * bench.volts_per_h, "output": "v"}}
