"""A programmed network in ngspice: fixed points by shooting on its own clocked map, transients from rest, noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from analog_deq.mappings.mapping import Equilibria, Settled
from analog_deq.mappings.switched_cap.calibration import at, clocked_options
from analog_deq.mappings.switched_cap.deployed import SwitchedCapDeployed
from analog_deq.mappings.switched_cap.loop_noise import LoopNoise
from analog_deq.mappings.switched_cap.network import Circuit
from analog_deq.netlists.deck import build_deck, number
from analog_deq.records import OK, Deck, Plot, Progress, Tran
from analog_deq.train.deployed import ProxyStates
from analog_deq.verify.sweeps import Bed

Array = np.ndarray
RELTOL = 1e-4
STEPS = 20
"""Time steps per phase at least."""
MOST_PASSES = 8
AT_REST = 5e-6
"""Estimated distance from the fixed point, in units of h, at which a shooting pass is the last."""
NUDGE = 1e-3
"""Disturbance of a held state, in units of h, that measures the Jacobian."""
ZERO_WIRES_NOTE = "wires left out: settled charges do not depend on them"


@dataclass(frozen=True, slots=True)
class SwitchedCapLowered:
    """One die, and the nominal proxy whose Jacobian steers the shooting (never its result)."""

    circuit: Circuit
    deployed: SwitchedCapDeployed
    klu: bool

    def run_equilibria(
        self, x: Array, guess: ProxyStates | None, bed: Bed, progress: Progress, *, flat: bool = False
    ) -> Equilibria:
        """Fixed points of ngspice's own clocked map, found by shooting (Aprille and Trick 1972).

        A deck starts with master and slave of every neuron at a guess and runs two periods. By how much the held
        states moved from the first to the second is the residual; a Newton step with the proxy's Jacobian makes the
        next guess. An image is done when what is left of the way, (I - J)^-1 residual, is below ``AT_REST``.
        """
        solved = guess or self.deployed.solve(torch.as_tensor(x), domain_share=None)
        w = solved.h.numpy().copy()
        n = self.circuit.states
        z = np.full((len(x), n), np.nan)
        supply = np.full(len(x), np.nan)
        status = np.full(len(x), "not run", dtype=object)
        pending = np.arange(len(x))
        for _ in range(MOST_PASSES):
            decks = [self.periods_deck(x[k], w[k], 2, flat=flat) for k in pending]
            left = []
            for k, outcome in zip(pending, bed.run(decks, progress), strict=True):
                if outcome.run is None:
                    status[k] = outcome.status
                    continue
                plot = outcome.run.plots[0]
                moved = np.diff(self.held(plot, 2), axis=0)[0]
                way = self.deployed.correction(w[k], moved)
                distance = float(np.abs(way).max())
                status[k] = f"not at rest: {distance:.2g} units of h away"
                if distance <= AT_REST:
                    status[k] = OK
                    z[k] = self.readings(plot, 2)[1]
                    supply[k] = self._power(plot, x[k], 1, 2)
                else:
                    w[k] += way
                    left.append(k)
            pending = np.array(left, dtype=int)
            if not len(pending):
                break
        return Equilibria(z, status, supply)

    def run_settling(self, x: Array, ends: Array, tolerance: float, bed: Bed, progress: Progress) -> list[Settled]:
        """From rest, holds at zero; time is whole periods until the first reading after which all stay inside."""
        period = self.circuit.bench.settings.clock.period_s
        count = int(np.ceil(self.deployed.design.verify.transient_window_s / period))
        rest = np.full(self.circuit.states, -self.deployed.proxy.hold.values["offset_h"])
        outcomes = bed.run([self.periods_deck(row, rest, count) for row in x], progress)
        results = []
        for row, end, outcome in zip(x, ends, outcomes, strict=True):
            if outcome.run is None:
                results.append(Settled(outcome.status))
                continue
            plot = outcome.run.plots[0]
            deviation = np.abs(self.readings(plot, count) - end).max(axis=1)
            outside = np.flatnonzero(deviation > tolerance)
            first = int(outside[-1]) + 1 if len(outside) else 0
            if first == count:
                results.append(Settled("not settled in the window"))
                continue
            t = (first + 1) * period
            power = self._power(plot, row, 0, first + 1)
            results.append(Settled(OK, t, power * t, float(deviation[-1])))
        return results

    def run_noise(self, x: Array, nodes: list[int], bed: Bed, progress: Progress) -> Array:
        """rms (nodes,) of readings: noise of both held phases and the clocked loop's Jacobian, all from ngspice."""
        solved = self.deployed.solve(torch.as_tensor(x[None]), domain_share=None)
        w, failed = solved.h.numpy()[0], np.full(len(nodes), np.nan)
        loop = LoopNoise(self.circuit, self.deployed, x, w)
        outcomes = bed.run([loop.reset_deck(), loop.transfer_deck()], progress)
        jacobian = self.jacobian(x, w, bed, progress)
        if jacobian is None or outcomes[0].run is None or outcomes[1].run is None:
            return failed
        noise = loop.read(outcomes[0].run.plots, outcomes[1].run.plots)
        return loop.reading_rms(noise, jacobian)[nodes]

    def jacobian(self, x: Array, w: Array, bed: Bed, progress: Progress) -> Array | None:
        """d w' / d w (N, N) of one period of the clocked circuit at ``w`` (N,), by differences; None: a run failed."""
        starts = [w, *(w + NUDGE * np.eye(len(w))[k] for k in range(len(w)))]
        outcomes = bed.run([self.periods_deck(x, start, 2) for start in starts], progress)
        held = [self.held(o.run.plots[0], 2) for o in outcomes if o.run is not None]
        if len(held) < len(starts):
            return None
        before, after = (np.stack([h[k] - held[0][k] for h in held[1:]], axis=1) for k in (0, 1))
        return np.asarray(after @ np.linalg.inv(before))

    def flat_deck(self, x: Array) -> Deck:
        """The whole circuit, wires among it, from rest at one image."""
        return self.periods_deck(x, np.zeros(self.circuit.states), 2, flat=True)

    def periods_deck(self, x: Array, w: Array, periods: int, *, flat: bool = False) -> Deck:
        """Transient of whole periods that starts with pre-activations ``w`` (N,) held by masters and slaves."""
        circuit, settings = self.circuit, self.circuit.bench.settings
        lines = circuit.flat(x) if flat else circuit.folded(x)
        u = -settings.scales.v_unit_v * (w + self.deployed.proxy.hold.values["offset_h"])
        lines.append(".ic " + " ".join(f"v(m{i})={number(v)} v(u{i})={number(v)}" for i, v in enumerate(u)))
        step = settings.clock.phase_s / STEPS
        title = "clocked network" + ("" if flat or circuit.r_line_ohm == 0 else f" ({ZERO_WIRES_NOTE})")
        return build_deck(
            f"{self.deployed.design.name}: {title}", lines, [Tran(step, periods * settings.clock.period_s, step)],
            save=self.saved(), options=clocked_options(RELTOL, self.klu), files=circuit.bench.cells.files,
            temperature_celsius=circuit.bench.operating.temperature_celsius,
        )  # fmt: skip

    def saved(self) -> list[str]:
        """Vectors kept of a transient: held states, rows, supply currents."""
        names = [f"v({name}{i})" for name in ("u", "zp", "zn") for i in range(self.circuit.states)]
        return [*names, "i(vdd)", "i(vss)"]

    def _instants(self, periods: int) -> Array:
        clock = self.circuit.bench.settings.clock
        return np.array([clock.read_s(k) for k in range(periods)])

    def held(self, plot: Plot, periods: int) -> Array:
        """Held pre-activations (periods, N) at the sampling instants."""
        times, settings = self._instants(periods), self.circuit.bench.settings
        volts = np.stack([at(plot, f"v(u{i})", times) for i in range(self.circuit.states)], axis=1)
        return np.asarray(-volts / settings.scales.v_unit_v)

    def readings(self, plot: Plot, periods: int) -> Array:
        """Readings z (periods, N): half the differential row voltage when the masters sample."""
        times, full = self._instants(periods), 2 * self.circuit.bench.settings.scales.z_unit_v
        columns = [at(plot, f"v(zp{i})", times) - at(plot, f"v(zn{i})", times) for i in range(self.circuit.states)]
        return np.stack(columns, axis=1) / full

    def _power(self, plot: Plot, x: Array, first: int, last: int) -> float:
        """Mean power from rails, DACs and clock over periods ``first`` to ``last``."""
        rails, period = self.circuit.bench.operating, self.circuit.bench.settings.clock.period_s
        t = plot.sweep
        watts = -np.real(plot["i(vdd)"]) * rails.vdd_v - np.real(plot["i(vss)"]) * rails.vss_v
        energy = np.concatenate([[0.0], np.cumsum(np.diff(t) * (watts[1:] + watts[:-1]) / 2)])
        spent = np.interp([first * period, last * period], t, energy)
        drawn = float(spent[1] - spent[0]) / ((last - first) * period)
        return drawn + float(self.circuit.dac_power_w(x)) + self.circuit.clock_power_w()
