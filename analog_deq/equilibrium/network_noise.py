"""Noise of the whole network at its equilibrium: sources of the neurons through the linearised loop."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from analog_deq.equilibrium.coloured_noise import spectral_covariance, white_and_flicker
from analog_deq.equilibrium.noise import linearise
from analog_deq.equilibrium.white_noise import white_covariance
from analog_deq.fit.parameters import ProxyParameters
from analog_deq.proxy.noise import NoiseSources, noise_sources
from analog_deq.spec import DesignSpec

PER_DECADE = 5
"""Points a decade of the 1/f integral; on the shipped design 5 and 40 agree within 1e-4 of the variance."""
WINDOW_PER_DECADE = 20
"""The same with a read window, whose spectrum ripples."""
BEYOND = 30.0
"""The 1/f integral ends at this multiple of the fastest pole: the loop does nothing to what is faster."""


def network_covariance(
    design: DesignSpec,
    proxy: ProxyParameters,
    w_state: Tensor,
    load: np.ndarray,
    slope: Tensor,
    tau_s: Tensor,
    *,
    window_s: float = 0.0,
    share: Tensor | None = None,
) -> Tensor:
    """Stationary covariance of z (..., N, N), in squared units, at an equilibrium with slopes ``slope`` (..., N).

    The proxy's :func:`~analog_deq.proxy.noise.noise_sources` through :func:`sources_covariance`, 1/f noise from the
    calibration's first frequency on. Per-batch use: pass the batch's mean slope (N,) and get one covariance. ``share``
    (N,) is each neuron's share of R_F.
    """
    sources = noise_sources(design, proxy, load, slope, share)
    start_hz = proxy.noise.domain["frequency_hz"][0]
    return sources_covariance(sources, w_state, slope, tau_s, start_hz=start_hz, window_s=window_s)


def sources_covariance(
    sources: NoiseSources,
    w_state: Tensor,
    slope: Tensor,
    tau_s: Tensor,
    *,
    start_hz: float | None = None,
    window_s: float = 0.0,
) -> Tensor:
    """Covariance of z (..., N, N) from the neurons' sources, read at one moment or as a mean over ``window_s``.

    White noise by the Lyapunov equation, 1/f noise by quadrature from ``start_hz`` on (needed only with 1/f sources).
    What a neuron shows without a loop (``wide``) is added as it is. With a window, one that is long against that wide
    band, only its density in band is left: ``S_z / (2 T_w)`` and the 1/f part.
    """
    covariance = white_covariance(w_state, slope, tau_s, sources.loop, sources.state, window_s=window_s)
    if sources.coloured:
        if start_hz is None:
            raise ValueError("1/f noise has no variance without a lowest frequency: give start_hz")
        covariance = covariance + _flicker(sources, w_state, slope, tau_s, start_hz, window_s)
    return covariance if window_s > 0.0 else covariance + torch.diag_embed(sources.wide)


def _flicker(
    sources: NoiseSources, w_state: Tensor, slope: Tensor, tau_s: Tensor, start_hz: float, window_s: float
) -> Tensor:
    """What the loop adds by 1/f noise, (..., N, N); with a window also what comes past the loop."""
    n = slope.shape[-1]
    eye = torch.eye(n, dtype=slope.dtype, device=slope.device)
    inject, direct, at_1_hz = w_state / tau_s[:, None], eye, sources.state_flicker
    if bool((sources.loop_flicker > 0).any()):
        inject = torch.cat([(eye / tau_s[:, None]).expand_as(w_state), inject], -1)
        direct = torch.cat([torch.zeros_like(eye), eye], -1)
        at_1_hz = torch.cat([sources.loop_flicker, at_1_hz], -1)
    stop_hz = BEYOND / (2 * math.pi * float(tau_s.min()))
    return spectral_covariance(
        linearise(w_state, slope, tau_s), inject, torch.diag_embed(slope), direct,
        white_and_flicker(torch.zeros_like(at_1_hz), at_1_hz),
        start_hz=min(start_hz, stop_hz / 10), stop_hz=stop_hz,
        per_decade=WINDOW_PER_DECADE if window_s else PER_DECADE, window_s=window_s, only_loop=window_s == 0.0,
    )  # fmt: skip
