"""The strongest class a matrix has, with its weights, and the figures that follow; ``certificate.py`` defines the
terms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analog_deq.equilibrium.lyapunov_bounds import error_gain, settling, tolerated
from analog_deq.equilibrium.lyapunov_diagonal import find_diagonal
from analog_deq.equilibrium.row_bounds import majorant, perron_weights, row_bound


@dataclass(frozen=True, slots=True)
class Found:
    """Class, its bound and weights (N,); ``lyapunov`` (N,) is a diagonal Lyapunov matrix, None for "none"."""

    weight_class: Literal["A", "B", "C", "none"]
    gamma: float
    weights: np.ndarray
    lyapunov: np.ndarray | None


def classify(m: np.ndarray, eta: np.ndarray | None = None) -> Found:
    """Class A if there is one, else B, else C, else "none" with the smallest row bound found.

    Args:
        m: (N, N) feedback with slopes folded into its rows.
        eta: (N,) the only norm weights to test for A and B, None to look for the best.

    Example:
        >>> import numpy as np
        >>> [classify(np.array(m)).weight_class for m in ([[0.5]], [[-3.0]], [[0.5, 2.0], [-2.0, 0.5]], [[1.5]])]
        ['A', 'B', 'C', 'none']
    """
    size, signed = np.abs(m), majorant(m)
    norm_weights = perron_weights(size) if eta is None else eta
    bound = row_bound(size, norm_weights)
    # l = left over right Perron vector is a Lyapunov diagonal of every matrix of class A or B.
    right, left = perron_weights(signed), perron_weights(signed.T)
    quotient = left / right
    if bound < 1.0:
        return Found("A", bound, norm_weights, _lyapunov(m, quotient))
    signed_weights = right if eta is None else eta
    signed_bound = row_bound(signed, signed_weights)
    if signed_bound < 1.0:
        return Found("B", signed_bound, signed_weights, _lyapunov(m, quotient))
    weights, margin = find_diagonal(m, [quotient])
    if margin > 0.0:
        return Found("C", 1.0 - margin, weights, weights)
    return Found("none", bound, norm_weights, None)


def _lyapunov(m: np.ndarray, start: np.ndarray) -> np.ndarray | None:
    weights, margin = find_diagonal(m, [start], steps=0)
    if margin <= 0.0:
        weights, margin = find_diagonal(m, [start])
    return weights if margin > 0.0 else None


@dataclass(frozen=True, slots=True)
class Figures:
    """Decay rate and constant of ``h``, error gain, tolerance of weight errors; None where there is no class."""

    rate_per_s: float | None
    norm_spread: float | None
    error_gain: float | None
    mismatch_margin: float

    @classmethod
    def of(cls, found: Found, m: np.ndarray, slope: np.ndarray, tau_s: np.ndarray | None) -> Figures:
        """The figures of a classified matrix; slope bounds (N,), time constants (N,) in seconds or None."""
        rate, spread = (None, None) if tau_s is None else _latency(found, m, slope, tau_s)
        gamma, weights = found.gamma, found.weights
        if found.weight_class == "C":
            return cls(rate, spread, error_gain(weights, m), tolerated(weights, m, 1.0 - gamma))
        margin = 1.0 / gamma - 1.0 if gamma > 0.0 else math.inf
        if found.weight_class == "none":
            return cls(rate, spread, None, margin)
        if found.weight_class == "B":
            room = 1.0 - majorant(m) @ weights / weights
            margin = float((room / (np.abs(m) @ weights / weights).clip(min=np.finfo(float).tiny)).min())
        return cls(rate, spread, 1.0 / (1.0 - max(gamma, 0.0)), margin)


def _latency(found: Found, m: np.ndarray, slope: np.ndarray, tau_s: np.ndarray) -> tuple[float | None, float | None]:
    if found.weight_class == "A":
        gamma, weights = found.gamma, found.weights
        needed = np.abs(m) @ weights / (gamma * slope) if gamma > 0.0 else np.zeros(len(m))
        return (1.0 - gamma) / float(tau_s.max()), max(1.0, float(needed.max() / (weights / slope).min()))
    return (None, None) if found.lyapunov is None else settling(found.lyapunov, m, slope, tau_s)
