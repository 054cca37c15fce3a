"""The one gradient path of an equilibrium: the implicit function theorem, solved by damped Picard.

With ``z = act(W z + u)``, ``D = diag(act'(h*))`` and ``g = dL/dz``::

    dz = D (W dz + dW z + du)      =>   (I - W^T D) v = g,   dL/du = D v,   dL/dW = (D v)^T z  (summed over samples)

The iteration ``v <- g + W^T D v`` contracts in the weighted 1-norm ``sum_i eta_i |v_i|`` at the same rate ``gamma``
as the forward one does in the weighted infinity norm, because the two norms are dual. The stop test is therefore
``|r| <= tol |v|`` in that norm, sample by sample: independent of the scale of the loss, and the relative error of
``v`` is at most ``tol / (1 - gamma)``. Source: Bai et al. 2019, arXiv:1909.01377, eq. 3, in pre-activation form.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from analog_deq.errors import EquilibriumError


@dataclass(frozen=True, slots=True)
class PicardSettings:
    """How a damped Picard iteration runs: forward and adjoint share one object, so that they cannot drift apart.

    Attributes:
        tol: stop when the residual of every sample is at or below this.
        max_iterations: steps after which a sample counts as failed.
        damping: fraction of each step taken, in (0, 1].
        check_every: steps between residual tests; each test costs a reduction and one host synchronisation.
        eta: (N,) norm weights scaled to a maximum of 1, or None for the plain norm.
    """

    tol: float
    max_iterations: int
    damping: float
    check_every: int
    eta: Tensor | None = None


@dataclass(slots=True)
class AdjointStats:
    """Filled in by each backward pass (hence mutable); ``runs == 0`` says that none has happened.

    Attributes:
        runs: backward passes so far.
        iterations: Picard steps of the latest one.
        residual: worst relative residual ``|r| / |v|`` of the latest one, weighted 1-norm.
    """

    runs: int = 0
    iterations: int = 0
    residual: float = float("nan")


def solve_adjoint(w: Tensor, slope: Tensor, g: Tensor, settings: PicardSettings) -> tuple[Tensor, int, float]:
    """Solves ``(I - W^T D) v = g`` for every sample; carries no gradient itself.

    Args:
        w: (N, N), or (D, N, N) for D draws.
        slope: activation slopes at the equilibrium, (B, N) or (D, B, N).
        g: gradient of the loss with respect to ``z``, same shape as ``slope``, any unit.
        settings: tolerance (relative, see the module text), step limit, damping, norm weights.

    Returns:
        ``v`` with the shape of ``g``, the steps taken, and the worst relative residual.

    Raises:
        EquilibriumError: ``g`` is not finite, or some sample misses the tolerance within the step limit.

    Example:
        >>> import torch
        >>> v, _, _ = solve_adjoint(torch.tensor([[0.5]]), torch.ones(1, 1), torch.ones(1, 1),
        ...                         PicardSettings(tol=1e-6, max_iterations=100, damping=1.0, check_every=4))
        >>> round(v.item(), 4)
        2.0
    """

    def norm(x: Tensor) -> Tensor:
        return x.abs().sum(-1) if settings.eta is None else x.abs() @ settings.eta

    with torch.no_grad():
        # Each sample is scaled to unit size, so that a loss of 1e-30 or 1e+30 runs the very same iteration.
        scale = norm(g).unsqueeze(-1)
        if not bool(torch.isfinite(scale).all()):
            bad = torch.nonzero(~torch.isfinite(scale[..., 0]))[0].tolist()
            raise EquilibriumError(f"adjoint: dL/dz of sample {bad} is not finite; look at the loss of that sample")
        scale = torch.where(scale == 0, torch.ones_like(scale), scale)
        rhs = g / scale
        step = torch.addmm if w.ndim == 2 else torch.baddbmm
        # Two state buffers take turns: the new state never overwrites the one it is compared with.
        v, spare, weighted = rhs.clone(), torch.empty_like(rhs), torch.empty_like(rhs)
        k = 0
        while True:
            torch.mul(v, slope, out=weighted)
            step(rhs, weighted, w, out=spare)
            k += 1
            if k % settings.check_every == 0 or k >= settings.max_iterations:
                # A zero gradient stays exactly zero; the clamp only keeps 0/0 out of its relative residual.
                relative = norm(spare - v) / norm(spare).clamp(min=torch.finfo(g.dtype).tiny)
                worst = float(relative.amax())
                if worst <= settings.tol:
                    return v.mul_(scale), k, worst
                if k >= settings.max_iterations or worst != worst:
                    raise EquilibriumError(_failure(relative, worst, k, settings))
            if settings.damping == 1.0:
                v, spare = spare, v
            else:
                v.lerp_(spare, settings.damping)


def _failure(relative: Tensor, worst: float, steps: int, settings: PicardSettings) -> str:
    flat = int(torch.nan_to_num(relative, nan=float("inf")).argmax())
    index = [int(i) for i in torch.unravel_index(torch.tensor(flat), relative.shape)]
    return (
        f"adjoint did not converge: sample {index} has relative residual {worst:.3g} after {steps} iterations "
        f"(tol {settings.tol:.3g}, damping {settings.damping}); no gradient was returned. "
        "Use certified weights (gamma < 1), a smaller damping, more iterations, or float64 for a tighter tol"
    )


@dataclass(frozen=True, slots=True)
class Solved:
    """A solved equilibrium, handed to ``attach_gradient``: state and slope, and the samples that failed (or None)."""

    z: Tensor
    slope: Tensor
    failed: Tensor | None
    settings: PicardSettings
    stats: AdjointStats = field(default_factory=AdjointStats)


class _Implicit(torch.autograd.Function):
    """Gives an already solved ``z`` its implicit gradient in ``w`` and ``u``; saves w, z and slope, no graph."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, u: Tensor, solved: Solved) -> Tensor:
        ctx.solved = solved
        ctx.save_for_backward(w, solved.z, solved.slope)
        return solved.z

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (g,) = grads
        if torch.is_grad_enabled():
            raise EquilibriumError(
                "second-order gradients through an equilibrium are not offered: backward was called with "
                "create_graph=True. Call it without, or differentiate a dense solve"
            )
        w, z, slope = ctx.saved_tensors
        solved: Solved = ctx.solved
        if solved.failed is not None:
            if bool((g[solved.failed] != 0).any()):
                raise EquilibriumError(
                    f"{int(solved.failed.sum())} samples did not converge, yet the loss depends on them; "
                    "leave them out with z[report.converged] before the loss"
                )
            # Their adjoint is exactly zero; zero slopes and states keep leftovers, even NaN, out of the sums.
            keep = ~solved.failed.unsqueeze(-1)
            zero = torch.zeros_like(z)
            z, slope, g = torch.where(keep, z, zero), torch.where(keep, slope, zero), torch.where(keep, g, zero)
        v, steps, residual = solve_adjoint(w, slope, g, solved.settings)
        solved.stats.runs += 1
        solved.stats.iterations = steps
        solved.stats.residual = residual
        grad_u = v.mul_(slope)
        grad_w = grad_u.mT @ z if ctx.needs_input_grad[0] else None
        return grad_w, grad_u if ctx.needs_input_grad[1] else None, None


def attach_gradient(w: Tensor, u: Tensor, solved: Solved) -> Tensor:
    """The state ``solved.z`` with the implicit gradient in ``w`` and ``u`` attached, first order only.

    Args:
        w: (N, N) or (D, N, N), the matrix that was solved with.
        u: (B, N) or (D, B, N), the input that was solved with.
        solved: the equilibrium and its settings.

    Returns:
        ``z`` of shape (B, N) or (D, B, N). Its backward pass raises ``EquilibriumError`` rather than return a
        wrong gradient: adjoint not converged, second order asked for, or a loss that depends on failed samples.

    Example:
        >>> import torch
        >>> w, u = torch.tensor([[0.5]], requires_grad=True), torch.ones(1, 1, requires_grad=True)
        >>> run = PicardSettings(tol=1e-6, max_iterations=100, damping=1.0, check_every=4)
        >>> attach_gradient(w, u, Solved(torch.tensor([[2.0]]), torch.ones(1, 1), None, run)).sum().backward()
        >>> round(w.grad.item(), 4)  # z = u / (1 - w), so dz/dw = 4
        4.0
    """
    out: Tensor = _Implicit.apply(w, u, solved)
    return out
