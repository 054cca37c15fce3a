"""Transients of the whole network from other states than rest: the previous input's, and anywhere in the swing.

A start is an operating point of ngspice: with the previous input, or with a current into every summing node that holds
the integrators where they are wanted. At t = 0 the input steps, or the current is let go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from analog_deq.equilibrium.settle import integrate, settling_time
from analog_deq.errors import SimulationError
from analog_deq.records import OK, Deck, Plot, Progress
from analog_deq.spice.execution import Outcome
from analog_deq.train.deployed import DeployedNetwork
from analog_deq.verify.lower import LoweredNetwork
from analog_deq.verify.mirror import MIRROR_LIMIT
from analog_deq.verify.sweeps import Bed

Array = np.ndarray
Kind = Literal["previous", "uniform", "corner", "overload"]
STARTS_PER_DECK = 10
PROXY_STEPS, PROXY_BLOCK = 20, 100
"""Steps of the proxy's equation in the fastest neuron's time constant, good to 1e-7 of full scale; starts at a time."""
EDGE = 0.95
"""Share of the calibrated range that random starts fill."""
OVERLOAD = 1.5
"""Drive of an overloaded start over the end of the calibrated range: beyond what the integrators can follow."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where the circuit is when ``image`` comes: at input ``before``, with ``kick_a`` (N,) into the summing nodes.

    ``h`` (N,) are the pre-activations that the proxy expects there. Without a kick ``before`` is the previous image,
    with one it is ``image`` itself. ``number`` is its place among the starts of its list.
    """

    image: int
    kind: Kind
    before: int
    kick_a: Array
    h: Array
    number: int

    @property
    def name(self) -> str:
        """A name for files, without the image."""
        return f"step-from{self.before}" if self.kind == "previous" else f"start{self.number}-{self.kind}"


@dataclass(frozen=True, slots=True)
class Path:
    """One transient: ``time_s`` (points,), readings ``z`` (points, N) and integrator outputs ``v`` (points, N) in V.

    Empty where ``status`` is not ok.
    """

    start: Start
    status: str
    time_s: Array
    z: Array
    v: Array


def previous_starts(model: DeployedNetwork, h: Array, pairs: Array) -> list[Start]:
    """A start for each (previous image, image) of ``pairs``; ``h`` (images, N) are the proxy's pre-activations."""
    none = np.zeros(model.design.sizes.states)
    return [Start(int(image), "previous", int(before), none, h[before], k) for k, (before, image) in enumerate(pairs)]


def random_starts(
    model: DeployedNetwork, x: torch.Tensor, images: Array, rng: np.random.Generator, kinds: Sequence[Kind]
) -> list[Start]:
    """For each image a start of each of ``kinds``: pre-activations drawn uniformly over the calibrated range, at its
    ends with random signs, or :data:`OVERLOAD` times beyond them.

    The current that holds h is that which makes it an equilibrium of the proxy: closure (h - W z(h) - u).
    """
    reach = EDGE * min(-model.proxy.activation.start, model.proxy.activation.end)
    starts: list[Start] = []
    with torch.no_grad():
        for image in images:
            u = model.drive(x[int(image)][None]).numpy()[0]
            for kind in kinds:
                signs = rng.choice([-1.0, 1.0], len(u))
                h = {
                    "uniform": rng.uniform(-reach, reach, len(u)), "corner": reach * signs,
                    "overload": OVERLOAD * reach * signs,
                }[kind]  # fmt: skip
                z = model.act.value(torch.as_tensor(h)[None]).numpy()[0]
                kick = model.map.closure_a @ (h - model.map.w_state @ z - u)
                starts.append(Start(int(image), kind, int(image), kick, h, len(starts)))
    return starts


def start_deck(network: LoweredNetwork, inputs: Array, starts: Sequence[Start], *, flat: bool = False) -> Deck:
    """One transient a start, in one deck; ``inputs`` (images, M) are DAC outputs. A start alone guesses its state."""
    before, after = inputs[[s.before for s in starts]], inputs[[s.image for s in starts]]
    guess = starts[0].h if len(starts) == 1 else None
    return network.steps(before, after, np.stack([s.kick_a for s in starts]), guess_h=guess, flat=flat)


def run_starts(
    network: LoweredNetwork, inputs: Array, starts: Sequence[Start], bed: Bed, progress: Progress, *, flat: bool = False
) -> list[Path]:
    """One path a start, in order, of DAC outputs ``inputs`` (images, M). A failing deck is run again start by start."""
    blocks = [list(starts[k : k + STARTS_PER_DECK]) for k in range(0, len(starts), STARTS_PER_DECK)]

    def simulate(die: LoweredNetwork, parts: list[list[Start]]) -> list[Outcome]:
        return bed.run([start_deck(die, inputs, part, flat=flat) for part in parts], progress)

    outcomes = simulate(network, blocks) if blocks else []
    plots = [plot for outcome in outcomes if outcome.run is not None for plot in outcome.run.plots]
    if not flat and any(network.mirror_error(plot) > MIRROR_LIMIT for plot in plots):
        network = network.unmirrored()
        outcomes = simulate(network, blocks)
    alone = [s for part, outcome in zip(blocks, outcomes, strict=True) if outcome.run is None for s in part]
    if alone:
        progress.note(f"{len(alone)} starts are simulated one by one: one of their decks failed")
    again = iter(simulate(network, [[s] for s in alone]) if alone else [])
    paths = []
    for part, outcome in zip(blocks, outcomes, strict=True):
        for k, start in enumerate(part):
            own = outcome if outcome.run is not None else next(again)
            plot = None if own.run is None else own.run.plots[k if own is outcome else 0]
            paths.append(_path(network, inputs, start, own.status, plot, flat))
    return paths


def predicted_settling(model: DeployedNetwork, x: torch.Tensor, starts: Sequence[Start], tolerance: float) -> Array:
    """Settling times (starts,) in s of the proxy's differential equation from each start's pre-activations.

    inf where it does not settle within the window.
    """
    window, delay = model.design.verify.transient_window_s, model.proxy.tau.values["delay_s"]
    step_s = float(model.tau_s.min()) / PROXY_STEPS
    times = []
    with torch.no_grad():
        for first in range(0, len(starts), PROXY_BLOCK):
            block = starts[first : first + PROXY_BLOCK]
            own = x[[s.image for s in block]]
            h0 = torch.as_tensor(np.stack([s.h for s in block]))
            t, h = integrate(
                model.w_state, model.drive(own), model.act, model.tau_s, t_end_s=window, dt_s=step_s, h0=h0
            )
            z = model.map.readout(model.act.value(h).numpy(), model.inputs(own).numpy())
            final = model.solve(own, domain_share=None).reading
            settled = settling_time(t, torch.as_tensor(z), final, tolerance, on_fail="mask").numpy()
            times.append(np.where(settled > 0, settled + delay, 0.0))
    return np.concatenate(times) if times else np.empty(0)


def _path(network: LoweredNetwork, inputs: Array, start: Start, status: str, plot: Plot | None, flat: bool) -> Path:
    blank = np.empty((0, network.states))
    if plot is None:
        return Path(start, status, np.empty(0), blank, blank)
    try:
        t, z, _ = network.read_trajectory(plot, inputs[start.image], flat=flat)
    except SimulationError as error:
        return Path(start, error.reason, np.empty(0), blank, blank)
    return Path(start, OK, t, z, np.real(plot.columns([f"v(v{i})" for i in range(network.states)])))
