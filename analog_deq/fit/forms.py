"""Every fitted form, once, in torch float64. The fitter and the proxy call these same functions."""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

BOLTZMANN = 1.380649e-23


def step_response(t_s: Tensor, amplitude: Tensor, tau_s: Tensor, delay_s: Tensor) -> Tensor:
    """Single-pole step response ``a (1 - exp(-(t - delay) / tau))``, zero before the delay. Any shape."""
    elapsed = torch.clamp(t_s - delay_s, min=0.0)
    return amplitude * -torch.expm1(-elapsed / tau_s)


def delayed_pole(frequency_hz: Tensor, gain: Tensor, tau_s: Tensor, delay_s: Tensor) -> Tensor:
    """Complex response ``g exp(-j w d) / (1 + j w tau)``: what :func:`step_response` is in time."""
    w = 2 * math.pi * frequency_hz
    return gain * torch.exp(-1j * w * delay_s) / (1 + 1j * w * tau_s)


Load = TypeVar("Load", float, np.ndarray, Tensor)


def closed_loop_tau(load_siemens: Load, tau0_s: float, tau_load: float) -> Load:
    """``tau = tau0 + tau_load G_t``: R_F C_F plus (1 + R_F G_t) / (2 pi GBW), linear in the load."""
    return tau0_s + tau_load * load_siemens


def loop_noise_density(
    load_siemens: Tensor, en: Tensor, r_feedback_ohm: float | Tensor, temperature_k: float, inverse_a0: float = 0.0
) -> Tensor:
    """One-sided white density at the integrator output, V^2/Hz, below its pole.

    ``[4kT (1/R_F + G_t) + en^2 (1/R_F + G_t)^2] R_F^2 / (1 + (1 + R_F G_t) / a0)^2``: Johnson noise of the feedback and
    load conductances and the op-amp's input voltage noise through the noise gain, in a loop of finite gain.
    """
    total = 1 / r_feedback_ohm + load_siemens
    open_loop = (4 * BOLTZMANN * temperature_k * total + en**2 * total**2) * r_feedback_ohm**2
    return open_loop / (1 + r_feedback_ohm * total * inverse_a0) ** 2


def loop_flicker(
    load_siemens: Tensor, flicker_v2: float, r_feedback_ohm: float | Tensor, inverse_a0: float = 0.0
) -> Tensor:
    """1/f part of that density at 1 Hz, V^2: an op-amp's input noise ``flicker_v2`` / f through the noise gain."""
    gain = 1 + r_feedback_ohm * load_siemens
    return flicker_v2 * (gain / (1 + gain * inverse_a0)) ** 2


def flicker_band(start_hz: float, tau_s: Tensor) -> Tensor:
    """Variance from ``start_hz`` on of a density 1/f behind a single pole: ``ln(1 + 1/(2 pi f tau)^2) / 2``."""
    return torch.log1p(1 / (2 * math.pi * start_hz * tau_s) ** 2) / 2


def low_pass(frequency_hz: Tensor, tau_s: Tensor) -> Tensor:
    """Power transfer of a single pole, ``1 / (1 + (2 pi f tau)^2)``."""
    return 1 / (1 + (2 * math.pi * frequency_hz * tau_s) ** 2)


def monotone_slopes(y: Tensor, step: float) -> Tensor:
    """Slopes of monotone cubic interpolation on a uniform grid, shape of ``y`` (K,); K at least 3.

    Inside: the four-point difference ``(y[k-2] - 8 y[k-1] + 8 y[k+1] - y[k+2]) / 12 step``, of fourth order, limited to
    three times the lesser neighbouring secant (Fritsch & Carlson 1980: enough for monotone pieces), 0 where the secants
    disagree in sign. Next to the ends: the harmonic mean of the secants; ends: one-sided three-point formula, limited
    (Fritsch & Butland 1984, as in scipy's PchipInterpolator). The slopes of PCHIP everywhere would be of second order:
    2 % off on an activation's table of 81 points, 0.1 % in gradients through it.
    """
    secant = (y[1:] - y[:-1]) / step
    left, right = secant[:-1], secant[1:]
    same = (left * right) > 0
    safe = torch.where(same, left + right, torch.ones_like(left))
    inner = torch.where(same, 2 * left * right / safe, torch.zeros_like(left))
    if len(y) > 4:
        wide = (8 * (y[3:-1] - y[1:-3]) - (y[4:] - y[:-4])) / (12 * step)
        most = 3 * torch.minimum(left.abs(), right.abs())[1:-1]
        limited = torch.where(wide * left[1:-1] > 0, wide.clamp(-most, most), torch.zeros_like(wide))
        inner = torch.cat([inner[:1], torch.where(same[1:-1], limited, torch.zeros_like(wide)), inner[-1:]])

    def end(first: Tensor, second: Tensor) -> Tensor:
        slope = (3 * first - second) / 2
        slope = torch.where(slope * first <= 0, torch.zeros_like(slope), slope)
        limited = (first * second <= 0) & (slope.abs() > 3 * first.abs())
        return torch.where(limited, 3 * first, slope)

    return torch.cat([end(secant[0], secant[1])[None], inner, end(secant[-1], secant[-2])[None]])


def hermite(x: Tensor, x0: float, step: float, y: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
    """Value and derivative of the cubic Hermite interpolant at ``x`` (any shape) on a uniform grid.

    Beyond the grid the end value is held with slope 0 (an op-amp that has run into its swing limit); callers
    that must not leave the domain check it themselves.
    """
    last = y.shape[0] - 1
    position = (x - x0) / step
    inside = (position >= 0) & (position <= last)
    position = position.clamp(0, last)
    k = position.floor().clamp(max=last - 1).long()
    t = position - k
    y0, y1 = y[k], y[k + 1]
    m0, m1 = slopes[k] * step, slopes[k + 1] * step
    delta = y1 - y0
    c2, c3 = 3 * delta - 2 * m0 - m1, m0 + m1 - 2 * delta
    value = y0 + t * (m0 + t * (c2 + t * c3))
    slope = (m0 + t * (2 * c2 + 3 * t * c3)) / step
    return value, torch.where(inside, slope, torch.zeros_like(slope))
