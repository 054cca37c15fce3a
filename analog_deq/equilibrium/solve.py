"""Equilibria of ``h = W z + u``, ``z = act(h)``: damped Picard forward, one implicit gradient backward.

The circuit is ``tau_i dh_i/dt = -h_i + (W z)_i + u_i``; its rest point does not depend on ``tau``. Picard was the
fastest solver measured at our sizes (N 64 to 256); Anderson, Broyden and dense LU were all slower.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from analog_deq.equilibrium.adjoint import AdjointStats, PicardSettings, Solved, attach_gradient
from analog_deq.errors import EquilibriumError


class Activation(Protocol):
    """An elementwise activation; per-node parameters broadcast over the batch. Must be pure and stateless."""

    @property
    def max_slope(self) -> Tensor | float:
        """Bound on ``|slope|``, a number or (N,)."""
        ...

    def value(self, h: Tensor) -> Tensor:
        """``act(h)``, same shape as ``h`` (..., N)."""
        ...

    def slope(self, h: Tensor) -> Tensor:
        """``d act / d h``, elementwise, same shape as ``h`` (..., N)."""
        ...


@dataclass(frozen=True, slots=True)
class Tanh:
    """The ideal activation ``z = tanh(h)``: slopes in (0, 1], full scale 1.

    Example:
        >>> import torch
        >>> Tanh().slope(torch.zeros(1)).item()
        1.0
    """

    max_slope: float = field(default=1.0, init=False)

    def value(self, h: Tensor) -> Tensor:
        """``tanh(h)``."""
        return torch.tanh(h)

    def slope(self, h: Tensor) -> Tensor:
        """``1 - tanh(h)^2``."""
        return 1.0 - torch.tanh(h).square()


@dataclass(frozen=True, slots=True)
class EquilibriumReport:
    """What one solve did. Tensors have one entry per sample, (B,) or (D, B).

    Attributes:
        converged: residual at or below ``tol``.
        residual: ``max_i |act(W z + u) - z|_i / eta_i`` of the returned ``z`` (``eta`` scaled to a maximum of 1).
        iterations: Picard steps taken.
        tol: tolerance asked for, in units of ``z``.
        gamma: contraction bound, checked against ``W``; None when uncertified.
        gradient: "implicit" or "none": the only paths there are.
        adjoint: filled by the backward pass.
    """

    converged: Tensor
    residual: Tensor
    iterations: int
    tol: float
    gamma: float | None
    gradient: Literal["implicit", "none"]
    adjoint: AdjointStats

    @property
    def error_bound(self) -> Tensor | None:
        """Bound on ``max_i |z - z*|_i`` per sample, ``residual / (1 - gamma)``; None when uncertified."""
        return None if self.gamma is None else self.residual / (1.0 - self.gamma)


def equilibrium(
    w: Tensor,
    u: Tensor,
    act: Activation,
    *,
    tol: float = 1e-6,
    max_iterations: int = 500,
    damping: float = 1.0,
    z0: Tensor | None = None,
    gamma: float | None = None,
    eta: Tensor | None = None,
    on_fail: Literal["raise", "mask"] = "raise",
    check_every: int = 4,
) -> tuple[Tensor, EquilibriumReport]:
    """The state ``z = act(W z + u)`` of every sample, and a report on how well it was reached.

    Gradients flow to ``w`` and ``u`` (first order, implicit function theorem, same tolerance), never to ``z0``.
    They are attached when grad mode is on and ``w`` or ``u`` requires them; there is no train or eval mode.

    Valid for any ``w``; existence, uniqueness and convergence are guaranteed only when certified (``gamma``), with
    damping in (0, 1]. An uncertified cell may have several equilibria, of which one is returned.

    Args:
        w: (N, N), or (D, N, N) for D frozen draws of the hardware. Pre-activation per state.
        u: (B, N), or (D, B, N) with draws. Pre-activation units.
        act: the activation.
        tol: largest residual accepted, in units of ``z``; relative to ``|v|`` for the adjoint. At least 8 eps.
        max_iterations: step limit, forward and adjoint alike.
        damping: step fraction in (0, 1]; 1 is right for certified weights.
        z0: starting state, shape of ``u``; None starts at 0. A stale start costs steps, not accuracy.
        gamma: contraction bound from a certificate, slope included; checked against ``w`` (O(N^2)), never trusted.
        eta: (N,) weights of that certificate's norm, any scale; None means all equal.
        on_fail: "raise", or "mask" to get unconverged samples back, flagged in ``report.converged``.
        check_every: steps between residual tests.

    Returns:
        ``z`` with the shape of ``u``, and the report.

    Raises:
        EquilibriumError: no convergence (worst sample, residual, iterations and mend in the message), a certificate
            that does not hold, an activation whose own parameters ask for a gradient, or malformed arguments.

    Example:
        >>> import torch
        >>> z, report = equilibrium(torch.tensor([[0.5]]), torch.tensor([[1.0]]), Tanh(), gamma=0.5)
        >>> round(z.item(), 4), bool(report.error_bound.max() < 1e-5)
        (0.8952, True)
    """
    _check(w, u, z0, tol, max_iterations, damping, check_every, on_fail)
    if eta is not None:
        if eta.shape != u.shape[-1:] or not bool((eta > 0).all()):
            raise EquilibriumError(f"equilibrium: eta must be ({u.shape[-1]},) and positive, got {tuple(eta.shape)}")
        # With the largest weight at 1, the weighted norm bounds the plain one, so bounds read in units of z.
        eta = (eta / eta.max()).detach().to(u)
    settings = PicardSettings(tol, max_iterations, damping, check_every, eta)
    with torch.no_grad():
        if gamma is not None:
            _check_gamma(w, act, gamma, eta)
        z, h, residual, steps = _picard(w.detach(), u.detach(), act, z0, settings)
    converged = residual <= tol
    failed = None if bool(converged.all()) else ~converged
    if failed is not None and on_fail == "raise":
        raise EquilibriumError(_failure(residual, steps, settings, torch.finfo(u.dtype).eps))
    stats = AdjointStats()
    wants_gradient = torch.is_grad_enabled() and (w.requires_grad or u.requires_grad)
    if wants_gradient:
        _check_activation(act, h)
        with torch.no_grad():
            slope = act.slope(h)
        z = attach_gradient(w, u, Solved(z, slope, failed, settings, stats))
    path: Literal["implicit", "none"] = "implicit" if wants_gradient else "none"
    return z, EquilibriumReport(converged, residual, steps, tol, gamma, path, stats)


def _picard(
    w: Tensor, u: Tensor, act: Activation, z0: Tensor | None, run: PicardSettings
) -> tuple[Tensor, Tensor, Tensor, int]:
    """State, its pre-activation, its measured residual, and steps. The state is the one the residual was taken at."""
    step = torch.addmm if w.ndim == 2 else torch.baddbmm
    transposed = w.mT
    inverse_eta = None if run.eta is None else 1.0 / run.eta
    # act(u) is the first Picard iterate from zero: one matrix product saved.
    z = act.value(u) if z0 is None else z0.detach().to(u).expand_as(u)
    # Two buffers take turns because an activation may return its argument (a linear one does).
    h, spare = torch.empty_like(u), torch.empty_like(u)
    k = 0
    while True:
        h, spare = spare, h
        step(u, z, transposed, out=h)
        following = act.value(h)
        k += 1
        if k % run.check_every == 0 or k >= run.max_iterations:
            change = (following - z).abs_()
            residual = (change if inverse_eta is None else change.mul_(inverse_eta)).amax(-1)
            worst = float(residual.amax())
            # A sample that went to NaN will not come back; go on only while a finite one can still improve.
            hopeless = worst != worst and bool(((residual <= run.tol) | residual.isnan()).all())
            if worst <= run.tol or k >= run.max_iterations or hopeless:
                # At k == 1 the state may still be the caller's own tensor.
                return (z.clone() if k == 1 else z), h, residual, k
        z = following if run.damping == 1.0 else torch.lerp(z, following, run.damping)


def _check(
    w: Tensor, u: Tensor, z0: Tensor | None, tol: float, steps: int, damping: float, every: int, on_fail: str
) -> None:
    n = u.shape[-1] if u.ndim else 0
    single = u.ndim == 2 and w.shape == (n, n)
    draws = u.ndim == 3 and w.shape == (u.shape[0], n, n)
    if not (single or draws) or u.numel() == 0:
        raise EquilibriumError(
            f"equilibrium needs w (N, N) with u (B, N), or w (D, N, N) with u (D, B, N), none empty; "
            f"got w {tuple(w.shape)} and u {tuple(u.shape)}"
        )
    if w.dtype != u.dtype or not u.is_floating_point() or w.device != u.device:
        raise EquilibriumError(
            f"equilibrium: w is {w.dtype} on {w.device}, u is {u.dtype} on {u.device}; convert one of them explicitly"
        )
    if z0 is not None and z0.shape != u.shape:
        raise EquilibriumError(f"equilibrium: z0 has shape {tuple(z0.shape)}, it must match u, {tuple(u.shape)}")
    floor = 8 * torch.finfo(u.dtype).eps
    if not tol >= floor:
        raise EquilibriumError(f"equilibrium: tol {tol:.3g} is below {floor:.2g}, the reach of {u.dtype}; use float64")
    if steps < 1 or every < 1 or not 0.0 < damping <= 1.0:
        raise EquilibriumError(
            f"equilibrium: max_iterations {steps} and check_every {every} must be at least 1, "
            f"damping {damping} in (0, 1]"
        )
    if on_fail not in ("raise", "mask"):
        raise EquilibriumError(f"equilibrium: on_fail is '{on_fail}'; use 'raise' or 'mask'")


def _check_gamma(w: Tensor, act: Activation, gamma: float, eta: Tensor | None) -> None:
    if not 0.0 <= gamma < 1.0:
        raise EquilibriumError(f"equilibrium: gamma is {gamma}; a certificate has 0 <= gamma < 1, or pass None")
    rows = w.abs().sum(-1) if eta is None else (w.abs() @ eta) / eta
    worst = float((rows * act.max_slope).max())
    # The slack is rounding of the row sum, far below what the error bound is read to.
    if not worst <= gamma + 1e2 * torch.finfo(w.dtype).eps:
        raise EquilibriumError(
            f"equilibrium: gamma {gamma} does not hold for this w and activation, the largest row gives {worst:.6g}; "
            "certify the matrix that is solved (draws included) or pass gamma=None"
        )


def _check_activation(act: Activation, h: Tensor) -> None:
    with torch.enable_grad():
        probe = act.value(h[..., :1, :].detach())
    if probe.requires_grad:
        raise EquilibriumError(
            "equilibrium: the activation's own parameters require a gradient, which is offered to w and u only; "
            "call requires_grad_(False) on them, or train them outside the solve"
        )


def _failure(residual: Tensor, steps: int, run: PicardSettings, eps: float) -> str:
    ranked = torch.nan_to_num(residual, nan=float("inf"))
    index = [int(i) for i in torch.unravel_index(ranked.argmax(), residual.shape)]
    worst = float(residual[tuple(index)])
    count = int((~(residual <= run.tol)).sum())
    mend = (
        "raise tol or use float64: this is rounding"
        if worst < 100 * eps
        else "use certified weights (gamma < 1), a smaller damping, more iterations, or on_fail='mask'"
    )
    return (
        f"equilibrium did not converge: sample {index} has residual {worst:.3g} after {steps} iterations "
        f"(tol {run.tol:.3g}, damping {run.damping}); {count} of {residual.numel()} samples failed; {mend}"
    )
