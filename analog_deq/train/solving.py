"""Equilibria as training and deployment solve them: Picard for class A, Newton for the classes it does not suit."""

from __future__ import annotations

import torch
from torch import Tensor

from analog_deq.equilibrium.cell import Activation, System
from analog_deq.equilibrium.solve import equilibrium
from analog_deq.errors import EquilibriumError

PICARD_STEPS, NEWTON_STEPS = 20_000, 100
STEP_SCALE = 1.2


def settle(
    w: Tensor, u: Tensor, act: Activation, weight_class: str, *, tol: float, gradient: str = "same",
    start: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """States z = act(W z + u) (samples, N), with their ``gradient`` (the ``adjoint`` of :func:`.equilibrium`).

    ``start`` is a state to begin from; rest by default.

    EquilibriumError when none is found, or when that gradient is not right for the matrix.

    Class A contracts under Picard's iteration. The others need hundreds of damped steps (W = I - 16 Q: 250), Newton's
    method 16 factorisations; where it fails, damped Picard is tried before giving up.
    """
    system = System(w, u, act)
    if weight_class == "A":
        return equilibrium(system, tol=tol, max_iterations=PICARD_STEPS, adjoint=gradient, z0=start)[0]
    try:
        return equilibrium(system, tol=tol, max_iterations=NEWTON_STEPS, solver="newton", adjoint=gradient)[0]
    except EquilibriumError:
        fraction = step_fraction(w, act.max_slope)
        return equilibrium(system, tol=tol, max_iterations=PICARD_STEPS, damping=fraction, adjoint=gradient)[0]


def step_fraction(w: Tensor, max_slope: Tensor | float) -> float:
    """Step of damped Picard in (0, 1], ``1.2 / ||I - diag(s) W||_2``.

    For a symmetric class-C matrix with slopes s at most 1 any step below 2 / ||I - W|| converges.
    """
    slope = torch.as_tensor(max_slope, dtype=w.dtype)
    folded = torch.eye(w.shape[-1], dtype=w.dtype) - slope.reshape(-1, 1) * w.detach()
    return min(1.0, STEP_SCALE / float(torch.linalg.matrix_norm(folded, 2)))
