"""Noise of one read of all neurons: its covariance at an equilibrium, predicted and as ngspice has it.

``.noise`` gives the spectrum at one output, not how two outputs hang together. So the covariance is the proxy's,
through the linearised loop, each row and column scaled to the rms that ngspice finds at that neuron; and ngspice's
noise of a weighted sum of all outputs, the lead of one class over the next, says whether it is right as a whole.
Devices of ngspice have no noise in a transient, so no transient can be the referee here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import as_tensor

from analog_deq.equilibrium.network_noise import network_covariance
from analog_deq.records import OK
from analog_deq.verify.dynamics import round_decade
from analog_deq.verify.sheet import SheetRun

Array = np.ndarray
MOST_NODES = 16
"""Neurons whose noise is simulated at one image; of a larger network a spread of them stands for the others."""


@dataclass(frozen=True, slots=True)
class ReadNoise:
    """Noise in ngspice at one image: rms of the readings of ``nodes``, and of a weighted sum, in units of z."""

    image: int
    nodes: Array
    status: str
    rms: Array
    sum_rms: float


def predicted_covariance(run: SheetRun) -> Array:
    """Covariance of one read at every test image (images, N, N), in squared units of z, as the proxy has it."""
    model = run.model
    share = None if model.share is None else as_tensor(model.share)
    with torch.no_grad():
        slope = model.act.slope(run.solved.h)
        found = network_covariance(
            run.design, run.proxy, model.w_state, model.map.load, slope, model.tau_s, share=share
        )
    return np.asarray(found.numpy())


def simulated_noise(run: SheetRun, images: Array, sums: Array) -> list[ReadNoise]:
    """``.noise`` of the whole network at each image; ``sums`` (images, N) weighs the rows of one output more."""
    n = run.network.states
    nodes = np.unique(np.linspace(0, n - 1, min(n, MOST_NODES)).round().astype(int))
    low, high = run.proxy.noise.domain["frequency_hz"]
    flat = run.settler.flat or run.settler.bends or not run.proxy.synapse.thermal
    decks = [
        run.network.noise(run.inputs[i], [int(k) for k in nodes], low, round_decade(high), flat=flat, sums=w[None])
        for i, w in zip(images, sums, strict=True)
    ]
    found = []
    for image, outcome in zip(images, run.bed.run(decks, run.progress), strict=True):
        if outcome.run is None:
            found.append(ReadNoise(int(image), nodes, outcome.status, np.full(len(nodes), np.nan), float("nan")))
            continue
        unit = 2 * run.design.neuron.z_unit_v
        rms = [
            np.sqrt(np.trapezoid((np.real(plot["onoise_spectrum"]) / unit) ** 2, plot.sweep))
            for plot in outcome.run.plots
        ]
        found.append(ReadNoise(int(image), nodes, OK, np.array(rms[:-1]), float(rms[-1])))
    return found


def scaled_covariance(predicted: Array, noises: Sequence[ReadNoise]) -> Array:
    """``predicted`` (images, N, N) with each neuron's rms as ngspice has it.

    An image that was simulated has its own ratios, at neurons in between those of the nearest ones; the others have the
    mean of the simulated images.
    """
    n = predicted.shape[-1]
    ratios = {}
    for noise in noises:
        if noise.status == OK:
            own = np.sqrt(np.diagonal(predicted[noise.image]))[noise.nodes]
            ratios[noise.image] = np.interp(np.arange(n), noise.nodes, noise.rms / own)
    if not ratios:
        raise ValueError("no image has a valid noise simulation to scale the covariance by")
    scale = np.tile(np.mean(list(ratios.values()), axis=0), (len(predicted), 1))
    for image, ratio in ratios.items():
        scale[image] = ratio
    return np.asarray(predicted * scale[:, :, None] * scale[:, None, :])
