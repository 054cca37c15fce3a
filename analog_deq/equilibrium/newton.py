"""Newton's method on ``z - f(z) = 0``, every sample by itself: few steps, each a dense factorisation."""

from __future__ import annotations

import torch
from torch import Tensor

from analog_deq.equilibrium.cell import System
from analog_deq.equilibrium.iterate import Result, Settings
from analog_deq.equilibrium.problems import DenseLinearised, FunctionLinearised, FunctionState, State

SMALLEST_STEP = 1.0 / 64


def newton(problem: State | FunctionState, start: Tensor, run: Settings) -> Result:
    """States by damped Newton steps: ``z <- z + a (I - J)^-1 (f(z) - z)``.

    ``a`` starts at 1 and is halved, sample by sample, whenever a step made the residual larger; a sample that gets
    down to ``SMALLEST_STEP`` takes one plain step of ``f`` instead. Quadratic near a regular solution; each step costs
    ``O(B N^3)``, which pays where Picard needs hundreds of steps.
    """
    z = start
    share = torch.ones_like(z[..., 0])
    best = torch.full_like(share, torch.inf)
    steps = torch.zeros_like(share, dtype=torch.int64)
    kept_z, move, k = z, torch.zeros_like(z), 0
    while True:
        after = problem.step(z)
        k += 1
        residual = problem.residual(after, z)
        better = residual < best
        done = best <= run.tol
        steps = torch.where(done, steps, torch.full_like(steps, k))
        kept_z = torch.where((better & ~done).unsqueeze(-1), z, kept_z)
        best = torch.where(done, best, torch.minimum(best, residual))
        worst = float(torch.nan_to_num(best, nan=torch.inf).amax())
        if worst <= run.tol or k >= run.max_iterations:
            return Result(kept_z, best, steps, k, whole=False)
        jacobian = _jacobian(problem, z)
        fresh, info = torch.linalg.solve_ex(
            torch.eye(z.shape[-1], dtype=z.dtype, device=z.device) - jacobian, (after - z).unsqueeze(-1)
        )
        fresh = torch.where((info == 0)[..., None], fresh.squeeze(-1), after - z)
        # where the last step failed, go back and take half of it; where it worked, a whole new one
        share = torch.where(better, torch.ones_like(share), share / 2)
        stuck = share < SMALLEST_STEP
        move = torch.where(better.unsqueeze(-1), fresh, move)
        base = torch.where(better.unsqueeze(-1), z, kept_z)
        taken = torch.where(stuck.unsqueeze(-1), after, base + share.unsqueeze(-1) * move)
        # a plain step starts anew from where it leads, better or not: it is what the circuit itself would do
        best = torch.where(stuck & ~(best <= run.tol), torch.full_like(best, torch.inf), best)
        share = torch.where(stuck, torch.ones_like(share), share)
        z = taken


def _jacobian(problem: State | FunctionState, z: Tensor) -> Tensor:
    if isinstance(problem, FunctionState):
        return FunctionLinearised(problem.system, z).matrix()
    system: System = problem.system
    return DenseLinearised(problem.w, system.act.slope(problem.h)).matrix()
