"""Trim: offset currents that bring a mismatched die's mean readings back to the model's own, without labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from analog_deq.train.deployed import DeployedNetwork
from analog_deq.train.trim import TrimLaw
from analog_deq.verify.lower import LoweredNetwork
from analog_deq.verify.sweeps import Sweep, SweepResult

Array = np.ndarray
Settle = Callable[[Sequence[Sweep], Sequence[Tensor]], list[SweepResult]]
"""Equilibria of sweeps, each of its own inputs (images, M)."""


def trim_currents(model: DeployedNetwork, x: Tensor, measured: Array) -> tuple[Array, int]:
    """Trim currents (N,) that move the mean readings of images ``x`` to the model's own, and how many clip.

    Label-free: only the die's mean readings ``measured`` (N,) are used; see :class:`TrimLaw`.
    """
    currents, clipped = TrimLaw.of(model, x).change(measured)
    return currents, int(clipped.sum())


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
