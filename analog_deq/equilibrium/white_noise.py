"""White noise as a converter reads it: in closed form, at one moment or averaged over a read window.

Cost of :func:`white_covariance` at one slope a batch, float64, one thread of a shared 2-core machine, best of 3 to 7:

===== ========== =========== ==============
N     one moment with window extra memory
===== ========== =========== ==============
64    0.5 ms     1.0 ms      below 1 MiB
256   14 ms      36 ms       4 MiB
1024  0.9 s      2.1 s       64 to 80 MiB
===== ========== =========== ==============

At 64 nodes and one slope a sample, batch 64: 34 ms and 71 ms, 16 to 20 MiB.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from analog_deq.equilibrium.noise import linearise, stationary_covariance
from analog_deq.errors import EquilibriumError
from analog_deq.proxy.noise import diffusion

SERIES_TERMS = 14
"""Terms of phi_2's series at a matrix of norm 1/2: the first one left out is 0.5^14 / 16! = 3e-18."""


def phi2(x: Tensor) -> Tensor:
    """``(e^X - I - X) X^-2`` (..., N, N), at any size of ``X`` and also where it is singular; differentiable.

    The series at ``X / 2^s`` of norm at most 1/2, then ``s`` doublings ``phi_2(2X) = (phi_1(X)^2 + 2 phi_2(X)) / 4``,
    ``phi_1(2X) = phi_1(X) (e^X + I) / 2`` (Higham, Functions of Matrices, 10.7.4): no differences of large numbers.

    Example:
        >>> import torch
        >>> round(phi2(torch.tensor([[-1.0]], dtype=torch.float64)).item(), 6)  # 1/e
        0.367879
    """
    eye = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    norm = float(torch.linalg.matrix_norm(x.detach(), math.inf).max())
    if not norm < math.inf:
        raise EquilibriumError("phi2: the matrix is not finite; look at the slopes, time constants and the window")
    doublings = max(0, math.ceil(math.log2(2.0 * norm))) if norm > 0.0 else 0
    small = x * 0.5**doublings
    second = eye / math.factorial(SERIES_TERMS + 2)
    for k in range(SERIES_TERMS + 1, 1, -1):
        second = small @ second + eye / math.factorial(k)
    first = eye + small @ second
    power = eye + small @ first
    for _ in range(doublings):
        second = (first @ first + 2.0 * second) / 4.0
        first = first @ (power + eye) / 2.0
        power = power @ power
    return second


def window_covariance(a: Tensor, c: Tensor, window_s: float) -> Tensor:
    """Covariance (..., N, N) of the mean of a stationary process over ``window_s``.

    ``C_w = phi_2(A T) C + (phi_2(A T) C)^T = (1/T^2) [A^-2 (e^{AT} - I - A T) C + transpose]``: the double integral of
    the autocovariance ``e^{A t} C``. Goes to ``C`` for a short window, to ``-(A^-1 C + C A^-T) / T`` for a long one.

    Args:
        a: (..., N, N) Hurwitz, in 1/s.
        c: (..., N, N) stationary covariance, from :func:`~analog_deq.equilibrium.noise.stationary_covariance`.
        window_s: length of the mean in seconds, at least 0.

    Raises:
        EquilibriumError: ``window_s`` is negative or not finite.

    Example:
        >>> import torch
        >>> a, c = torch.tensor([[-1.0]]), torch.tensor([[1.0]])
        >>> round(window_covariance(a, c, 100.0).item(), 4)  # 2 (100 - 1) / 100^2
        0.0198
    """
    half = phi2(a * _window(window_s)) @ c
    return half + half.mT


def white_covariance(
    w: Tensor, slope: Tensor, tau_s: Tensor, loop: Tensor, state: Tensor, *, window_s: float = 0.0
) -> Tensor:
    """Covariance of the states z at an equilibrium, (..., N, N), from white noise at both sides of the activation.

    ``T dh/dt = -h + W y + n_h`` and ``y = D h + n_z``: what the loop makes of both, how ``n_z`` is correlated with its
    own way round the loop, ``D phi_2(A T_w) T^-1 W S_z / 2``, and in a window ``S_z / (2 T_w)`` of ``n_z`` itself.
    Without a window ``n_z`` itself has no finite variance: add that of the band it is read in (``wide``).

    Args:
        w: (N, N), or (..., N, N) broadcasting against ``slope[..., None, :]``.
        slope: (..., N) slopes D at solved states.
        tau_s: (N,) in seconds.
        loop: one-sided density at h, (N,) or (..., N), in units^2/Hz.
        state: one-sided density at z, which ``W`` feeds back, (N,) or (..., N), in units^2/Hz.
        window_s: the mean's length; 0 reads one moment.

    Example:
        >>> import torch
        >>> one, none = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
        >>> white_covariance(none[None], one, 2 * one, 8 * one, none).item()  # S / (4 tau)
        1.0
    """
    loop, state = loop.expand_as(slope), state.expand_as(slope)
    a = linearise(w, slope, tau_s)
    c = stationary_covariance(a, diffusion(w, tau_s, loop, state))
    half = phi2(a * _window(window_s)) if window_s else 0.5 * torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    within = slope[..., :, None] * (half @ c) * slope[..., None, :]
    across = slope[..., :, None] * (half @ (w / tau_s[:, None])) * (state / 2)[..., None, :]
    one_way = within + across
    covariance = one_way + one_way.mT
    return covariance + torch.diag_embed(state / (2 * window_s)) if window_s > 0.0 else covariance


def _window(window_s: float) -> float:
    if not 0.0 <= window_s < math.inf:
        raise EquilibriumError(f"a read window of {window_s:.3g} s: it must be at least 0 and finite")
    return window_s
