"""The trainable feedback matrix of class C, and how to start it at a given one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from analog_deq.equilibrium.claim import Claim
from analog_deq.equilibrium.parametrise import class_c, class_c_symmetric
from analog_deq.equilibrium.weight import START, Weight, normal
from analog_deq.errors import EquilibriumError


class Monotone(Weight):
    """Class C (LBEN, monDEQ at ``log_psi = 0``): what quadratic programmes and linear solves need; no lag guarantee.

    Args:
        n: number of nodes.
        margin: ``m`` in (0, 1]: the circuit settles at least at ``m / tau``, error gain is of the order ``1 / m``.
        max_slope: slope bound of the activation, a number or (N,).
        generator: source of the start values.
        symmetric: no skew part, no ``psi``: every ``W`` with eigenvalues below ``1 - m`` (slopes folded in).
        dtype: of the parameters.

    Example:
        >>> import torch
        >>> w = Monotone(4, 0.05, generator=torch.Generator().manual_seed(0))
        >>> w.claim().check(w(), 1.0)
    """

    weight_class = "C"

    def __init__(
        self,
        n: int,
        margin: float = 0.05,
        max_slope: Tensor | float = 1.0,
        *,
        generator: torch.Generator,
        symmetric: bool = False,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__(n, max_slope, symmetric, dtype)
        self.margin = margin
        # V = sqrt(1 - m) I is W = 0; V and the skew part then share the variance of W equally.
        self.v = normal(n, 0.5 * START, generator, dtype)
        self.skew = None if symmetric else normal(n, 0.5 * START, generator, dtype)
        self.log_psi = None if symmetric else nn.Parameter(torch.zeros(n, dtype=dtype))
        with torch.no_grad():
            self.v.diagonal().add_(max(1.0 - margin, 0.0) ** 0.5)

    def forward(self) -> Tensor:
        """Class-C ``W`` (N, N)."""
        if self.skew is None or self.log_psi is None:
            return class_c_symmetric(self.v, self.margin, self.max_slope)[0]
        return class_c(self.v, self.skew, self.log_psi, self.margin, self.max_slope)

    def claim(self) -> Claim:
        """Class C with ``margin`` and ``L = Psi^-1``."""
        with torch.no_grad():
            weights = 1.0 / self.max_slope if self.log_psi is None else torch.exp(-self.log_psi)
        return Claim("C", float("nan"), weights, self.margin)

    @classmethod
    def from_matrix(
        cls,
        w: Tensor,
        margin: float = 0.05,
        max_slope: Tensor | float = 1.0,
        *,
        weights: Tensor | None = None,
        symmetric: bool = False,
    ) -> Monotone:
        """The module whose matrix is exactly (to rounding) the given one: ``V^T V = sym(L (I - M)) - m L``.

        For the box-constrained quadratic programme ``min x^T Q x / 2 + q^T x`` take ``w = I - a Q``.

        Args:
            w: (N, N), of class C with at least ``margin``.
            margin: margin of the class the module stays in, (0, 1].
            max_slope: slope bound of the activation, a number or (N,).
            weights: (N,) the diagonal of ``L``; None means all equal (monDEQ).
            symmetric: keep ``W`` symmetric; ``w`` must be, and ``L = 1 / s``.

        Raises:
            EquilibriumError: ``w`` is not of the class, with the margin it has; not symmetric though asked for.

        Example:
            >>> import torch
            >>> q = torch.tensor([[1.0, 0.2], [0.2, 0.5]], dtype=torch.float64)
            >>> w = Monotone.from_matrix(torch.eye(2) - 0.5 * q)
            >>> bool(torch.allclose(w(), torch.eye(2) - 0.5 * q))
            True
        """
        w = w.detach()
        if w.ndim != 2 or w.shape[0] != w.shape[1]:
            raise EquilibriumError(f"Monotone.from_matrix: w must be (N, N), got {tuple(w.shape)}")
        made = cls(len(w), margin, max_slope, generator=torch.Generator(), symmetric=symmetric, dtype=w.dtype)
        s = made.max_slope
        if symmetric:
            if not torch.allclose(w, w.mT, rtol=1e-9, atol=1e-12):
                raise EquilibriumError("Monotone.from_matrix: symmetric=True, but w is not symmetric")
            lyapunov = 1.0 / s
        else:
            lyapunov = torch.ones_like(s) if weights is None else weights.to(s) / weights.to(s).mean()
        # a = L (I - M), scaled by sqrt(s) on both sides when symmetric: there M' = sqrt(s) W sqrt(s), L' = I
        scale = s.sqrt() if symmetric else torch.ones_like(s)
        eye = torch.eye(len(w), dtype=w.dtype)
        a = lyapunov[:, None] * (eye - s[:, None] * w) * scale[:, None] * scale
        metric = lyapunov * scale * scale
        value, vector = torch.linalg.eigh(0.5 * (a + a.mT) - margin * torch.diag(metric))
        if float(value[0]) < -1e-10 * float(value.abs().max().clamp(min=1.0)):
            root = metric.sqrt()
            reached = float(torch.linalg.eigvalsh(0.5 * (a + a.mT) / (root[:, None] * root))[0])
            raise EquilibriumError(
                f"Monotone.from_matrix: w is not of class C with margin {margin} for these weights, its margin is "
                f"{reached:.6g}; ask for less, or pass the weights that certify finds"
            )
        with torch.no_grad():
            made.v.copy_(vector * value.clamp(min=0.0).sqrt() @ vector.mT)
            if made.skew is not None and made.log_psi is not None:
                made.skew.copy_(0.25 * (a - a.mT))
                made.log_psi.copy_(-lyapunov.log())
        return made
