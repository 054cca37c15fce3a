"""Noise sources of a network's neurons, from one neuron's fitted noise: densities at h and z, and what is beyond."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from analog_deq.fit.forms import loop_flicker, loop_noise_density
from analog_deq.fit.parameters import ProxyParameters
from analog_deq.spec import DesignSpec


@dataclass(frozen=True, slots=True)
class NoiseSources:
    """One-sided densities per neuron, white (units^2/Hz) and 1/f (their values at 1 Hz), and a variance.

    ``loop`` and ``loop_flicker`` act at h, behind the slope and the pole; ``state`` and ``state_flicker`` at z, which
    the loop feeds back. ``wide`` is the variance a neuron shows at z without any loop, beyond that of its own pole: the
    whole band of ``state`` and ``state_flicker`` among it.
    """

    loop: Tensor
    loop_flicker: Tensor
    state: Tensor
    state_flicker: Tensor
    wide: Tensor

    @property
    def coloured(self) -> bool:
        """Whether any of it is 1/f."""
        return bool((self.loop_flicker > 0).any() or (self.state_flicker > 0).any())


def noise_sources(
    design: DesignSpec, proxy: ProxyParameters, load: np.ndarray, slope: Tensor, share: Tensor | None = None
) -> NoiseSources:
    """Sources (..., N) of neurons at loads (N,) in siemens and slopes ``slope`` (..., N) = dz/dh.

    ``share`` (N,) is each neuron's share of R_F.

    OutOfDomainError for a load outside the calibrated range.
    """
    values, neuron = proxy.noise.values, design.neuron
    proxy.noise.require("load_siemens", load)
    kelvin = design.operating.temperature_celsius + 273.15
    loads = torch.as_tensor(load, dtype=slope.dtype)
    en = torch.tensor(values["en_v_per_rthz"], dtype=slope.dtype)
    r_feedback = proxy.r_feedback_ohm * (1.0 if share is None else share)
    loop = loop_noise_density(loads, en, r_feedback, kelvin, values["inverse_a0"])
    slow = loop_flicker(loads, values["loop_flicker_v2"], r_feedback, values["inverse_a0"])
    size, square = slope.abs(), slope.square()

    def form(name: str, floor: str, by_load: Tensor | float = 0.0) -> Tensor:
        quadratic = values[floor] + values[f"{name}_slope"] * size + (values[f"{name}_slope2"] + by_load) * square
        return quadratic.clamp(min=0.0)  # coefficients are signed; beyond the calibrated slopes the sum might be, too

    by_load = values["wide_slope2_load"] * loads + values["wide_slope2_load2"] * loads**2
    return NoiseSources(
        loop=(loop / neuron.v_unit_v**2).expand_as(slope),
        loop_flicker=(slow / neuron.v_unit_v**2).expand_as(slope),
        state=form("z_white", "z_white"),
        state_flicker=form("z_flicker", "z_flicker"),
        wide=form("wide", "wide_floor", by_load),
    )


def diffusion(w_state: Tensor, tau_s: Tensor, loop: Tensor, white: Tensor) -> Tensor:
    """Q of ``A C + C A^T + Q = 0`` for h: ``T^-1 (S_h/2 + W (S_z/2) W^T) T^-1``; (..., N, N), units^2/s."""
    inner = torch.diag_embed(loop.expand_as(white) / 2) + (w_state * (white / 2)[..., None, :]) @ w_state.mT
    return inner / (tau_s[:, None] * tau_s)
