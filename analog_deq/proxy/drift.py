"""Drift of programmed conductances, ``G(t) = G0 (t / t0)^-nu``: drawn once for a programming, then shared by all uses.

Separate from mismatch (what a die is) and from read noise (fresh at every read); its generator is its own
(``Stream.DRIFT``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from analog_deq.errors import OutOfDomainError


@dataclass(frozen=True, slots=True)
class DriftDraw:
    """The exponents ``nu`` of one programming, one a device, at least 0; ``t0_s`` is when they begin to count."""

    nu: Tensor
    t0_s: float

    def at(self, g_siemens: Tensor, t_s: float) -> Tensor:
        """Conductances at ``t_s`` seconds after programming, of what they were at ``t0_s``; differentiable in these.

        Raises:
            OutOfDomainError: a time before ``t0_s``: the law describes the decay after the first read.

        Example:
            >>> import torch
            >>> DriftDraw(torch.tensor([0.1]), 20.0).at(torch.tensor([1.0]), 20.0 * 1024).item()  # 2^10 later
            0.5
        """
        if not self.t0_s <= t_s < float("inf"):
            raise OutOfDomainError(f"drift: {t_s:.3g} s is not a time from {self.t0_s:.3g} s on, when it was read")
        return g_siemens * (t_s / self.t0_s) ** -self.nu.to(g_siemens)


class DriftLaw(Protocol):
    """How exponents are spread over devices."""

    def draw(self, g_siemens: Tensor, rng: np.random.Generator) -> DriftDraw:
        """Exponents for devices programmed to ``g_siemens``, any shape."""
        ...


@dataclass(frozen=True, slots=True)
class NormalDrift:
    """The same normal distribution of exponents for every device, cut at 0.

    Example:
        >>> import torch
        >>> law = NormalDrift(nu=0.05, nu_sigma=0.01)
        >>> law.draw(torch.ones(2, 3), np.random.default_rng(0)).nu.shape
        torch.Size([2, 3])
    """

    nu: float
    nu_sigma: float
    t0_s: float = 20.0

    def draw(self, g_siemens: Tensor, rng: np.random.Generator) -> DriftDraw:
        """Exponents, independent of the conductance."""
        return _drawn(np.full(g_siemens.shape, self.nu), np.full(g_siemens.shape, self.nu_sigma), self.t0_s, rng)


@dataclass(frozen=True, slots=True)
class PcmDrift:
    """Phase-change cells: small conductances drift more, ``nu = 0.0244 - 0.0155 ln r`` within 0.049 to 0.1, r = G/Gmax.

    Its spread is ``-0.0059 - 0.0125 ln r`` within 0.008 to 0.045. Source: Nandakumar et al., ICECS (2019), as in IBM
    aihwkit's ``PCMLikeNoiseModel``; the shipped cell ``pcm`` has the same law. Measured for 0.25 to 25 uS.

    Example:
        >>> import torch
        >>> nu = PcmDrift().draw(torch.full((20000,), 25e-6), np.random.default_rng(0)).nu
        >>> round(nu.mean().item(), 3)
        0.049
    """

    g_max_siemens: float = 25e-6
    t0_s: float = 20.0

    def draw(self, g_siemens: Tensor, rng: np.random.Generator) -> DriftDraw:
        """Exponents for devices programmed to ``g_siemens``."""
        share = np.log(np.clip(g_siemens.detach().cpu().numpy() / self.g_max_siemens, 1e-12, None))
        mean = np.clip(0.0244 - 0.0155 * share, 0.049, 0.1)
        sigma = np.clip(-0.0059 - 0.0125 * share, 0.008, 0.045)
        return _drawn(mean, sigma, self.t0_s, rng)


def _drawn(mean: np.ndarray, sigma: np.ndarray, t0_s: float, rng: np.random.Generator) -> DriftDraw:
    nu = np.maximum(mean + sigma * rng.standard_normal(mean.shape), 0.0)
    return DriftDraw(torch.as_tensor(nu, dtype=torch.float64), t0_s)
