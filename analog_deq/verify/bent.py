"""Equilibria of networks whose synapses bend, on the reduced deck: the array's excess currents found pass by pass.

A reduced array is linear; cells with a law of their own, i = i(v), are not. With the ports at given voltages, though,
an array of such cells is a linear array with currents beside its cells (:class:`BentArray`), which reach the ports as
currents. So the network's equilibrium is a fixed point: ngspice settles the reduced deck with the currents of the last
pass, the array is solved at the ports it found, and so on until the states stand still. The reduction and its deck stay
the same for all images and passes; the network of the last pass is the flat one, whatever the way there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from analog_deq.errors import SimulationError
from analog_deq.records import Progress
from analog_deq.train.deployed import DeployedNetwork, ProxyStates
from analog_deq.verify.bent_array import BentArray
from analog_deq.verify.cell_curves import CellCurves, measure_curves
from analog_deq.verify.lower import LoweredNetwork
from analog_deq.verify.sweeps import Bed, Sweep, SweepResult, failed_sweep, run_sweeps

Array = np.ndarray
PASSES = 10
STILL = 1e-6
"""Change of a state over a pass, in units of z, at which it counts as settled."""
ROW_SHARE = 0.95
"""Share of the curves' reach that rows may use; the rest is for the summing nodes' offsets."""
INNER = 12
INNER_A = 1e-15
FINEST = 1e-8
"""Change below which ngspice's own tolerance is all that is seen."""
TOGETHER = 8
PROXY_PASSES = 40
PROXY_STILL = 1e-9


@dataclass(frozen=True, slots=True)
class BentDie:
    """One die of a network whose cells bend: its reduced deck, its cells' curves and its array between them."""

    network: LoweredNetwork
    curves: CellCurves
    array: BentArray

    @classmethod
    def measured(cls, network: LoweredNetwork, bed: Bed, progress: Progress) -> BentDie:
        """The die with its cells measured in ngspice; see :func:`measure_curves` for what it raises."""
        crossbar = network.design.crossbar
        g = (network.g_pos, network.g_neg) if network.seen is None else tuple(network.seen)
        array = BentArray.of(
            *g, r_line_ohm=crossbar.r_line_ohm, r_dac_ohm=crossbar.r_dac_ohm, both_word_ends=crossbar.both_word_ends
        )
        return cls(network, measure_curves(network, bed, progress), array)

    def drawn(self, x: Array, ports_v: Array, excess_a: Array) -> tuple[Array, Array]:
        """Excess currents of the cells (images, cells) and what they draw at the ports (images, 3N).

        ``ports_v`` (images, 3N) are held at inputs ``x`` (images, inputs); ``excess_a`` is where the iteration starts.
        It converges by a factor of about bend x wire drop, a few hundredths, a turn.
        """
        terminals = np.concatenate([ports_v, self.network.source_volts(x)], axis=1)
        for _ in range(INNER):
            across, drawn = self.array.solve(terminals, excess_a)
            new = self.array.excess(self.curves, across)
            change, excess_a = float(np.abs(new - excess_a).max()), new
            if change <= INNER_A:
                break
        return excess_a, self.array.solve(terminals, excess_a)[1] if change > INNER_A else drawn


def proxy_states(model: DeployedNetwork, die: BentDie, x: torch.Tensor) -> tuple[ProxyStates, Array]:
    """States of the proxy with the array's own curves, for inputs (images, M), and the excess currents at the cells.

    The proxy's linear map stays; excess currents act as nudges of the pre-activations. Picard iteration: it stops
    after ``PROXY_PASSES`` where the curves bend too far for it, which makes a poor start and nothing worse.
    """
    network, neuron = die.network, model.design.neuron
    n, r_out = network.states, network.r_out_ohm
    y = network.array.y_ports
    through = np.linalg.inv(np.eye(2 * n) + r_out * y[n:, n:])
    into_s = y[:n, n:] @ through
    inputs = model.inputs(x).numpy()
    excess = np.zeros((len(x), die.array.g.size))
    nudge: torch.Tensor | None = None
    lowered = np.zeros((len(x), n))
    last = np.full((len(x), n), np.inf)
    for _ in range(PROXY_PASSES):
        solved = model.solve(x, domain_share=None, nudge=nudge)
        reading = solved.reading.numpy() - lowered
        if np.abs(reading - last).max() <= PROXY_STILL:
            break
        last = reading
        ports = _ports(model, reading, solved.h.numpy(), ROW_SHARE * die.curves.reach_v)
        excess, drawn = die.drawn(inputs, ports, excess)
        at_rows = drawn[:, n:] @ through.T * r_out
        lowered = (at_rows[:, 0::2] - at_rows[:, 1::2]) / (2 * neuron.z_unit_v)
        amps = -(drawn[:, :n] - r_out * drawn[:, n:] @ into_s.T)
        nudge = torch.as_tensor(np.linalg.solve(model.map.closure_a, amps.T).T.copy())
    return ProxyStates(solved.z, solved.h, torch.as_tensor(reading)), excess


