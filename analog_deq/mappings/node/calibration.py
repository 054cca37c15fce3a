"""What is measured of a node neuron in ngspice: tables in SI units, in which a failed sample is a row of NaN.

The node is forced by a voltage source, so every curve is single-valued: the current the load takes, what the driver
gives, their noise, and the admittance whose imaginary part is the node's whole capacitance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analog_deq.calibration.mismatch import READ_V
from analog_deq.calibration.waveforms import fit_pole, fit_step
from analog_deq.draws import Stream, deviations, generator
from analog_deq.mappings.node.netlist import Copy, NodeCells, bench
from analog_deq.mappings.node.spec import HELD_H
from analog_deq.netlists.crossbar import synapse_instance
from analog_deq.netlists.deck import SPICE_OPTIONS, build_deck, number
from analog_deq.netlists.testbench import step_source
from analog_deq.records import OK, Ac, Command, Dc, Deck, Noise, Op, Plot, Progress, Tran
from analog_deq.spec import DesignSpec
from analog_deq.verify.sweeps import Bed

UNITS = {
    "transfer": {
        "driver_load": "S", "s": "V", "i_in": "A", "zp": "V", "zn": "V", "i_vdd": "A", "i_vss": "A",
    },
    "admittance": {"bias": "V", "frequency": "Hz", "g": "S", "c": "F", "tau": "s", "delay": "s", "path_rms": ""},
    "step": {"load": "S", "tau": "s", "fit_rms": ""},
    "noise": {"bias": "V", "output": "", "frequency": "Hz", "density": ""},
    "mismatch": {"die": "", "s": "V", "i_in": "A", "zp": "V", "zn": "V"},
}  # fmt: skip
"""The noise density is A/sqrt(Hz) of output "i", the current the neuron sends into its node, V/sqrt(Hz) of "z"."""
BIASES_H = (-5.0, -3.0, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0)
"""Biases of noise and admittance, in ``NodeSettings.bias_v``, beside ``HELD_H``."""
BAND = (20, 1e3, 1e11)
"""Points a decade, first and last frequency of noise."""
AC_POINTS, AC_START_HZ, AC_STOP_HZ = 5, 1e4, 1e8
STEP_LOADS_SIEMENS = (0.1e-3, 0.3e-3, 1e-3)
STEP_UNITS, STEP_TAUS, STEP_DELAY_S = 0.02, 12.0, 1e-9
DIE_POINTS, DIE_REACH_H, DIE_BLOCK = 33, 4.0, 32
SENSE_OHM = 1.0
"""A noiseless resistor in which the node's noise current is read as a voltage."""

Array = np.ndarray
Rows = Callable[[Sequence[Any], tuple[Plot, ...]], pd.DataFrame]


