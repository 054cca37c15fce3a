"""Stationary noise around an equilibrium: the covariance of the linearised circuit, and draws from it.

In pre-activation form, ``T dh = (-h + W act(h) + u) dt + noise``, so ``A = T^-1 (-I + W D)`` and the covariance ``C``
of ``h`` obeys ``A C + C A^T + Q = 0``, with ``Q`` the two-sided intensity (half of a one-sided density in V^2/Hz,
each side divided by ``tau``). States see ``D C D``.

Fresh noise never enters solver steps (2.3 times the gradient's deviation was measured as bias). It is added once, where
the readout samples. For large N a batch-mean slope gives one C per batch: ``linearise(w, slope.mean(0), tau_s)``; that
is an approximation, exact only when slopes agree over the batch. Memory is about ten matrices (..., N, N) at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor

from analog_deq.errors import EquilibriumError

MAX_DOUBLINGS = 40


def linearise(w: Tensor, slope: Tensor, tau_s: Tensor) -> Tensor:
    """The circuit's Jacobian ``A = T^-1 (-I + W D)`` in pre-activation coordinates, in 1/s.

    Args:
        w: (N, N), or (..., N, N) broadcasting against ``slope[..., None, :]``.
        slope: (..., N) activation slopes at the equilibrium.
        tau_s: (N,) time constants in seconds.

    Returns:
        ``A`` (..., N, N) in 1/s. Valid for deviations small against the curvature of the activation.

    Example:
        >>> import torch
        >>> linearise(torch.tensor([[0.5]]), torch.ones(1), torch.tensor([2.0])).item()
        -0.25
    """
    eye = torch.eye(w.shape[-1], dtype=w.dtype, device=w.device)
    return (w * slope[..., None, :] - eye) / tau_s[:, None]


def stationary_covariance(a: Tensor, q: Tensor) -> Tensor:
    """The covariance ``C`` that solves ``A C + C A^T + Q = 0``, batched.

    Cayley transform ``F = (p I + A)(p I - A)^-1``, ``G = 2 p (p I - A)^-1 Q (p I - A)^-T`` turns it into ``C = F C F^T
    + G``, summed by Smith's doubling ``C <- C + F C F^T, F <- F^2`` (Smith 1968, SIAM J. Appl. Math. 16). ``p`` is the
    geometric mean of the eigenvalue magnitudes, ``|det A|^(1/N)``, which serves time constants over several decades.
    ``F`` shrinks to zero exactly when ``A`` is Hurwitz, so instability shows itself at no cost.

    Differentiable in ``a`` and ``q`` by plain autograd; the training recipe passes ``a.detach()``, since
    differentiating the covariance was measured to bring nothing.

    Valid for Hurwitz ``A`` whose slowest and fastest poles are less than about 1e10 apart (float64).

    Args:
        a: (..., N, N) in 1/s.
        q: (..., N, N) symmetric, in V^2/s (or any unit squared per second); broadcasts against ``a``.

    Returns:
        ``C`` (..., N, N), symmetric, in V^2.

    Raises:
        EquilibriumError: ``a`` is not Hurwitz (largest real part in the message), or the equation's residual is large.

    Example:
        >>> import torch
        >>> stationary_covariance(torch.tensor([[-2.0]]), torch.tensor([[4.0]])).item()
        1.0
    """
    n = a.shape[-1]
    if a.ndim < 2 or a.shape[-2] != n or q.shape[-2:] != (n, n) or a.dtype != q.dtype:
        raise EquilibriumError(
            f"stationary_covariance needs a and q (..., N, N) of one dtype, got {tuple(a.shape)} {a.dtype} "
            f"and {tuple(q.shape)} {q.dtype}"
        )
    eps = torch.finfo(a.dtype).eps
    eye = torch.eye(n, dtype=a.dtype, device=a.device)
    # The shift is a free parameter of the method: the solution does not depend on it, so it carries no gradient.
    p = torch.exp(torch.linalg.slogdet(a.detach()).logabsdet / n)[..., None, None]
    inverse, info = torch.linalg.inv_ex(p * eye - a)
    # p = 0 (a pole at the origin) and a singular p I - A (a pole at +p) both mean: not Hurwitz.
    if bool((info != 0).any()) or bool((p == 0).any()) or not bool(torch.isfinite(a).all()):
        raise EquilibriumError(_not_hurwitz(a))
    f = (p * eye + a) @ inverse
    c = 2.0 * p * (inverse @ q @ inverse.mT)
    for _ in range(MAX_DOUBLINGS):
        c = c + f @ c @ f.mT
        f = f @ f
        size = float(f.detach().abs().amax())
        # The next term is of the order of size squared; NaN and inf leave the loop through the failing test below.
        if size * size * n < eps * 1e-2 or not size < float("inf"):
            break
    if not size * size * n < eps * 1e-2:
        raise EquilibriumError(_not_hurwitz(a))
    c = 0.5 * (c + c.mT)
    _check_residual(a.detach(), q.detach(), c.detach(), eps)
    return c


def _check_residual(a: Tensor, q: Tensor, c: Tensor, eps: float) -> None:
    def size(x: Tensor) -> Tensor:
        return torch.linalg.matrix_norm(x)

    ac = a @ c
    relative = size(ac + ac.mT + q) / (2.0 * size(a) * size(c) + size(q)).clamp(min=torch.finfo(a.dtype).tiny)
    worst = float(relative.max())
    if not worst <= eps**0.5:
        raise EquilibriumError(
            f"stationary_covariance: relative residual {worst:.3g} exceeds {eps**0.5:.2g}; q must be symmetric, and "
            "poles further apart than the float type allows need float64 or a reduced model"
        )


def _not_hurwitz(a: Tensor) -> str:
    if not bool(torch.isfinite(a).all()):
        return "stationary_covariance: a holds values that are not finite; look at the slopes and time constants"
    flat = a.detach().reshape(-1, *a.shape[-2:])
    real = torch.linalg.eigvals(flat).real.amax(-1)
    item = int(real.argmax())
    return (
        f"stationary_covariance: matrix {item} of {len(flat)} is not Hurwitz, largest real part "
        f"{float(real[item]):.3g} 1/s: there is no "
        "stationary noise. Certify the weights (class A) or linearise at a solved equilibrium"
    )


def sample_noise(c: Tensor, generator: torch.Generator, *, samples: int | None = None) -> Tensor:
    """Zero-mean Gaussian draws with covariance ``c``, one per matrix or ``samples`` of each; they carry no gradient.

    The factor is taken of the correlation matrix, so nodes without noise and units of 1e-6 V are exact. A relative
    ridge of 16 eps N lets perfectly correlated nodes pass, far below any calibrated noise figure.

    Args:
        c: (..., N, N) covariance, positive semidefinite, in V^2.
        generator: explicit and seeded, on the device of ``c``.
        samples: draws of each matrix, which is factored once; None draws one.

    Returns:
        (..., N) in V, or (..., samples, N).

    Raises:
        EquilibriumError: ``c`` has a negative eigenvalue or is not finite.

    Example:
        >>> import torch
        >>> sample_noise(torch.eye(3).expand(5, 3, 3), torch.Generator().manual_seed(1)).shape
        torch.Size([5, 3])
    """
    c = c.detach()
    n = c.shape[-1]
    variance = c.diagonal(dim1=-2, dim2=-1)
    deviation = variance.clamp(min=0).sqrt()
    inverse = torch.where(deviation > 0, 1.0 / deviation, torch.zeros_like(deviation))
    correlation = c * inverse[..., :, None] * inverse[..., None, :]
    ridge = 16 * torch.finfo(c.dtype).eps * n
    # A silent node has a zero row; 1 on its diagonal keeps the factor regular, and its deviation of 0 mutes the draw.
    diagonal = torch.where(deviation > 0, torch.full_like(deviation, ridge), torch.ones_like(deviation))
    factor, info = torch.linalg.cholesky_ex(correlation + torch.diag_embed(diagonal))
    if bool((info != 0).any()) or bool((variance < 0).any()) or not bool(torch.isfinite(factor).all()):
        raise EquilibriumError("sample_noise: c is not a covariance matrix; compute it with stationary_covariance")
    count = 1 if samples is None else samples
    shape = (*deviation.shape[:-1], count, n)
    normal = torch.randn(shape, generator=generator, dtype=c.dtype, device=c.device)
    drawn = deviation[..., None, :] * (normal @ factor.mT)
    return drawn.squeeze(-2) if samples is None else drawn
