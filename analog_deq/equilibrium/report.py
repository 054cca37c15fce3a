"""What one equilibrium solve did, and how far it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from analog_deq.equilibrium.adjoint import AdjointStats
from analog_deq.equilibrium.cell import FunctionSystem, System
from analog_deq.equilibrium.certificate import Certificate, certify


@dataclass(frozen=True)
class EquilibriumReport:
    """The outcome of one call of :func:`.equilibrium`. Tensors have one entry per sample, (B,) or (D, B).

    Attributes:
        converged: residual at or below ``tol``; with a measured forward also that a state was measured.
        residual: ``max_i |f(z) - z|_i / eta_i`` of the solved state (``eta`` of the claim, largest 1).
        steps: solver steps each sample took.
        iterations: the largest of them.
        tol: tolerance asked for, in units of ``z``.
        solver: its name.
        gradient: the path used, ``implicit(same)`` and so on, or ``none``. There is no other.
        forward: ``proxy``, or ``measured`` when the returned state came from ``forward=``.
        distance: RMS over the nodes of measured minus solved state; None when nothing was measured.
        adjoint: filled by each backward pass.
    """

    converged: Tensor
    residual: Tensor
    steps: Tensor
    iterations: int
    tol: float
    solver: str
    gradient: str
    forward: str
    distance: Tensor | None
    adjoint: AdjointStats
    system: System | FunctionSystem = field(repr=False)
    solved: Tensor = field(repr=False)

    @property
    def certified(self) -> bool:
        """Whether the matrix that was solved held the certificate claimed for it. Without one, no error bound."""
        return isinstance(self.system, System) and self.system.claim is not None

    @property
    def error_bound(self) -> Tensor | None:
        """Bound on ``max_i |z - z*|_i`` of the solved state per sample, ``residual / (1 - gamma)`` for A and B.

        None when nothing is certified: a small residual then bounds nothing.
        """
        system = self.system
        if not isinstance(system, System) or system.claim is None:
            return None
        with torch.no_grad():
            w = system.w.detach()
            rest = system.act.value(torch.matmul(self.solved, w.mT) + system.u.detach()) - self.solved
            return system.claim.error_bound(rest, w, system.act.max_slope)

    @property
    def certificate(self) -> Certificate | None:
        """What is known of the matrix that was solved, mapped, quantised and drawn as it was; of the worst draw.

        Computed when asked for (seconds at N = 1000). None for a general function: it has no matrix.
        """
        if not isinstance(self.system, System):
            return None
        system = self.system
        matrices = system.w if system.w.ndim == 3 else system.w.unsqueeze(0)
        found = [certify(w, system.act.max_slope, system.tau_s, second_pole_s=system.second_pole_s) for w in matrices]
        return max(found, key=lambda c: (not c.unique, c.weight_class, c.gamma))
