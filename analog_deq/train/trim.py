"""The offset trim of a die: currents into its summing nodes that bring its mean readings back to the model's own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from analog_deq.spec import Trim
from analog_deq.train.deployed import DeployedNetwork

Array = np.ndarray
TRIM_RIDGE = 1e-3


@dataclass(frozen=True, slots=True)
class TrimLaw:
    """Mean readings ``target`` (N,) of the model over the trim images, and the amps (N, N) a distance from them asks.

    Label-free: a die's mean readings are all it needs. The mean state answers a bias change by J = mean (I - D W)^-1 D,
    inverted by regularised least squares.
    """

    spec: Trim
    target: Array
    amps: Array

    @classmethod
    def of(cls, model: DeployedNetwork, x: Tensor) -> TrimLaw:
        """The law of a nominal model and its trim images (images, M)."""
        solved = model.solve(x, domain_share=None)
        slope = model.act.slope(solved.h)
        identity = torch.eye(slope.shape[-1], dtype=slope.dtype)
        response = torch.linalg.solve(identity - slope[:, :, None] * model.w_state, torch.diag_embed(slope)).mean(0)
        normal = response.T @ response + TRIM_RIDGE * identity
        change_h = torch.linalg.solve(normal, response.T).numpy()
        share = np.ones(len(change_h)) if model.share is None else model.share
        unit = model.design.neuron.v_unit_v / (model.proxy.r_feedback_ohm * share)
        return cls(model.design.trim, solved.reading.mean(0).numpy(), unit[:, None] * change_h)

    def change(self, measured: Array) -> tuple[Array, Array]:
        """Currents (..., N) in amperes, rounded to the trim DAC, for mean readings (..., N); and which clip."""
        wanted = (self.target - measured) @ self.amps.T
        limit = self.spec.range_a
        step = 2 * limit / (2**self.spec.bits - 1)
        return np.round(np.clip(wanted, -limit, limit) / step) * step, np.abs(wanted) > limit
