"""Ways to solve the adjoint system ``(I - J^T) v = g`` that are not fixed-point iterations."""

from __future__ import annotations

import torch
from torch import Tensor

from analog_deq.equilibrium.iterate import Result, Settings
from analog_deq.equilibrium.problems import Adjoint

RESTART = 30
"""Krylov vectors GMRES keeps before it starts again."""


def dense(problem: Adjoint) -> Result:
    """``v`` by one LU factorisation of ``I - J^T`` a sample: exact to rounding, O(B N^3) time, O(B N^2) memory."""
    jacobian = problem.linearised.matrix()
    eye = torch.eye(jacobian.shape[-1], dtype=jacobian.dtype, device=jacobian.device)
    v = torch.linalg.solve((eye - jacobian).mT, problem.g.unsqueeze(-1)).squeeze(-1)
    return _finished(problem, v, 1)


def neumann(problem: Adjoint, terms: int) -> Result:
    """The first ``terms`` terms of ``v = sum_k (J^T)^k g``: 1 is the Jacobian-free (one-step phantom) gradient.

    Biased: what is left out is ``(J^T)^terms v``, at most ``gamma^terms`` of ``v`` for certified weights. The residual
    says how much it was. Sources: Fung et al. 2022, arXiv:2103.12803; Geng et al. 2021, arXiv:2111.05177.
    """
    v = problem.g
    for _ in range(terms - 1):
        v = problem.step(v)
    return _finished(problem, v.clone(), terms)


def gmres(problem: Adjoint, run: Settings) -> Result:
    """``v`` by restarted GMRES, every sample by itself (Saad & Schultz 1986), ``RESTART`` vectors a cycle.

    Converges where Picard does not, as long as ``I - J`` is regular. The stop test is the same as Picard's, taken after
    each cycle; a cycle ends early once its own least-squares residual is below the tolerance.
    """
    shape = problem.g.shape
    v, k = problem.g.clone(), 0
    while True:
        after = problem.step(v)
        residual = problem.residual(after, v)
        worst = float(residual.amax())
        if worst <= run.tol or k >= run.max_iterations or worst != worst:
            return Result(v, residual, torch.full_like(residual, k, dtype=torch.int64), max(k, 1), whole=False)
        remainder = (after - v).reshape(-1, shape[-1])  # g - (I - J^T) v
        correction, used = _cycle(problem, remainder, shape, min(RESTART, run.max_iterations - k), run.tol / 10)
        v = v + correction.reshape(shape)
        k += used


def _cycle(problem: Adjoint, r: Tensor, shape: torch.Size, most: int, tol: float) -> tuple[Tensor, int]:
    """Correction (B, N) from one Arnoldi cycle on the remainder ``r`` (B, N), and its length."""
    tiny = torch.finfo(r.dtype).tiny
    beta = r.norm(dim=-1)
    basis = [r / beta.clamp(min=tiny).unsqueeze(-1)]
    h = torch.zeros(len(r), most + 1, most, dtype=r.dtype, device=r.device)
    coefficients = torch.zeros(len(r), 0, dtype=r.dtype, device=r.device)
    for j in range(most):
        q = basis[-1]
        w = q - problem.linearised.transposed(q.reshape(shape)).reshape(q.shape)
        for i, earlier in enumerate(basis):
            h[:, i, j] = (earlier * w).sum(-1)
            w = w - h[:, i, j, None] * earlier
        length = w.norm(dim=-1)
        h[:, j + 1, j] = length
        # a sample whose space is exhausted gets zero vectors from here on
        basis.append(torch.where((length > tiny)[:, None], w / length.clamp(min=tiny)[:, None], torch.zeros_like(w)))
        if j % 4 == 3 or j == most - 1:  # the small least-squares problem is dear beside a product
            small, right = h[:, : j + 2, : j + 1], torch.zeros(len(r), j + 2, dtype=r.dtype, device=r.device)
            right[:, 0] = beta
            coefficients = (torch.linalg.pinv(small) @ right.unsqueeze(-1)).squeeze(-1)
            left = (right - (small @ coefficients.unsqueeze(-1)).squeeze(-1)).norm(dim=-1)
            if bool((left <= tol * beta.clamp(min=tiny)).all()):
                break
    used = coefficients.shape[-1]
    return (torch.stack(basis[:used], -1) @ coefficients.unsqueeze(-1)).squeeze(-1), used


def _finished(problem: Adjoint, v: Tensor, count: int) -> Result:
    residual = problem.residual(problem.step(v), v)
    return Result(v, residual, torch.full_like(residual, count, dtype=torch.int64), count, whole=False)
