"""Monte-Carlo dies of single neurons (transfer and frequency response) and of conductances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analog_deq.calibration.measurement import SPICE_OPTIONS, AbstractMeasurement, Bench, Rows
from analog_deq.calibration.waveforms import fit_pole
from analog_deq.draws import Stream, deviations, generator
from analog_deq.netlists.contract import Cell
from analog_deq.netlists.deck import build_deck
from analog_deq.netlists.library import cell_arguments, cell_files
from analog_deq.netlists.neuron import NeuronCells
from analog_deq.netlists.testbench import NeuronCopy, copy_vectors, neuron_bench, synapse_bench
from analog_deq.records import Ac, Dc, Deck, Op, Plot
from analog_deq.spec import PassiveMismatch

AC_PER_DECADE, AC_START_HZ, AC_STOP_HZ = 2, 1e4, 1e7
"""A time constant from ten points of ``.ac`` costs a fifth of one from a step response and scatters less."""

READ_V = 0.1
"""Voltage across a synapse when its conductance is measured."""


@dataclass(frozen=True, slots=True)
class Die:
    """One drawn neuron: index, deviations by key, load at the summing node."""

    index: int
    deviations: Mapping[str, float]
    load_siemens: float


def neuron_sigmas(cells: NeuronCells, passive: PassiveMismatch) -> dict[str, float]:
    """Standard deviation of every deviation of one neuron: its cells' parameters and the passive parts around them."""
    return {**cells.mismatch(), **{name: getattr(passive, name) for name in cells.passives}}


def synapse_errors(rng: np.random.Generator, synapse: Cell, g: np.ndarray, scale: float = 1.0) -> dict[str, np.ndarray]:
    """Mismatch parameters of synapses programmed to ``g`` siemens: arrays of its shape, in each parameter's unit.

    Every sigma is multiplied by ``scale``.

    ``dg`` is the error of the conductance itself (relative, or in siemens); it is clipped where the conductance would
    fall below the smallest the cell's parameter takes, the floor of the device.
    """
    flat = np.ravel(g)
    contract = synapse.contract
    drawn = deviations(rng, {name: scale * synapse.sigma(name, flat) for name in contract.mismatch.params}, flat.size)
    if "dg" in drawn:
        floor = contract.params[contract.state["g"].param].min
        lowest = floor / flat - 1 if contract.mismatch.params["dg"].relative else floor - flat
        drawn["dg"] = np.maximum(drawn["dg"], lowest)
    return {name: values.reshape(np.shape(g)) for name, values in drawn.items()}


