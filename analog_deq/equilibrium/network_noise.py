"""Noise of the whole network at its equilibrium: proxy densities, linearised loop, Lyapunov equation."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from analog_deq.equilibrium.noise import linearise, stationary_covariance
from analog_deq.fit.parameters import ProxyParameters
from analog_deq.proxy.noise import diffusion, noise_inputs, state_covariance
from analog_deq.spec import DesignSpec


def network_covariance(
    design: DesignSpec, proxy: ProxyParameters, w_state: Tensor, load: np.ndarray, slope: Tensor, tau_s: Tensor
) -> Tensor:
    """Stationary covariance of z (..., N, N), in squared units, at an equilibrium with slopes ``slope`` (..., N).

    Per-batch use: pass the batch's mean slope (N,) and get one covariance.
    """
    loop, white = noise_inputs(design, proxy, load, slope)
    h_covariance = stationary_covariance(linearise(w_state, slope, tau_s), diffusion(w_state, tau_s, loop, white))
    return state_covariance(design, proxy, w_state, load, slope, h_covariance)
