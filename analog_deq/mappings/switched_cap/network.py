"""The whole network as deck lines: flat, every element, or with its input rows folded into one source a column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analog_deq.draws import Stream, generator
from analog_deq.mappings.switched_cap.mismatch import capacitor_sigma, draw_deviations
from analog_deq.mappings.switched_cap.netlist import (
    SWITCHES,
    Bench,
    Deviations,
    array_lines,
    harness,
    neuron_lines,
    row_lines,
    switch_model,
)
from analog_deq.netlists.deck import number

Array = np.ndarray
ROW_SWITCHES = 2
"""Switches of a row line."""


@dataclass(frozen=True, slots=True)
class Die:
    """Mismatch of one die: relative capacitor errors are drawn for what is programmed, neurons once and for all."""

    seed: int
    index: int
    neurons: tuple[Deviations, ...]

    @classmethod
    def draw(cls, bench: Bench, seed: int, index: int, states: int) -> Die:
        """Die ``index`` of a design's seed."""
        return cls(seed, index, draw_deviations(bench, seed, Stream.VERIFY_DIE, index, states))

    def capacitors(self, bench: Bench, c: Array) -> Array:
        """The capacitors this die has where ``c`` (2, rows, N) was programmed."""
        normal = generator(self.seed, Stream.CONDUCTANCE_DIE, self.index).standard_normal(c.shape)
        return np.asarray(c * (1 + capacitor_sigma(bench.settings, c) * np.clip(normal, -5, 5)))


@dataclass(frozen=True, slots=True)
class Circuit:
    """One die's network: capacitors (2, inputs + 1 + N, N) as they are, each neuron's mismatch, wires, DACs."""

    bench: Bench
    c: Array
    neurons: Sequence[Deviations]
    r_line_ohm: float
    r_dac_ohm: float

    @property
    def states(self) -> int:
        return int(self.c.shape[2])

    @property
    def inputs(self) -> int:
        """Input rows, the bias row among them."""
        return int(self.c.shape[1]) - self.states

    @property
    def switches(self) -> int:
        """Switches of the whole circuit."""
        return len(SWITCHES) * self.states + 2 * ROW_SWITCHES * int(self.c.shape[1])

    def lines(self) -> Array:
        """Capacitors by row line (2 rows, N): each row's positive line, then its negative one."""
        return np.stack([self.c[0], self.c[1]], axis=1).reshape(-1, self.states)

    def levels(self, x: Array) -> Array:
        """Row voltages (..., inputs + 1) of DAC outputs ``x`` (..., M); the bias row is at one unit."""
        ones = np.ones((*x.shape[:-1], 1))
        return np.asarray(np.concatenate([x, ones], axis=-1) * self.bench.settings.scales.z_unit_v)

    def flat(self, x: Array) -> list[str]:
        """Every element, for one image ``x`` (M,)."""
        lines, rows = harness(self.bench), []
        for q, level in enumerate(self.levels(x)):
            for sign, volts in (("p", level), ("n", -level)):
                lines += [f"Vx{q}{sign} x{q}{sign} 0 {number(volts)}"]
                lines += [f"Rx{q}{sign} x{q}{sign} y{q}{sign} {number(self.r_dac_ohm)}"]
                lines += row_lines(self.bench, f"x{q}{sign}", f"y{q}{sign}", f"r{q}{sign}")
                rows.append(f"r{q}{sign}")
        lines += self._neurons()
        rows += [f"z{sign}{j}" for j in range(self.states) for sign in "pn"]
        return lines + array_lines(self.lines(), rows, self.r_line_ohm)

    def folded(self, x: Array) -> list[str]:
        """The same without wires, the input rows of each column one capacitor and one source.

        Exact in the charge: a column's input capacitors share the summing node, so only their sum C and the charge sum
        C_m V_m matter, V = sum C_m V_m / C. Their switches keep the mean time constant of a row.
        """
        bench, volts = self.bench, self.levels(x)
        pos, neg = self.c[0, : self.inputs], self.c[1, : self.inputs]
        total = (pos + neg).sum(axis=0)
        charge = volts @ (pos - neg)
        r_on = bench.settings.switches.r_on_ohm
        weight = (pos + neg).sum(axis=1)
        row = float((weight**2).sum() / max(weight.sum(), 1e-30)) / 2
        ohm = (r_on + self.r_dac_ohm) * row / max(float(total.mean()), 1e-30)
        lines = harness(bench)
        if bench.held is None:
            lines.append(switch_model(bench, "swfold", max(ohm, 1.0)))
        for i in range(self.states):
            if total[i] > 0:
                lines += [f"Vf{i} x{i} 0 {number(charge[i] / total[i])}"]
                lines += row_lines(bench, f"f{i}", f"x{i}", f"e{i}", on_ohm=max(ohm, 1.0), model="swfold")
                lines += [f"Ce{i} e{i} s{i} {number(total[i])}"]
        lines += self._neurons()
        rows = [f"z{sign}{j}" for j in range(self.states) for sign in "pn"]
        return lines + array_lines(self.lines()[2 * self.inputs :], rows, 0.0)

    def _neurons(self) -> list[str]:
        lines = []
        for j, dev in enumerate(self.neurons):
            lines += neuron_lines(self.bench, j, dev)
            lines += row_lines(self.bench, f"zp{j}", f"dp{j}", f"zp{j}")
            lines += row_lines(self.bench, f"zn{j}", f"dn{j}", f"zn{j}")
        return lines

    def dac_power_w(self, x: Array) -> Array:
        """Power the DACs deliver (images,): each period every row line takes C V from its source, at V."""
        load = self.c[:, : self.inputs].sum(axis=(0, 2))
        return np.asarray((self.levels(x) ** 2) @ load / self.bench.settings.clock.period_s)

    def clock_power_w(self) -> float:
        """Power of the clock drivers, C V^2 f of every switch's gate; their transistors are not in the deck."""
        swing = self.bench.operating.vdd_v - self.bench.operating.vss_v
        gates = self.switches * self.bench.settings.switches.c_gate_f
        return gates * swing**2 / self.bench.settings.clock.period_s

    def without_wires(self) -> Circuit:
        """The same with ideal wires."""
        return replace(self, r_line_ohm=0.0)