def bent_passes(
    sweeps: Sequence[Sweep],
    dies: Sequence[BentDie],
    ports_v: Sequence[Array],
    bed: Bed,
    progress: Progress,
    *,
    reltol: float = 1e-6,
    passes: int = PASSES,
    still: float = STILL,
) -> Iterator[list[SweepResult]]:
    """One list of results a pass, one a sweep; the last pass is the answer, its unsettled images failed.

    ``ports_v`` (images, 3N) of each sweep is where the cells' currents are first taken. An image that stands still
    is not simulated again.
    """
    # the cells' currents differ from a row to its mirror image
    sweeps = [replace(sweep, die=sweep.die.unmirrored()) for sweep in sweeps]
    places = [np.arange(len(sweep.x)) for sweep in sweeps]
    excess = [np.zeros((len(sweep.x), die.array.g.size)) for sweep, die in zip(sweeps, dies, strict=True)]
    found: list[SweepResult] = []
    ports = [np.array(volts) for volts in ports_v]
    for turn in range(passes):
        todo: list[tuple[int, Sweep]] = []
        for k, (sweep, die) in enumerate(zip(sweeps, dies, strict=True)):
            at = places[k]
            if len(at):
                excess[k][at], drawn = die.drawn(sweep.x[at], ports[k][at], excess[k][at])
                todo.append((k, replace(sweep, x=sweep.x[at], h=sweep.h[at], nudge_a=-drawn)))
        progress.note(f"pass {turn + 1} of the bent cells: {sum(len(places[k]) for k, _ in todo)} images")
        parts = run_sweeps([sweep for _, sweep in todo], bed, progress, reltol=reltol)
        if turn == 0:
            found = parts
        for (k, _), part in zip(todo, parts, strict=True):
            at, whole = places[k], found[k]
            _refuse_outside(part, dies[k].curves.reach_v)
            change = np.full(len(at), np.inf)
            if turn:
                change = np.abs(part.states.z - whole.states.z[at]).max(axis=1)
                found[k] = _merged(whole, at, part)
            ports[k][at] = part.states.ports_v
            moving = ~(change <= still) & part.ok
            if turn == passes - 1:
                found[k].status[at[moving]] = f"the cells' currents still moved the states after {passes} passes"
            places[k] = at[moving]
        yield found
        if not any(map(len, places)):
            return


@dataclass(frozen=True, slots=True)
class Settler:
    """How the images of a network reach their equilibria: flat, reduced, or reduced with the currents of bent cells."""

    model: DeployedNetwork
    flat: bool
    bends: bool

    def settle(
        self, sweeps: Sequence[Sweep], x: Sequence[torch.Tensor], bed: Bed, progress: Progress, *, reltol: float = 1e-6
    ) -> list[SweepResult]:
        """One result a sweep, each made of inputs ``x`` (images, M); as :func:`~analog_deq.verify.sweeps.run_sweeps`.

        A die whose cells could not be measured has failed on every image.
        """
        if self.flat or not self.bends:
            return run_sweeps(sweeps, bed, progress, flat=self.flat, reltol=reltol)
        results = []
        for start in range(0, len(sweeps), TOGETHER):  # a factorised array is tens of megabytes
            block = slice(start, start + TOGETHER)
            results += self._settle_bent(sweeps[block], x[block], bed, progress, reltol)
        return results

    def _settle_bent(
        self, sweeps: Sequence[Sweep], x: Sequence[torch.Tensor], bed: Bed, progress: Progress, reltol: float
    ) -> list[SweepResult]:
        results = [failed_sweep(sweep, "not run") for sweep in sweeps]
        known, dies = [], []
        for k, sweep in enumerate(sweeps):
            try:
                dies.append(BentDie.measured(sweep.die, bed, progress))
                known.append(k)
            except SimulationError as error:
                results[k] = failed_sweep(sweep, f"cells not measured: {error.reason}")
        chosen = [sweeps[k] for k in known]
        starts = [start_ports(self.model, die, x[k]) for die, k in zip(dies, known, strict=True)]
        still = max(STILL * min(1.0, reltol / 1e-6), FINEST)
        turns = bent_passes(chosen, dies, starts, bed, progress, reltol=reltol, still=still)
        for k, result in zip(known, deque(turns, maxlen=1).pop() if known else [], strict=True):
            results[k] = result
        return results


def start_ports(model: DeployedNetwork, die: BentDie, x: torch.Tensor) -> Array:
    """Port voltages (images, 3N) where the proxy expects the network."""
    solved = proxy_states(model, die, x)[0]
    return _ports(model, solved.reading.numpy(), solved.h.numpy(), ROW_SHARE * die.curves.reach_v)


def _ports(model: DeployedNetwork, reading: Array, h: Array, reach_v: float) -> Array:
    """Port voltages of readings and pre-activations: s = s0 - v/A0, rows at plus and minus their reading."""
    neuron, values = model.design.neuron, model.proxy.integrator.values
    rows = np.repeat(reading * neuron.z_unit_v, 2, axis=1) * np.tile([1.0, -1.0], reading.shape[1])
    summing = values["s0_v"] + values["inverse_a0"] * neuron.v_unit_v * h
    return np.concatenate([summing, np.clip(rows, -reach_v, reach_v)], axis=1)


def _refuse_outside(result: SweepResult, reach_v: float) -> None:
    """Mark images as failed whose rows leave the voltages that the cells were measured at."""
    far = result.ok & ~(np.abs(result.states.ports_v).max(axis=1) <= ROW_SHARE * reach_v)
    result.status[far] = f"a row beyond {ROW_SHARE * reach_v:.3g} V, where the synapses' curves end"


def _merged(whole: SweepResult, at: Array, part: SweepResult) -> SweepResult:
    """``whole`` with the images at ``at`` replaced."""
    states, status = replace(whole.states), whole.status.copy()
    for name in ("z", "ports_v", "v", "supply_w"):
        values = getattr(whole.states, name).copy()
        values[at] = getattr(part.states, name)
        states = replace(states, **{name: values})
    status[at] = part.status
    return SweepResult(states, status)