@dataclass(frozen=True, slots=True)
class NodeBench:
    """The design and its cells; one method a table."""

    design: DesignSpec
    cells: NodeCells

    def tables(self, bed: Bed, progress: Progress) -> dict[str, pd.DataFrame]:
        """Every table of :data:`UNITS`."""
        settings = self.cells.settings
        loads = [0.0, *settings.driver_loads_siemens]
        biases = [h * settings.bias_v for h in (*BIASES_H, *HELD_H)]
        rng = [generator(self.design.seed, Stream.CALIBRATION_DIE, k) for k in range(settings.dies)]
        dies = [
            (k, {key: float(v[0]) for key, v in deviations(r, self.cells.sigmas(), 1).items()})
            for k, r in enumerate(rng)
        ]
        plan: dict[str, tuple[list[Any], int, Callable[[Sequence[Any]], Deck], Rows, str]] = {
            "transfer": (loads, 8, self._transfer, self._transfer_rows, "driver_load"),
            "admittance": (biases, 16, self._admittance, self._admittance_rows, "bias"),
            "step": (list(STEP_LOADS_SIEMENS), 1, self._step, self._step_rows, "load"),
            "noise": (biases, 1, self._noise, self._noise_rows, "bias"),
            "mismatch": (dies, DIE_BLOCK, self._dies, self._die_rows, "die"),
        }
        tables = {}
        for name, (samples, block, deck, rows, axis) in plan.items():
            blocks = [samples[k : k + block] for k in range(0, len(samples), block)]
            frames = _measure(blocks, deck, rows, axis, list(UNITS[name]), bed, progress)
            tables[name] = pd.concat(frames, ignore_index=True)[[*UNITS[name], "status"]]
        return tables

    def measure_neurons(self, deviations: Mapping[str, Array], bed: Bed, progress: Progress) -> list[pd.DataFrame]:
        """Curves (s, i_in, zp, zn) of each neuron of one die, at its terminals. SimulationError when they fail."""
        count = len(next(iter(deviations.values())))
        block = [(i, {key: float(values[i]) for key, values in deviations.items()}) for i in range(count)]
        plots = _run(self._dies(block), bed, progress)
        return [_curves(plots[0], i) for i in range(count)]

    def measure_conductances(self, programmed: Array, dg: Array, bed: Bed, progress: Progress) -> Array:
        """Conductances (S) that cells programmed to ``programmed`` show at ``READ_V``, any shape."""
        synapse, lines = self.cells.named["synapse"], []
        for k, (g, error) in enumerate(zip(programmed.ravel(), dg.ravel(), strict=True)):
            lines.append(f"Vg{k} g{k} 0 {number(READ_V)}")
            lines.append(synapse_instance(synapse, f"Xg{k}", f"g{k}", "0", float(g), {"dg": float(error)}))
        names = [f"i(vg{k})" for k in range(programmed.size)]
        plots = _run(self._deck("conductances", [*self.cells.includes, *lines], [Op()], names), bed, progress)
        return np.asarray(-np.real(plots[0].columns(names))[0].reshape(programmed.shape) / READ_V)

    def _deck(self, title: str, lines: list[str], commands: list[Command], save: list[str]) -> Deck:
        return build_deck(
            f"{self.design.mapping} neuron: {title}", lines, commands, save=save, options=SPICE_OPTIONS,
            files=self.cells.files, temperature_celsius=self.design.operating.temperature_celsius,
            arguments=self.cells.arguments,
        )  # fmt: skip

    def _sweep(self, title: str, copies: list[Copy], reach_v: float, points: int, rails: bool) -> Deck:
        drives = ["Vx x 0 0", *(f"Es{k} s{k} 0 x 0 1" for k in range(len(copies)))]
        save = [name for k in range(len(copies)) for name in (f"i(es{k})", f"v(zp{k})", f"v(zn{k})")]
        if rails:
            save += [f"i({rail}{k})" for k in range(len(copies)) for rail in ("vdd", "vss")]
        lines = bench(copies, drives, self.cells, self.design.operating)
        return self._deck(title, lines, [Dc("Vx", -reach_v, reach_v, 2 * reach_v / (points - 1))], save)

    def _transfer(self, block: Sequence[float]) -> Deck:
        settings = self.cells.settings
        copies = [Copy(load) for load in block]
        return self._sweep("static transfer", copies, 1.02 * settings.z_unit_v, settings.points, True)

    def _transfer_rows(self, block: Sequence[float], plots: tuple[Plot, ...]) -> pd.DataFrame:
        frames = []
        for k, load in enumerate(block):
            frame = _curves(plots[0], k)
            frame["driver_load"] = load
            frame["i_vdd"], frame["i_vss"] = -np.real(plots[0][f"i(vdd{k})"]), np.real(plots[0][f"i(vss{k})"])
            frames.append(frame)
        return pd.concat(frames)

    def _dies(self, block: Sequence[tuple[int, dict[str, float]]]) -> Deck:
        copies = [Copy(deviations=off) for _, off in block]
        reach = DIE_REACH_H * self.cells.settings.bias_v
        return self._sweep("transfer of mismatched neurons", copies, reach, DIE_POINTS, False)

    def _die_rows(self, block: Sequence[tuple[int, dict[str, float]]], plots: tuple[Plot, ...]) -> pd.DataFrame:
        return pd.concat([_curves(plots[0], k).assign(die=die) for k, (die, _) in enumerate(block)])

    def _admittance(self, block: Sequence[float]) -> Deck:
        drives = [f"Vs{k} s{k} 0 dc {number(bias)} ac 1" for k, bias in enumerate(block)]
        save = [name for k in range(len(block)) for name in (f"i(vs{k})", f"v(zp{k})", f"v(zn{k})")]
        lines = bench([Copy()] * len(block), drives, self.cells, self.design.operating)
        return self._deck("admittance of its node", lines, [Ac(AC_POINTS, AC_START_HZ, AC_STOP_HZ)], save)

    def _admittance_rows(self, block: Sequence[float], plots: tuple[Plot, ...]) -> pd.DataFrame:
        frames, plot = [], plots[0]
        for k, bias in enumerate(block):
            y = -plot[f"i(vs{k})"]
            path = fit_pole(plot.sweep, plot[f"v(zp{k})"] - plot[f"v(zn{k})"], 1e-9)
            frames.append(
                pd.DataFrame(
                    {
                        "bias": bias, "frequency": plot.sweep, "g": y.real, "c": y.imag / (2 * np.pi * plot.sweep),
                        "tau": path.tau_s, "delay": path.delay_s, "path_rms": path.rms,
                    }
                )
            )  # fmt: skip
        return pd.concat(frames)

    def _step(self, block: Sequence[float]) -> Deck:
        load, settings = block[0], self.cells.settings
        amps = STEP_UNITS * settings.v_unit_v * load
        drives = [
            step_source("x", "x", amps, STEP_DELAY_S, 1e-12), "Gs0 0 s0 x 0 1", f"Rs0 s0 0 {number(1 / load)}",
        ]  # fmt: skip
        window = STEP_TAUS * settings.c_node_f / load
        lines = bench([Copy()], drives, self.cells, self.design.operating)
        command = Tran(window / 1000, STEP_DELAY_S + window, window / 1000)
        return self._deck("step response of its node", lines, [command], ["v(s0)"])

    def _step_rows(self, block: Sequence[float], plots: tuple[Plot, ...]) -> pd.DataFrame:
        time, v = plots[0].sweep - STEP_DELAY_S, np.real(plots[0]["v(s0)"])
        after = time >= 0
        guess = self.cells.settings.c_node_f / block[0]
        fit = fit_step(time[after], (v - v[0])[after], float(v[-1] - v[0]), guess)
        return pd.DataFrame([{"load": block[0], "tau": fit.tau_s, "fit_rms": fit.rms}])

    def _noise(self, block: Sequence[float]) -> Deck:
        drives = [f"Vs b 0 dc {number(block[0])} ac 1", f"Rs b s0 {number(SENSE_OHM)} noisy=0"]
        lines = bench([Copy()], drives, self.cells, self.design.operating)
        return self._deck("noise", lines, [Noise(out, "Vs", *BAND) for out in ("v(s0)", "v(zp0,zn0)")], [])

    def _noise_rows(self, block: Sequence[float], plots: tuple[Plot, ...]) -> pd.DataFrame:
        frames = [
            pd.DataFrame(
                {
                    "bias": block[0], "output": output, "frequency": plot.sweep,
                    "density": np.real(plot["onoise_spectrum"]) / scale,
                }
            )
            for output, scale, plot in zip("iz", (SENSE_OHM, 1.0), plots, strict=True)
        ]  # fmt: skip
        return pd.concat(frames)