class NeuronMismatch(AbstractMeasurement):
    """Each sample is a die: one neuron whose deviations were drawn in NumPy and written into the deck."""

    name = "mismatch"
    tables = ("mismatch", "mismatch_dynamic")

    def samples(self, bench: Bench) -> list[Die]:
        plan = bench.plan.mismatch
        sigmas = neuron_sigmas(bench.cells, bench.design.mismatch)
        dies = []
        for index in range(plan.dies):
            drawn = deviations(generator(bench.design.seed, Stream.CALIBRATION_DIE, index), sigmas, 1)
            dies.append(Die(index, {key: float(value[0]) for key, value in drawn.items()}, plan.load_siemens))
        return dies

    def block_size(self, bench: Bench) -> int:
        return bench.plan.mismatch.block

    def decks(self, bench: Bench, block: Sequence[Die]) -> tuple[Deck, ...]:
        plan, design = bench.plan.mismatch, bench.design
        copies = [NeuronCopy(die.load_siemens, deviations=die.deviations) for die in block]
        reach = bench.plan.transfer.h_max * bench.volts_per_h
        return (
            build_deck(
                "transfer and frequency response of mismatched neurons",
                neuron_bench(copies, ["Vx x 0 dc 0 ac 1"], design.neuron, design.operating, bench.cells),
                [
                    Dc("Vx", -reach, reach, 2 * reach / (plan.points - 1)),
                    Ac(AC_PER_DECADE, AC_START_HZ, AC_STOP_HZ),
                ],
                save=copy_vectors(len(block), signals=("v", "zp", "zn"), supply=False),
                options={**SPICE_OPTIONS, "reltol": 1e-7},
                files=bench.cells.files,
                temperature_celsius=design.operating.temperature_celsius,
                arguments=bench.cells.arguments,
            ),
        )

    def tabulate(self, bench: Bench, block: Sequence[Die], plots: Sequence[tuple[Plot, ...]]) -> Rows:
        static, dynamic = plots[0]
        neuron = bench.design.neuron
        curves, poles = [], []
        for k, die in enumerate(block):
            frame = pd.DataFrame({"die": die.index, "load": die.load_siemens, "drive": static.sweep})
            for signal in ("v", "zp", "zn"):
                frame[signal] = np.real(static[f"v({signal}{k})"])
            curves.append(frame)
            response = np.asarray(dynamic[f"v(v{k})"])
            fit = fit_pole(dynamic.sweep, response, neuron.r_feedback_ohm * neuron.c_feedback_f)
            poles.append(
                {
                    "die": die.index, "load": die.load_siemens,
                    "tau": fit.tau_s, "delay": fit.delay_s, "fit_rms": fit.rms,
                }
            )  # fmt: skip
        return {"mismatch": pd.concat(curves), "mismatch_dynamic": pd.DataFrame(poles)}

    def axes(self, bench: Bench, sample: Die) -> dict[str, dict[str, Any]]:
        axes = {"die": sample.index, "load": sample.load_siemens}
        return {"mismatch": axes, "mismatch_dynamic": axes}


@dataclass(frozen=True, slots=True)
class SynapseDie:
    """Mismatch parameters of one die's synapses, one value at each conductance of the plan."""

    index: int
    errors: Mapping[str, tuple[float, ...]]


class ConductanceMismatch(AbstractMeasurement):
    """Each sample is a die holding one synapse at every conductance of the plan, read at ``READ_V``."""

    name = "conductance"
    tables = ("conductance",)

    def samples(self, bench: Bench) -> list[SynapseDie]:
        levels = np.array(bench.plan.mismatch.conductances_siemens)
        dies = []
        for index in range(bench.plan.mismatch.dies):
            drawn = synapse_errors(
                generator(bench.design.seed, Stream.CONDUCTANCE_DIE, index), bench.cells.synapse, levels
            )
            dies.append(SynapseDie(index, {name: tuple(map(float, values)) for name, values in drawn.items()}))
        return dies

    def block_size(self, bench: Bench) -> int:
        return 256  # five resistors a die: the process start is what costs

    def decks(self, bench: Bench, block: Sequence[SynapseDie]) -> tuple[Deck, ...]:
        levels = bench.plan.mismatch.conductances_siemens
        synapse = [bench.cells.synapse]
        cells = [
            (g, {name: values[k] for name, values in die.errors.items()}) for die in block for k, g in enumerate(levels)
        ]
        return (
            build_deck(
                "conductances of mismatched synapses",
                synapse_bench(cells, bench.cells, READ_V),
                [Op()],
                save=[f"i(vg{k})" for k in range(len(cells))],
                options=SPICE_OPTIONS,
                files=cell_files(synapse),
                temperature_celsius=bench.design.operating.temperature_celsius,
                arguments=cell_arguments(synapse),
            ),
        )

    def tabulate(self, bench: Bench, block: Sequence[SynapseDie], plots: Sequence[tuple[Plot, ...]]) -> Rows:
        levels = bench.plan.mismatch.conductances_siemens
        plot = plots[0][0]
        rows = [
            {
                "die": die.index, "target": g, "read": READ_V,
                "measured": -float(np.real(plot[f"i(vg{k * len(levels) + j})"][0])) / READ_V,
            }
            for k, die in enumerate(block)
            for j, g in enumerate(levels)
        ]  # fmt: skip
        return {"conductance": pd.DataFrame(rows)}

    def axes(self, bench: Bench, sample: SynapseDie) -> dict[str, dict[str, Any]]:
        return {"conductance": {"die": sample.index, "read": READ_V}}
