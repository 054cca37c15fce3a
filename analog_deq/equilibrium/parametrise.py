"""Unconstrained parameters mapped to feedback matrices that carry a stability certificate by construction.

Slopes ``0 <= act'_i <= s_i`` are folded in: the guarantee is for ``M = diag(s) W`` (definitions of the classes:
``claim.py``). The symmetric variants divide by ``sqrt(s_i s_j)`` instead of by ``s_i``, which keeps ``W`` symmetric.
Plain torch arithmetic, differentiable in every tensor.
"""

from __future__ import annotations

import torch
from torch import Tensor

from analog_deq.errors import EquilibriumError


def class_a(t: Tensor, log_eta: Tensor, gamma: float, max_slope: Tensor | float = 1.0) -> Tensor:
    """Feedback matrix ``W`` of class A: a contraction in a weighted infinity norm, whatever the parameters.

    ``W_ij = gamma T_ij / max(gamma, sum_k |T_ik|) * eta_i / eta_j / s_i`` with ``eta = exp(log_eta)``. Every row
    then obeys ``s_i sum_j |W_ij| eta_j / eta_i <= gamma < 1``, which gives one equilibrium, stability for any
    positive time constants and for any parasitic lags without overshoot, and Picard convergence at rate ``gamma``.

    Rows of ``T`` whose absolute sum is below ``gamma`` pass unchanged (up to the scaling by ``eta``), so a small
    ``T`` is trained without distortion.

    Source: non-Euclidean monotone operator theory, Jafarpour et al., arXiv:2106.03194, restricted to the absolute
    row sum (the classical small-gain or M-matrix condition). Valid for activations with ``|slope_i| <= s_i``.

    Args:
        t: (N, N) unconstrained matrix, no unit.
        log_eta: (N,) logarithm of the norm weights; zeros give the plain infinity norm.
        gamma: contraction bound, strictly between 0 and 1. Settling time grows as ``1 / (1 - gamma)``.
        max_slope: largest activation slope ``s``, a number or (N,), positive.

    Returns:
        ``W`` (N, N), in units of pre-activation per state.

    Raises:
        EquilibriumError: shapes do not match, or ``gamma`` or ``max_slope`` is out of range.

    Example:
        >>> import torch
        >>> w = class_a(torch.ones(2, 2), torch.zeros(2), gamma=0.9)
        >>> w.abs().sum(1).tolist()
        [0.8999999761581421, 0.8999999761581421]
    """
    _check("class_a", t, log_eta)
    if not 0.0 < gamma < 1.0:
        raise EquilibriumError(f"class_a: gamma is {gamma}; choose 0 < gamma < 1 (0.9 is a good start)")
    slope = slopes("class_a", max_slope, t)
    rows = t.abs().sum(dim=1, keepdim=True).clamp(min=gamma)
    return gamma * (t / rows) * _ratio(log_eta) / slope[:, None]


def class_a_symmetric(t: Tensor, gamma: float, max_slope: Tensor | float = 1.0) -> tuple[Tensor, Tensor]:
    """Symmetric ``W`` of class A and its norm weights ``eta`` (N,): ``class_a`` of ``(T + T^T) / 2`` with one eta.

    ``W_ij = gamma T_ij / sqrt(r_i r_j s_i s_j)`` with ``r_i = max(gamma, sum_k |T_ik|)``: the bound of class A with
    ``eta_i = sqrt(r_i s_i)``. Arguments and errors as for ``class_a``.

    Example:
        >>> import torch
        >>> w, eta = class_a_symmetric(torch.tensor([[0.0, 2.0], [4.0, 0.0]]), gamma=0.5)
        >>> w.tolist()
        [[0.0, 0.5], [0.5, 0.0]]
    """
    t = 0.5 * (t + t.mT)
    log_eta = 0.5 * t.abs().sum(dim=1).clamp(min=gamma).log()
    root = slopes("class_a_symmetric", max_slope, t).sqrt()
    return class_a(t, log_eta, gamma) / (root[:, None] * root), log_eta.exp() * root


def class_b(t: Tensor, log_eta: Tensor, gamma: float, max_slope: Tensor | float = 1.0) -> Tensor:
    """Feedback matrix ``W`` of class B (NEMON): strong self-inhibition allowed, one equilibrium, any time constants.

    ``M = (T_ij eta_i / eta_j) - diag(sum_j |T_ij|) + gamma I`` and ``W_ij = M_ij / s_i``. Then
    ``M_ii + sum_{j != i} |M_ij| eta_j / eta_i = gamma + T_ii - |T_ii| <= gamma < 1``. Not robust to lags.

    Source: Jafarpour et al., arXiv:2106.03194. Valid for activations with slopes in [0, s_i].

    Args:
        t: (N, N) unconstrained matrix, no unit.
        log_eta: (N,) logarithm of the norm weights.
        gamma: bound, below 1; negative values ask for self-inhibition everywhere.
        max_slope: largest activation slope ``s``, a number or (N,), positive.

    Returns:
        ``W`` (N, N), in units of pre-activation per state.

    Raises:
        EquilibriumError: shapes do not match, or ``gamma`` or ``max_slope`` is out of range.

    Example:
        >>> import torch
        >>> class_b(torch.tensor([[0.0, 2.0], [0.5, 0.0]]), torch.zeros(2), gamma=0.5).tolist()
        [[-1.5, 2.0], [0.5, 0.0]]
    """
    _check("class_b", t, log_eta)
    if not -float("inf") < gamma < 1.0:
        raise EquilibriumError(f"class_b: gamma is {gamma}; choose a finite gamma < 1 (0.9 is a good start)")
    slope = slopes("class_b", max_slope, t)
    return (t * _ratio(log_eta) + torch.diag(gamma - t.abs().sum(dim=1))) / slope[:, None]


