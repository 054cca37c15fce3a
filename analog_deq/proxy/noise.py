"""Stationary noise of the whole network from one neuron's fitted noise, by the Lyapunov equation."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from analog_deq.fit.forms import closed_loop_tau, flicker_band, loop_flicker, loop_noise_density
from analog_deq.fit.parameters import ProxyParameters, tau_coefficients
from analog_deq.spec import DesignSpec


def noise_inputs(design: DesignSpec, proxy: ProxyParameters, load: np.ndarray, slope: Tensor) -> tuple[Tensor, Tensor]:
    """One-sided white densities (loop at h, out-of-loop at z) in units^2/Hz; ``slope`` (..., N) is dz/dh."""
    values, neuron = proxy.noise.values, design.neuron
    proxy.noise.require("load_siemens", load)
    kelvin = design.operating.temperature_celsius + 273.15
    en = torch.tensor(values["en_v_per_rthz"], dtype=slope.dtype)
    loop = loop_noise_density(
        torch.as_tensor(load, dtype=slope.dtype), en, proxy.r_feedback_ohm, kelvin, values["inverse_a0"]
    )
    white = values["z_white"] + values["z_white_slope2"] * slope.square()
    return loop / neuron.v_unit_v**2, white


def diffusion(w_state: Tensor, tau_s: Tensor, loop: Tensor, white: Tensor) -> Tensor:
    """Q of ``A C + C A^T + Q = 0`` for h: ``T^-1 (S_h/2 + W (S_z/2) W^T) T^-1``; (..., N, N), units^2/s."""
    inner = torch.diag_embed(loop.expand_as(white) / 2) + (w_state * (white / 2)[..., None, :]) @ w_state.mT
    return inner / (tau_s[:, None] * tau_s)


def state_covariance(
    design: DesignSpec,
    proxy: ProxyParameters,
    w_state: Tensor,
    load: np.ndarray,
    slope: Tensor,
    h_covariance: Tensor,
) -> Tensor:
    """Covariance of z (..., N, N) from that of h: ``D C D`` plus what bypasses the loop.

    Out of the loop are each neuron's wide-band noise and the 1/f part of its stage, which the loop amplifies as a
    slow error, ``(I - D W)^-1``; its band starts at the calibration's first frequency and ends at the loop's pole. An
    op-amp's 1/f noise is such a slow error too, behind the slope D.
    """
    values = proxy.noise.values
    _, white = noise_inputs(design, proxy, load, slope)
    loads = torch.as_tensor(load, dtype=slope.dtype)
    wide = (
        slope.square()
        * (values["wide_slope2"] + values["wide_slope2_load"] * loads + values["wide_slope2_load2"] * loads**2)
        + values["wide_floor"]
    )
    n = w_state.shape[-1]
    identity = torch.eye(n, dtype=slope.dtype)
    inverse = torch.linalg.inv(identity - slope[..., :, None] * w_state)
    tau = proxy.tau.values["tau0_s"]
    octaves = math.log(max(math.e, 1 / (2 * math.pi * tau * proxy.noise.domain["frequency_hz"][0])))
    flicker = white * values["z_corner_hz"] * octaves
    amplified = (inverse * flicker[..., None, :]) @ inverse.mT - torch.diag_embed(flicker)
    covariance = slope[..., :, None] * h_covariance * slope[..., None, :] + torch.diag_embed(wide) + amplified
    if values["loop_flicker_v2"] > 0:
        at_v = loop_flicker(loads, values["loop_flicker_v2"], proxy.r_feedback_ohm, values["inverse_a0"])
        own_tau = closed_loop_tau(loads, *tau_coefficients(proxy.tau))
        slow = at_v / design.neuron.v_unit_v**2 * flicker_band(proxy.noise.domain["frequency_hz"][0], own_tau)
        covariance = covariance + (inverse * (slope.square() * slow)[..., None, :]) @ inverse.mT
    return covariance
