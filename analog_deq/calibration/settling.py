"""Step responses of the integrator: settling time to each tolerance versus load, step size and sign."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analog_deq.calibration.measurement import SPICE_OPTIONS, AbstractMeasurement, Bench, Rows
from analog_deq.calibration.waveforms import fit_step
from analog_deq.netlists.deck import build_deck
from analog_deq.netlists.testbench import NeuronCopy, copy_vectors, neuron_bench, step_source
from analog_deq.records import Deck, Plot, Tran
from analog_deq.waveforms import overshoot, settling_time

Sample = tuple[float, float]

STEP_START_S = 20e-9
STEP_RISE_S = 1e-10
POINTS_PER_WINDOW = 1000


class Settling(AbstractMeasurement):
    """Samples are (load in siemens, signed step of h). Time counts from the middle of the step's rise."""

    name = "settling"
    tables = ("settling",)

    def samples(self, bench: Bench) -> list[Sample]:
        plan = bench.plan.settling
        return [(load, sign * step) for load in plan.loads_siemens for step in plan.steps_h for sign in (1, -1)]

    def block_size(self, bench: Bench) -> int:
        return 14

    def decks(self, bench: Bench, block: Sequence[Sample]) -> tuple[Deck, ...]:
        copies = [NeuronCopy(load, drive=f"x{k}") for k, (load, _) in enumerate(block)]
        drives = [
            step_source(f"x{k}", f"x{k}", step * bench.volts_per_h, STEP_START_S, STEP_RISE_S)
            for k, (_, step) in enumerate(block)
        ]
        return (step_deck("step responses of the neuron", bench, copies, drives, bench.plan.settling.window_s),)

    def tabulate(self, bench: Bench, block: Sequence[Sample], plots: Sequence[tuple[Plot, ...]]) -> Rows:
        plot = plots[0][0]
        tau = bench.design.neuron.r_feedback_ohm * bench.design.neuron.c_feedback_f
        rows = []
        for k, (load, step) in enumerate(block):
            time, v = step_waveform(plot, k)
            drive = step * bench.volts_per_h
            fit = fit_step(time, -v, drive, tau)
            final = float(v[-1])
            rows += [
                {
                    "load": load, "step": drive, "tolerance": tolerance, "final": final,
                    "t_settle": settling_time(time, v, final, tolerance * abs(final)),
                    "overshoot": overshoot(v, 0.0, final),
                    "tau": fit.tau_s, "delay": fit.delay_s, "fit_rms": fit.rms,
                }
                for tolerance in bench.plan.settling.tolerances
            ]  # fmt: skip
        return {"settling": pd.DataFrame(rows)}

    def axes(self, bench: Bench, sample: Sample) -> dict[str, dict[str, Any]]:
        return {"settling": {"load": sample[0], "step": sample[1] * bench.volts_per_h}}


def step_deck(
    title: str,
    bench: Bench,
    copies: Sequence[NeuronCopy],
    drives: Sequence[str],
    window_s: float,
    points: int = POINTS_PER_WINDOW,
) -> Deck:
    """Transient of copies that start at rest and see their drive step at ``STEP_START_S``."""
    design = bench.design
    stop = STEP_START_S + window_s
    return build_deck(
        title,
        neuron_bench(copies, drives, design.neuron, design.operating, bench.cells),
        [Tran(window_s / points, stop, window_s / points)],
        save=copy_vectors(len(copies), signals=("v",), supply=False),
        options=SPICE_OPTIONS,
        files=bench.cells.files,
        temperature_celsius=design.operating.temperature_celsius,
        arguments=bench.cells.arguments,
    )


def step_waveform(plot: Plot, copy: int) -> tuple[np.ndarray, np.ndarray]:
    """Time since the middle of the step and the integrator's output change, from the step on."""
    time = plot.sweep - STEP_START_S - STEP_RISE_S / 2
    v = np.real(plot[f"v(v{copy})"])
    after = time >= 0
    return time[after], (v - v[0])[after]
