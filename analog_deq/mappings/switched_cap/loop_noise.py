"""Noise of the whole clocked network from ngspice: ``.noise`` of each held phase, and the loop's measured Jacobian.

ngspice has no noise analysis of a clocked circuit. What is linear and at rest in it, it can analyse: the network with
its clock held in either phase. Integrated over frequency, that is the variance of what the phase's end samples (kT C
of every capacitor among it: the sum over all frequencies folds every alias in). How a disturbance of one period lives
on in the next is measured on the clocked circuit itself. The rest is the discrete Lyapunov equation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from analog_deq.mappings.switched_cap.deployed import SwitchedCapDeployed
from analog_deq.mappings.switched_cap.network import Circuit
from analog_deq.mappings.switched_cap.noise import period_covariance
from analog_deq.netlists.deck import SPICE_OPTIONS, build_deck, number
from analog_deq.records import Command, Deck, Noise, Plot

Array = np.ndarray
PER_DECADE = 20
START_HZ, STOP_HZ = 1e3, 1e11
PICO = 1e12


@dataclass(frozen=True, slots=True)
class PhaseNoise:
    """Covariances (N, N) of what a period samples: charges (C^2), v at the masters (V^2), and variances (N,) of the
    slaves' sharing (V^2) and of the rows (V^2, differential).
    """

    charge: Array
    master: Array
    share: Array
    row: Array


@dataclass(frozen=True, slots=True)
class LoopNoise:
    """Decks of the held phases at one image with states held at ``w`` (N,), and what their plots say."""

    circuit: Circuit
    deployed: SwitchedCapDeployed
    x: Array
    w: Array

    def reset_deck(self) -> Deck:
        """Phase 1: charge at every summing node, v(q{i}) in pC, and the slaves' voltages.

        Flat, since a row's own switches damp the op-amp that is closed on itself. Columns share rows only: their
        charges are correlated by less than 1 %, which is left out.
        """
        held = self._held("p1").without_wires()
        part, n = held.bench.settings.capacitors, held.states
        lines = held.flat(self.x)
        rows = [f"r{q}{s}" for q in range(held.inputs) for s in "pn"] + [f"z{s}{j}" for j in range(n) for s in "pn"]
        lined = held.lines()
        for i in range(n):
            plates = [(f"f{i}", part.feedback_f * (1 + held.neurons[i].feedback)), ("0", part.parasitic_f)]
            plates += list(zip(rows, lined[:, i], strict=True))
            lines += [f"Gq{i}_{k} 0 q{i} s{i} {node} {number(PICO * c)}" for k, (node, c) in enumerate(plates) if c > 0]
            lines.append(f"Rq{i} q{i} 0 1.0 noisy=0")
        outputs = [f"v(q{i})" for i in range(n)] + [f"v(u{i})" for i in range(n)]
        return self._deck("noise sampled by the reset", lines, outputs, "Vx0p")

    def transfer_deck(self) -> Deck:
        """Phase 2, slaves held by sources: v at the masters, and the rows."""
        held = self._held("p2")
        unit, n = held.bench.settings.scales.v_unit_v, held.states
        offset = self.deployed.proxy.hold.values["offset_h"]
        lines = [
            *held.folded(self.x),
            *(f"Vu{i} u{i} 0 {number(-unit * (h + offset))}" for i, h in enumerate(self.w)),
        ]
        pairs = [(i, j) for i in range(n) for j in range(i)]
        outputs = [f"v(m{i})" for i in range(n)] + [f"v(zp{i},zn{i})" for i in range(n)]
        outputs += [f"v(m{i},m{j})" for i, j in pairs]
        return self._deck("noise sampled by the masters", lines, outputs, "Vf0")

    def read(self, reset: tuple[Plot, ...], transfer: tuple[Plot, ...]) -> PhaseNoise:
        """Covariances of the two decks' plots."""
        n = self.circuit.states
        first, second = ([_variance(p) for p in plots] for plots in (reset, transfer))
        return PhaseNoise(
            np.diag(first[:n]) / PICO**2,
            _covariance(second[:n], second[2 * n :]),
            np.array(first[n : 2 * n]),
            np.array(second[n : 2 * n]),
        )

    def reading_rms(self, noise: PhaseNoise, jacobian: Array) -> Array:
        """rms (N,) of the readings, units of z, for a period's measured ``jacobian`` (N, N)."""
        settings = self.circuit.bench.settings
        share, unit = self.deployed.sharing.share(torch.as_tensor(self.w)).numpy(), settings.scales.v_unit_v
        feedback = settings.capacitors.feedback_f
        drawn = np.outer(share, share) * (noise.charge / feedback**2 + noise.master) + np.diag(noise.share)
        c = period_covariance(torch.as_tensor(jacobian), torch.as_tensor(drawn / unit**2)).numpy()
        slope = self.deployed.act.slope(torch.as_tensor(self.w)).numpy()
        wide = noise.row / (2 * settings.scales.z_unit_v) ** 2
        return np.sqrt(slope**2 * np.diag(c) + wide)

    def _held(self, phase: str) -> Circuit:
        return replace(self.circuit, bench=replace(self.circuit.bench, held=phase))

    def _deck(self, title: str, lines: list[str], outputs: list[str], source: str) -> Deck:
        lines = [f"{line} ac 1" if line.startswith(f"{source} ") else line for line in lines]
        commands: list[Command] = [Noise(o, source, PER_DECADE, START_HZ, STOP_HZ) for o in outputs]
        return build_deck(
            f"{self.deployed.design.name}: {title}", lines, commands, options=SPICE_OPTIONS,
            files=self.circuit.bench.cells.files,
            temperature_celsius=self.circuit.bench.operating.temperature_celsius,
        )  # fmt: skip


def _variance(plot: Plot) -> float:
    return float(np.trapezoid(np.real(plot["onoise_spectrum"]) ** 2, plot.sweep))


def _covariance(own: list[float], differences: list[float]) -> Array:
    """Covariance (N, N) from variances and, below the diagonal row by row, variances of differences."""
    n = len(own)
    c = np.diag(np.array(own))
    rows, columns = np.tril_indices(n, -1)
    for row, column, d in zip(rows, columns, differences, strict=True):
        c[row, column] = c[column, row] = (own[row] + own[column] - d) / 2
    return c