def class_b_symmetric(t: Tensor, gamma: float, max_slope: Tensor | float = 1.0) -> tuple[Tensor, Tensor]:
    """Symmetric ``W`` of class B and its norm weights ``eta = sqrt(s)``: ``class_b`` of ``(T + T^T) / 2``.

    Arguments and errors as for ``class_b``.

    Example:
        >>> import torch
        >>> class_b_symmetric(torch.tensor([[0.0, 2.0], [0.0, 0.0]]), gamma=0.5)[0].tolist()
        [[-0.5, 1.0], [1.0, -0.5]]
    """
    root = slopes("class_b_symmetric", max_slope, t).sqrt()
    return class_b(0.5 * (t + t.mT), torch.zeros_like(root), gamma) / (root[:, None] * root), root


def class_c(v: Tensor, skew: Tensor, log_psi: Tensor, margin: float, max_slope: Tensor | float = 1.0) -> Tensor:
    """Feedback matrix ``W`` of class C (LBEN; monDEQ when ``log_psi`` is 0): one equilibrium, any time constants.

    ``M = (1 - m) I - Psi (V^T V + K - K^T)`` with ``Psi = diag(exp(log_psi))``, and ``W_ij = M_ij / s_i``. With
    ``L = Psi^-1`` the symmetric part of ``L (I - M)`` is ``m L + V^T V``. The margin is relative to ``L``, so it
    keeps its meaning (settling at ``m / tau``) whatever ``Psi``. Not robust to lags: the skew part may be large.

    Source: Winston and Kolter, arXiv:2006.08591; Revay et al., arXiv:2010.01732; stability for any time constants:
    Forti and Tesi, IEEE TCAS-I 42(7), 1995. Valid for activations with slopes in [0, s_i].

    Args:
        v: (N, N) unconstrained matrix.
        skew: (N, N) unconstrained matrix ``K``; only its skew part counts.
        log_psi: (N,) logarithm of ``Psi``; zeros give monDEQ.
        margin: ``m``, above 0, at most 1.
        max_slope: largest activation slope ``s``, a number or (N,), positive.

    Returns:
        ``W`` (N, N), in units of pre-activation per state.

    Raises:
        EquilibriumError: shapes do not match, or ``margin`` or ``max_slope`` is out of range.

    Example:
        >>> import torch
        >>> z = torch.zeros(2, 2)
        >>> class_c(z, torch.tensor([[0.0, 3.0], [0.0, 0.0]]), torch.zeros(2), margin=0.5).tolist()
        [[0.5, -3.0], [3.0, 0.5]]
    """
    _check("class_c", v, log_psi)
    if skew.shape != v.shape:
        raise EquilibriumError(f"class_c: skew must have the shape of v {tuple(v.shape)}, got {tuple(skew.shape)}")
    slope = slopes("class_c", max_slope, v)
    core = v.mT @ v + skew - skew.mT
    return (_shift("class_c", margin, v) - torch.exp(log_psi)[:, None] * core) / slope[:, None]


def class_c_symmetric(v: Tensor, margin: float, max_slope: Tensor | float = 1.0) -> tuple[Tensor, Tensor]:
    """Symmetric ``W`` of class C and the diagonal of its ``L = 1 / s``: every eigenvalue at most ``1 - m`` at s = 1.

    ``W_ij = ((1 - m) I - V^T V)_ij / sqrt(s_i s_j)``. Arguments and errors as for ``class_c``.

    Example:
        >>> import torch
        >>> class_c_symmetric(2 * torch.eye(2), margin=0.5)[0].tolist()
        [[-3.5, 0.0], [0.0, -3.5]]
    """
    slope = slopes("class_c_symmetric", max_slope, v)
    root = slope.sqrt()
    return (_shift("class_c_symmetric", margin, v) - v.mT @ v) / (root[:, None] * root), 1.0 / slope


def slopes(name: str, max_slope: Tensor | float, like: Tensor) -> Tensor:
    """Slope bounds (N,) in the type of ``like`` (N, N); EquilibriumError when one is not positive and finite."""
    slope = torch.as_tensor(max_slope, dtype=like.dtype, device=like.device)
    if not bool(((slope > 0) & torch.isfinite(slope)).all()):
        raise EquilibriumError(f"{name}: max_slope must be positive for every node; a dead activation has no gain")
    return slope.reshape(-1).expand(like.shape[-1])


def _check(name: str, square: Tensor, weights: Tensor) -> None:
    if square.ndim != 2 or square.shape[0] != square.shape[1] or weights.shape != square.shape[:1]:
        raise EquilibriumError(
            f"{name} needs a square matrix (N, N) and log weights (N,), got {tuple(square.shape)} and "
            f"{tuple(weights.shape)}; pass one log weight per row"
        )


def _ratio(log_eta: Tensor) -> Tensor:
    # Taken in the exponent, so that widely spread weights cannot overflow one by one.
    return torch.exp(log_eta[:, None] - log_eta[None, :])


def _shift(name: str, margin: float, like: Tensor) -> Tensor:
    if not 0.0 < margin <= 1.0:
        raise EquilibriumError(f"{name}: margin is {margin}; choose 0 < margin <= 1 (0.05 to 0.1 is a good start)")
    return (1.0 - margin) * torch.eye(len(like), dtype=like.dtype, device=like.device)
