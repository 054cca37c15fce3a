"""Peaceman-Rachford splitting, forward and adjoint: the solver for class C, whose Picard steps must be short.

``z = act(W z + u)`` with nondecreasing activations of slope at most ``s`` is the inclusion ``0 in (I - M) z - s u +
dF(z)`` with ``M = diag(s) W``, since an activation of slope at most 1 is the proximal map of a convex ``F``. Scaled by
``c = sqrt(L)``, ``L`` the class's diagonal metric, ``I - M`` becomes strongly monotone, and reflecting through its
resolvent ``(2 I - M)^-1`` and through the activation in turn contracts (Winston & Kolter 2020, arXiv:2006.08591; Revay
et al. 2020, arXiv:2010.01732). Each step costs one matrix product; the resolvent is inverted once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from analog_deq.equilibrium.iterate import Result, Settings
from analog_deq.equilibrium.problems import Adjoint, DenseLinearised, State
from analog_deq.errors import EquilibriumError


def _scaled(w: Tensor, slope: Tensor, metric: Tensor | None) -> tuple[Tensor, Tensor]:
    """``c (diag(s) W) c^-1`` and ``c`` (N,), the coordinates in which ``I - M`` is monotone."""
    m = slope.unsqueeze(-1) * w
    c = torch.ones_like(slope) if metric is None else metric.to(slope).sqrt()
    return c.unsqueeze(-1) * m / c, c


def peaceman_rachford(problem: State, start: Tensor, run: Settings, metric: Tensor | None) -> Result:
    """States by the splitting; ``metric`` (N,) is the diagonal ``L`` of class C, None for the plain one."""
    slope = torch.as_tensor(problem.act.max_slope).to(problem.u).expand(problem.u.shape[-1])
    if not bool((slope > 0).all()):
        raise EquilibriumError("peaceman_rachford: the activation's max_slope must be positive at every node")
    m, c = _scaled(problem.w, slope, metric)
    eye = torch.eye(m.shape[-1], dtype=m.dtype, device=m.device)
    resolvent = torch.linalg.inv(2.0 * eye - m).mT
    drive = problem.u * (slope * c)
    into = 1.0 / (slope * c)
    problem.step(start)
    y, k = problem.h / into, 0
    while True:
        z = problem.act.value(y * into) * c
        k += 1
        if k % run.check_every == 0 or k >= run.max_iterations:
            plain = z / c
            residual = problem.residual(problem.step(plain), plain)
            worst = float(residual.amax())
            if worst <= run.tol or k >= run.max_iterations or worst != worst:
                steps = torch.full_like(residual, k, dtype=torch.int64)
                return Result(plain, residual, steps, k)
        reflected = 2.0 * z - y
        y = 2.0 * torch.matmul(reflected + drive, resolvent) - reflected


def peaceman_rachford_adjoint(problem: Adjoint, max_slope: Tensor, run: Settings, metric: Tensor | None) -> Result:
    """``v`` of ``(I - W^T D) v = g`` by the same splitting.

    With ``G = D / s`` in [0, 1] and ``p = G v``: ``p = G (g + M^T p)``. Scaled by ``1 / c`` it has the form of the
    forward problem, ``G`` in the place of the activation and the transposed matrix in that of ``M``; ``v = g + M^T p``.
    """
    linearised = problem.linearised
    assert isinstance(linearised, DenseLinearised), "checked by the caller"
    slope = max_slope.to(problem.g).expand(problem.g.shape[-1])
    m, c = _scaled(linearised.w, slope, metric)
    resolvent = torch.linalg.inv(2.0 * torch.eye(m.shape[-1], dtype=m.dtype, device=m.device) - m)
    gain, drive, back = linearised.slope / slope, problem.g / c, slope * c
    y, k = drive, 0
    while True:
        p = gain * y
        k += 1
        if k % run.check_every == 0 or k >= run.max_iterations:
            v = problem.g + torch.matmul(p * back, linearised.w)
            residual = problem.residual(problem.step(v), v)
            worst = float(residual.amax())
            if worst <= run.tol or k >= run.max_iterations or worst != worst:
                return Result(v, residual, torch.full_like(residual, k, dtype=torch.int64), k)
        reflected = 2.0 * p - y
        y = 2.0 * torch.matmul(reflected + drive, resolvent) - reflected
