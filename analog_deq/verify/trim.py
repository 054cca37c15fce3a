"""Trim: offset currents that bring a mismatched die's mean readings back to the model's own, without labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from analog_deq.train.deployed import DeployedNetwork
from analog_deq.verify.lower import LoweredNetwork
from analog_deq.verify.sweeps import Sweep, SweepResult

Array = np.ndarray
RIDGE = 1e-3
Settle = Callable[[Sequence[Sweep], Sequence[Tensor]], list[SweepResult]]
"""Equilibria of sweeps, each of its own inputs (images, M)."""


def trim_currents(model: DeployedNetwork, x: Tensor, measured: Array) -> tuple[Array, int]:
    """Trim currents (N,) that move the mean readings of images ``x`` to the model's own, and how many clip.

    Label-free: only the die's mean readings ``measured`` (N,) are used. The mean state answers a bias change by
    J = mean (I - D W)^-1 D, inverted by regularised least squares; currents are rounded to the trim DAC.
    """
    design = model.design
    solved = model.solve(x, domain_share=None)
    slope = model.act.slope(solved.h)
    identity = torch.eye(slope.shape[-1], dtype=slope.dtype)
    response = torch.linalg.solve(identity - slope[:, :, None] * model.w_state, torch.diag_embed(slope)).mean(0)
    error = solved.reading.mean(0) - torch.as_tensor(measured)
    normal = response.T @ response + RIDGE * identity
    change_h = torch.linalg.solve(normal, response.T @ error)
    share = 1.0 if model.share is None else model.share
    amps = change_h.numpy() * design.neuron.v_unit_v / (model.proxy.r_feedback_ohm * share)
    step = 2 * design.trim.range_a / (2**design.trim.bits - 1)
    clipped = int(np.sum(np.abs(amps) > design.trim.range_a))
    return np.round(np.clip(amps, -design.trim.range_a, design.trim.range_a) / step) * step, clipped


def trim_dies(
    networks: Sequence[LoweredNetwork], model: DeployedNetwork, x_trim: Tensor, settle: Settle
) -> tuple[list[LoweredNetwork], Array, Array]:
    """The dies with their trims, the currents (dies, N) in amperes, and how many of each die clip (dies,).

    As many rounds as the design asks for, each from equilibria of the images ``x_trim`` on every die. A die that never
    settles keeps its currents.
    """
    design = model.design
    solved, inputs = model.solve(x_trim, domain_share=None), model.inputs(x_trim).numpy()
    trimmed, limit = list(networks), design.trim.range_a
    currents, clipped = np.zeros((len(trimmed), design.sizes.states)), np.zeros(len(trimmed), dtype=int)
    for _ in range(design.verify.trim_rounds):
        sweeps = [Sweep(n, inputs, solved.h.numpy()) for n in trimmed]
        for k, result in enumerate(settle(sweeps, [x_trim] * len(sweeps))):
            if not result.ok.any():
                continue
            change, _ = trim_currents(model, x_trim[torch.as_tensor(result.ok)], result.states.z[result.ok].mean(0))
            clipped[k] = int(np.sum(np.abs(currents[k] + change) > limit))
            currents[k] = np.clip(currents[k] + change, -limit, limit)
        trimmed = [replace(n, trim_a=currents[k]) for k, n in enumerate(trimmed)]
    return trimmed, currents, clipped
