"""Unconstrained parameters mapped to feedback matrices that carry a stability certificate by construction."""

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
    ``T`` is trained without distortion. Plain torch arithmetic: differentiable in ``t``, ``log_eta``, ``max_slope``.

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
    if t.ndim != 2 or t.shape[0] != t.shape[1] or log_eta.shape != t.shape[:1]:
        raise EquilibriumError(
            f"class_a needs t (N, N) and log_eta (N,), got {tuple(t.shape)} and {tuple(log_eta.shape)}; "
            "pass one log weight per row"
        )
    if not 0.0 < gamma < 1.0:
        raise EquilibriumError(f"class_a: gamma is {gamma}; choose 0 < gamma < 1 (0.9 is a good start)")
    slope = torch.as_tensor(max_slope, dtype=t.dtype, device=t.device)
    if not bool((slope > 0).all()):
        raise EquilibriumError("class_a: max_slope must be positive for every node; a dead activation has no gain")
    rows = t.abs().sum(dim=1, keepdim=True).clamp(min=gamma)
    # The ratio is taken in the exponent, so that widely spread weights cannot overflow one by one.
    ratio = torch.exp(log_eta[:, None] - log_eta[None, :])
    return gamma * (t / rows) * ratio / slope.reshape(-1, 1)
