"""Settling, energy and noise of the whole network in ngspice, beside what the proxy predicts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, as_tensor

from analog_deq.equilibrium.network_noise import network_covariance
from analog_deq.equilibrium.settle import integrate
from analog_deq.equilibrium.settle import settling_time as proxy_settling_time
from analog_deq.records import OK, Deck, Progress
from analog_deq.train.deployed import DeployedNetwork
from analog_deq.verify.lower import LoweredNetwork
from analog_deq.verify.mirror import MIRROR_LIMIT
from analog_deq.verify.sweeps import Bed
from analog_deq.waveforms import settling_time

Array = np.ndarray
IMAGES_PER_DECK = 4
PROXY_STEPS = 40
"""Steps of the proxy's ordinary differential equation in the fastest neuron's time constant."""


@dataclass(frozen=True, slots=True)
class Settling:
    """One image from rest. Times in s, energy in J up to the settling time; NaN where ``status`` is not ok.

    ``end_error`` is the largest distance of the last point from the image's own equilibrium, in units of z.
    ``trace`` holds (time, readings in ngspice, readings of the proxy at the same times).
    """

    image: int
    status: str
    t_spice_s: float = float("nan")
    t_proxy_s: float = float("nan")
    end_error: float = float("nan")
    energy_j: float = float("nan")
    dac_energy_j: float = float("nan")
    trace: tuple[Array, Array, Array] | None = None


def run_transients(
    network: LoweredNetwork,
    model: DeployedNetwork,
    x: Tensor,
    images: Array,
    equilibria: Array,
    ports_v: Array,
    bed: Bed,
    progress: Progress,
    *,
    flat: bool = False,
) -> list[Settling]:
    """Settling of test images ``images`` from rest; ``equilibria`` and ``ports_v`` are all images' ngspice states."""
    if not len(images):
        return []
    design = network.design
    inputs = model.inputs(x).numpy()
    rest = model.proxy.integrator.values["s0_v"]
    blocks = [images[k : k + IMAGES_PER_DECK] for k in range(0, len(images), IMAGES_PER_DECK)]

    def decks(die: LoweredNetwork) -> list[Deck]:
        return [die.transients(inputs[block], rest, flat=flat) for block in blocks]

    outcomes = bed.run(decks(network), progress)
    plots = [plot for outcome in outcomes if outcome.run is not None for plot in outcome.run.plots]
    if not flat and any(network.mirror_error(plot) > MIRROR_LIMIT for plot in plots):
        progress.note("the drivers' outputs are no mirror images: transients with a coupling from either row")
        network = network.unmirrored()
        outcomes = bed.run(decks(network), progress)
    tolerance = design.verify.settle_tolerance_fs
    time, readings, t_proxy = proxy_trajectories(model, x[torch.as_tensor(images)], tolerance)
    results = []
    for block, outcome in zip(blocks, outcomes, strict=True):
        for k, image in enumerate(block):
            if outcome.run is None:
                results.append(Settling(int(image), outcome.status))
                continue
            t, z, supply = network.read_trajectory(outcome.run.plots[k], inputs[image], flat=flat)
            place = len(results)
            deviation = np.abs(z - equilibria[image]).max(axis=1)
            settled = settling_time(t, deviation, 0.0, tolerance)
            until = t <= settled
            dac = float(network.dac_power_w(inputs[image][None], ports_v[image][None])[0])
            proxy = np.stack([np.interp(t, time, readings[:, place, i]) for i in range(z.shape[1])], axis=1)
            results.append(
                Settling(
                    int(image), OK if np.isfinite(settled) else "not settled in the window", settled,
                    float(t_proxy[place]), float(deviation[-1]), float(np.trapezoid(supply[until], t[until])),
                    dac * settled, (t, z, proxy),
                )
            )  # fmt: skip
    return results


def proxy_trajectories(model: DeployedNetwork, x: Tensor, tolerance: float) -> tuple[Array, Array, Array]:
    """Time, readings (points, images, N) and settling times of the proxy's ordinary differential equation from rest."""
    verify = model.design.verify
    delay, step_s = model.proxy.tau.values["delay_s"], float(model.tau_s.min()) / PROXY_STEPS
    with torch.no_grad():
        u = model.drive(x)
        t, h = integrate(model.w_state, u, model.act, model.tau_s, t_end_s=verify.transient_window_s, dt_s=step_s)
        solved = model.solve(x)
        readings = model.map.readout(model.act.value(h).numpy(), model.inputs(x).numpy())
        settled = proxy_settling_time(t, torch.as_tensor(readings), solved.reading, tolerance, on_fail="mask")
    return t.numpy() + delay, readings, settled.numpy() + delay


@dataclass(frozen=True, slots=True)
class NoiseResult:
    """Noise of some nodes' readings at one image: frequency (F,), density (F, nodes), rms in units of z.

    ``rms_proxy`` is from the Lyapunov equation. ``status`` is not ok when ngspice gave no valid spectrum.
    """

    image: int
    nodes: tuple[int, ...]
    status: str
    frequency_hz: Array
    density: Array
    rms_spice: Array
    rms_proxy: Array


def run_noise(
    network: LoweredNetwork,
    model: DeployedNetwork,
    x: Tensor,
    image: int,
    bed: Bed,
    progress: Progress,
    *,
    flat: bool = False,
) -> NoiseResult:
    """``.noise`` of the whole network at one image, and the proxy's stationary noise at the same point."""
    design = network.design
    nodes = tuple(int(k) for k in np.linspace(0, network.states - 1, design.verify.noise_nodes).round())
    band = model.proxy.noise.domain["frequency_hz"]
    one = x[image : image + 1]
    deck = network.noise(model.inputs(one).numpy()[0], list(nodes), band[0], round_decade(band[1]), flat=flat)
    outcome = bed.run([deck], progress)[0]
    slope = model.act.slope(model.solve(one).h)
    share = None if model.share is None else as_tensor(model.share)
    covariance = network_covariance(
        design, model.proxy, model.w_state, model.map.load, slope, model.tau_s, share=share
    )[0]
    rms_proxy = covariance.diagonal().sqrt().numpy()[list(nodes)]
    if outcome.run is None:
        blank = np.full((0, len(nodes)), np.nan)
        return NoiseResult(image, nodes, outcome.status, np.empty(0), blank, np.full(len(nodes), np.nan), rms_proxy)
    plots = outcome.run.plots
    frequency = plots[0].sweep
    unit = 2 * design.neuron.z_unit_v
    density = np.stack([np.real(p["onoise_spectrum"]) for p in plots], axis=1) / unit
    rms = np.sqrt(np.trapezoid(density**2, frequency, axis=0))
    return NoiseResult(image, nodes, OK, frequency, density, rms, rms_proxy)


def round_decade(frequency_hz: float) -> float:
    """The nearest power of ten: ``.noise`` ends a sweep only on whole decades of its start."""
    return float(10.0 ** round(np.log10(frequency_hz)))
