"""How fast the circuit settles, as a quantity to train: decay rates, settling times, and a loss with a budget.

Around an equilibrium deviations decay as ``exp(A t)``, ``A = T^-1 (-I + W D)``. The *spectral abscissa* (largest real
part of A's eigenvalues) is the slowest rate; a certificate bounds it for every input, ``(1 - gamma) / tau_max``. Losses
are written in rates, which stay finite where a settling time is not.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from analog_deq.equilibrium.noise import linearise
from analog_deq.errors import EquilibriumError


def modal_rate(w: Tensor, slope: Tensor, tau_s: Tensor, *, modes: int = 4, sharpness: float = 20.0) -> Tensor:
    """Smallest decay rate of the linearised circuit, in 1/s, smoothed over the ``modes`` slowest; negative: unstable.

    ``-ln(sum_k exp(b Re lambda_k)) / b`` with ``b = sharpness / mean_k |Re lambda_k|``: the rightmost eigenvalues share
    the gradient where they are close, which a plain maximum would hand from one to the other. It is below the true rate
    by at most ``ln(modes) / sharpness`` of it (7 % as given), so a settling time from it errs on the long side.
    ``modes = 1`` is the spectral abscissa itself.

    Gradients flow to ``w``, ``slope`` and ``tau_s`` through left and right eigenvectors, ``d lambda = l^T dA r /
    l^T r``: right for simple eigenvalues; at a defective one (non-normal coalescence) no derivative exists and the
    gradient is huge or not finite. A complex pair is two modes of one real part.

    Args:
        w: (N, N), or (..., N, N) broadcasting against ``slope[..., None, :]``.
        slope: (..., N) activation slopes at solved states, one row a sample; its mean over the batch is one cheap row.
        tau_s: (N,) in seconds.
        modes: how many of the rightmost eigenvalues are smoothed over.
        sharpness: of the maximum, relative to the slowest rate.

    Returns:
        (...) one rate a row of ``slope``, in 1/s.

    Raises:
        EquilibriumError: ``modes`` or ``sharpness`` is out of range, or A is not finite.

    Example:
        >>> import torch
        >>> modal_rate(torch.tensor([[0.5]]), torch.ones(1), torch.tensor([2.0])).item()
        0.25
    """
    if modes < 1 or not sharpness > 0.0:
        raise EquilibriumError(f"modal_rate: modes {modes} must be at least 1 and sharpness {sharpness} positive")
    a = linearise(w, slope, tau_s)
    if not bool(torch.isfinite(a).all()):
        raise EquilibriumError("modal_rate: the Jacobian is not finite; look at the slopes and time constants")
    real = torch.linalg.eigvals(a).real
    slowest = real.topk(min(modes, real.shape[-1])).values
    scale = sharpness / slowest.abs().mean(-1).clamp(min=torch.finfo(real.dtype).tiny)
    return -torch.logsumexp(slowest * scale[..., None], -1) / scale


def certified_rate(gamma: Tensor | float, tau_s: Tensor) -> Tensor:
    """Decay rate that a certificate promises for every input, ``(1 - max(gamma, 0)) / max(tau)`` in 1/s.

    Differentiable in ``gamma`` and ``tau_s``. It bounds deviations in the certificate's weighted norm: in plain maxima
    the spread of its weights comes on top, once.

    Example:
        >>> import torch
        >>> round(certified_rate(0.5, torch.tensor([1e-6, 2e-6], dtype=torch.float64)).item())
        250000
    """
    return (1.0 - torch.as_tensor(gamma).to(tau_s).clamp(min=0.0)) / tau_s.amax(-1)


def settle_time(rate_per_s: Tensor, tol: float, *, spread: float = 1.0) -> Tensor:
    """Seconds until deviations have shrunk to ``tol`` of the first, ``ln(spread / tol) / rate``; inf where unstable.

    Args:
        rate_per_s: from :func:`modal_rate` or :func:`certified_rate`.
        tol: remaining share of the deviation that the circuit starts with: divide a tolerance in units of z by the
            largest distance from rest.
        spread: allowance of at least 1 for what one rate leaves out: a deviation larger than the start (spread of a
            certificate's weights, condition of the eigenvectors), and larger slopes on the way than at the end.
            2 covered a tanh circuit from rest; integrate to be sure.

    Example:
        >>> import torch
        >>> round(settle_time(torch.tensor(0.5), 0.01).item(), 3)
        9.21
    """
    return torch.where(rate_per_s > 0.0, _logs(tol, spread) / rate_per_s, torch.inf)


def settling_penalty(rate_per_s: Tensor, budget_s: float, tol: float, *, spread: float = 1.0) -> Tensor:
    """A loss without unit: 0 where settling to ``tol`` takes at most ``budget_s``, else the square of the missing rate.

    ``mean(relu(1 - rate / needed)^2)``, ``needed = ln(spread / tol) / budget``: 1 for a circuit that does not decay at
    all, finite and with a useful gradient for an unstable one. Add it to a task's loss with a weight of 1 to 10.

    Args:
        rate_per_s: (...) rates, of samples or one for all.
        budget_s: time allowed, in seconds.
        tol: see :func:`settle_time`.
        spread: see :func:`settle_time`.

    Raises:
        EquilibriumError: ``budget_s``, ``tol`` or ``spread`` is out of range.

    Example:
        >>> import torch
        >>> settling_penalty(torch.tensor([2.0, 0.5]), 1.0, math.exp(-1.0)).item()  # one in time, one at half the rate
        0.125
    """
    if not 0.0 < budget_s < math.inf:
        raise EquilibriumError(f"settling_penalty: budget_s {budget_s:.3g} must be positive and finite")
    return torch.relu(1.0 - rate_per_s * (budget_s / _logs(tol, spread))).square().mean()


def _logs(tol: float, spread: float) -> float:
    if not 0.0 < tol < 1.0 or not spread >= 1.0:
        raise EquilibriumError(f"settling: tol {tol} must be between 0 and 1, spread {spread} at least 1")
    return math.log(spread / tol)
