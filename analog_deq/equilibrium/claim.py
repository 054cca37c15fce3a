"""A stability certificate carried along with a matrix: checked against it, then used for error bounds and damping.

Throughout, ``M = diag(s) W`` folds the slope bounds ``0 <= act'_i <= s_i`` into the rows, so that slopes are in [0, 1].

- **A**: ``sum_j |M_ij| eta_j / eta_i <= gamma < 1``.
- **B**: ``M_ii + sum_{j != i} |M_ij| eta_j / eta_i <= gamma < 1``.
- **C**: ``L (I - M) + (I - M)^T L >= 2 m L`` with ``L = diag(weights) > 0``, ``m > 0``. In the coordinates scaled by
  ``sqrt(L)``: the symmetric part of ``I - M`` is at least ``m``. Every B is a C, every A is a B.

With ``e = z - z*`` and ``r = act(W z + u) - z``, secant slopes ``D`` in [0, 1] give ``e + r = D M e``. In A and B the
row of the largest ``|e_i| / eta_i`` yields ``|e| <= |r| / (1 - max(gamma, 0))``. In C, ``p = e + r`` obeys
``p_i ((M e)_i - p_i) >= 0`` node by node, hence ``p^T L (I - M) p <= -p^T L M r``: with ``P`` the symmetric part,
``|p|_P <= |L M r|_(P^-1)``, and ``e = p - r``.
Sources: Jafarpour et al., arXiv:2106.03194 (A, B); Winston and Kolter, arXiv:2006.08591 (C with equal weights);
Revay et al., arXiv:2010.01732 (C).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from analog_deq.errors import EquilibriumError

WeightClass = Literal["A", "B", "C"]


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """What is claimed of a matrix. Nothing follows from it before ``check`` has passed.

    Attributes:
        weight_class: "A", "B" or "C".
        gamma: contraction bound of A and B, below 1; nan in C.
        weights: (N,), positive. A, B: norm weights ``eta``, scaled here to a maximum of 1. C: the diagonal of ``L``.
        margin: ``m`` of C, positive; None in A and B.

    Example:
        >>> import torch
        >>> claim = Claim("C", float("nan"), torch.ones(2), margin=0.5)
        >>> turn = torch.tensor([[0.5, 3.0], [-3.0, 0.5]], dtype=torch.float64)
        >>> claim.check(turn, 1.0)
        >>> round(claim.error_bound(torch.tensor([[1e-3, 0.0]]).double(), turn, 1.0).item(), 4)
        0.0071
    """

    weight_class: WeightClass
    gamma: float
    weights: Tensor
    margin: float | None = None

    def __post_init__(self) -> None:
        if self.weight_class not in ("A", "B", "C") or self.weights.ndim != 1 or not bool((self.weights > 0).all()):
            raise EquilibriumError("Claim: weight_class must be A, B or C and weights (N,) positive")
        if self.weight_class == "C":
            if self.margin is None or not self.margin > 0.0:
                raise EquilibriumError(f"Claim: class C needs a margin above 0, got {self.margin}")
        else:
            lowest = 0.0 if self.weight_class == "A" else -float("inf")
            if not lowest <= self.gamma < 1.0:
                raise EquilibriumError(f"Claim: gamma is {self.gamma}; class {self.weight_class} has gamma below 1")
            object.__setattr__(self, "weights", (self.weights / self.weights.max()).detach())

    def check(self, w: Tensor, max_slope: Tensor | float) -> None:
        """Nothing when the claim holds for this very matrix; EquilibriumError with the figure reached when not.

        Costs O(N^2) for A and B, one Cholesky factorisation for C. Rounding of the test itself is allowed for.

        Args:
            w: (N, N) or (D, N, N), any device; tested in its own precision for A and B, in float64 for C.
            max_slope: slope bound, a number or (N,), positive.
        """
        _require_shape(w, self.weights)
        w = w.detach()
        eps = torch.finfo(w.dtype).eps
        if self.weight_class == "C":
            assert self.margin is not None
            skewed = self._scaled(w, max_slope)
            symmetric = 0.5 * (skewed + skewed.mT)
            slack = 1e2 * eps * float(skewed.abs().sum(-1).amax())
            eye = torch.eye(len(self.weights), dtype=symmetric.dtype, device=symmetric.device)
            failed = torch.linalg.cholesky_ex(symmetric - (self.margin - slack) * eye)[1]
            if bool((failed != 0).any()):
                reached = self.reached(w, max_slope)
                raise EquilibriumError(_refusal(self, f"margin {self.margin:.6g}", f"the matrix gives {reached:.6g}"))
            return
        eta = self.weights.to(w)
        worst = self.reached(w, max_slope)
        largest = worst if self.weight_class == "A" else float(((w.abs() @ eta) / eta * max_slope).max())
        if not worst <= self.gamma + 1e2 * eps * max(1.0, largest):
            raise EquilibriumError(_refusal(self, f"gamma {self.gamma:.6g}", f"the largest row gives {worst:.6g}"))

    def reached(self, w: Tensor, max_slope: Tensor | float) -> float:
        """What a matrix (the worst of several) really shows for the claim's weights: its gamma, or its margin (C)."""
        w = w.detach()
        if self.weight_class == "C":
            skewed = self._scaled(w, max_slope)
            return float(torch.linalg.eigvalsh(0.5 * (skewed + skewed.mT))[..., 0].amin())
        eta, size = self.weights.to(w), w.abs()
        if self.weight_class == "B":
            diagonal = w.diagonal(dim1=-2, dim2=-1)
            size = size + torch.diag_embed(diagonal - diagonal.abs())
        return float(((size @ eta) / eta * max_slope).max())

    def renew(self, w: Tensor, max_slope: Tensor | float) -> Claim | None:
        """The claim of the same class and weights for another matrix (rounded, drawn, mapped), None if it holds none.

        Example:
            >>> import torch
            >>> old = Claim("A", 0.5, torch.ones(1))
            >>> round(old.renew(torch.tensor([[0.8]]), 1.0).gamma, 6), old.renew(torch.tensor([[1.2]]), 1.0)
            (0.8, None)
        """
        _require_shape(w, self.weights)
        reached = self.reached(w, max_slope)
        if self.weight_class == "C":
            return Claim("C", self.gamma, self.weights, margin=reached) if reached > 0.0 else None
        return Claim(self.weight_class, reached, self.weights) if reached < 1.0 else None

    def error_bound(self, residual: Tensor, w: Tensor, max_slope: Tensor | float) -> Tensor:
        """Bound on ``max_i |z - z*|_i`` of every sample, from the residual ``act(W z + u) - z`` at ``z``.

        Valid when ``check(w, max_slope)`` passes; rounding of the residual itself is not included.

        Args:
            residual: (B, N), or (D, B, N) with draws; units of ``z``.
            w: (N, N) or (D, N, N).
            max_slope: slope bound, a number or (N,).

        Returns:
            (B,) or (D, B), units of ``z``.
        """
        if self.weight_class != "C":
            scaled = residual.abs() / self.weights.to(residual)
            return scaled.amax(-1) / (1.0 - max(self.gamma, 0.0))
        root = self._root(w)
        a = self._scaled(w, max_slope)
        factor, failed = torch.linalg.cholesky_ex(0.5 * (a + a.mT))
        if bool((failed != 0).any()):
            raise EquilibriumError("error_bound: the matrix is not of the claimed class C; call check first")
        r = residual.to(a.dtype) * root
        moved = r - r @ a.mT  # M r, row by row
        size = torch.linalg.solve_triangular(factor, moved.mT, upper=False).norm(dim=-2)
        eye = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
        node = torch.linalg.solve_triangular(factor, eye.expand_as(a), upper=False).norm(dim=-2) / root
        return (residual.abs() + node.unsqueeze(-2) * size.unsqueeze(-1)).amax(-1).to(residual.dtype)

    def damping(self, w: Tensor, max_slope: Tensor | float) -> float:
        """Step fraction of damped Picard that suits the claim: 1 for A, ``1 / (1 - min_i min(M_ii, 0))`` for B.

        A and B contract globally with it, B at rate ``1 - damping (1 - max(gamma, 0))``. C: with ``b`` the cocoercivity
        of ``G = I - M`` in the metric of ``L``, ``x^T L G x >= b |G x|_L^2`` (least eigenvalue of the symmetric part
        of ``G^-1``), ``I - D M`` is ``min(1, b)``-cocoercive in the metric ``L D^-1`` for every slope ``D``, so the
        iteration is stable around the equilibrium for steps below ``2 min(1, b)``. Returned is ``b`` or ``1.8 b``,
        whichever contracts faster at ``D = I``, at most 1. That is a local statement: convergence from afar is tested,
        not proved. A skew part ``k`` makes ``b`` about ``m / k^2`` and Picard slow; another solver is better then.
        """
        _require_shape(w, self.weights)
        if self.weight_class == "A":
            return 1.0
        if self.weight_class == "B":
            lowest = float((w.detach().diagonal(dim1=-2, dim2=-1) * max_slope).amin())
            return 1.0 / (1.0 - min(lowest, 0.0))
        g = self._scaled(w.detach(), max_slope)
        inverse = torch.linalg.inv(g)
        step = min(1.0, float(torch.linalg.eigvalsh(0.5 * (inverse + inverse.mT))[..., 0].amin()))
        eye = torch.eye(g.shape[-1], dtype=g.dtype, device=g.device)
        steps = (step, min(1.0, 1.8 * step))
        return min(steps, key=lambda a: float(torch.linalg.matrix_norm(eye - a * g, 2).amax()))

    def _root(self, w: Tensor) -> Tensor:
        return self.weights.detach().to(w.device, torch.float64).sqrt()

    def _scaled(self, w: Tensor, max_slope: Tensor | float) -> Tensor:
        """``L^(1/2) (I - M) L^(-1/2)`` in float64."""
        root = self._root(w)
        slope = torch.as_tensor(max_slope, dtype=torch.float64, device=w.device)
        m = (slope * root).unsqueeze(-1) * w.to(torch.float64) / root
        return torch.eye(len(root), dtype=m.dtype, device=m.device) - m


def _require_shape(w: Tensor, weights: Tensor) -> None:
    n = len(weights)
    if w.shape[-2:] != (n, n) or w.ndim not in (2, 3):
        raise EquilibriumError(f"Claim of {n} nodes: w must be ({n}, {n}) or (D, {n}, {n}), got {tuple(w.shape)}")


def _refusal(claim: Claim, claimed: str, found: str) -> str:
    return (
        f"the certificate of class {claim.weight_class} with {claimed} does not hold for this matrix and activation, "
        f"{found}; certify the matrix that is solved (draws included) or claim nothing"
    )