def _run(deck: Deck, bed: Bed, progress: Progress) -> tuple[Plot, ...]:
    outcome = bed.run([deck], progress)[0]
    if outcome.run is None:
        assert outcome.error is not None, "a failed run says why"
        raise outcome.error
    return outcome.run.plots


def _curves(plot: Plot, k: int) -> pd.DataFrame:
    """A source's branch current enters its + terminal, so what the neuron takes is its negative."""
    columns = {"i_in": -np.real(plot[f"i(es{k})"]), "zp": np.real(plot[f"v(zp{k})"]), "zn": np.real(plot[f"v(zn{k})"])}
    return pd.DataFrame({"s": plot.sweep, **columns})


def _measure(
    blocks: list[list[Any]],
    deck: Callable[[Sequence[Any]], Deck],
    rows: Rows,
    axis: str,
    columns: list[str],
    bed: Bed,
    progress: Progress,
) -> list[pd.DataFrame]:
    """Rows of every block; one that fails is halved until the failing sample stands alone, as a row of NaN."""
    done: list[pd.DataFrame] = []
    for block, outcome in zip(blocks, bed.run([deck(block) for block in blocks], progress), strict=True):
        if outcome.run is not None:
            done.append(rows(block, outcome.run.plots).assign(status=OK))
        elif len(block) > 1:
            half = len(block) // 2
            done += _measure([block[:half], block[half:]], deck, rows, axis, columns, bed, progress)
        else:
            value = block[0][0] if isinstance(block[0], tuple) else block[0]
            done.append(pd.DataFrame([{**dict.fromkeys(columns, np.nan), axis: value, "status": outcome.status}]))
    return done
