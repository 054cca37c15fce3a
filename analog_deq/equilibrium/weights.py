"""Trainable feedback matrices, by certificate class: ``module()`` is ``W``, ``module.claim()`` what it guarantees.

All have one signature, ``(n, bound, max_slope, *, generator, symmetric, dtype)``, so that a design file can name one
(``WEIGHT_CLASSES``). ``symmetric=True`` keeps ``W`` symmetric, as equilibrium propagation needs. Every class starts
near a random matrix with entries of standard deviation ``START / sqrt(N)``, so that classes can be compared.

Which one: A unless the task asks for more (it alone survives unmodelled lags); C for optimisation and linear solves,
with a second-pole check of the built circuit; Free only to measure what the certificate costs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from analog_deq.equilibrium.claim import Claim
from analog_deq.equilibrium.monotone import Monotone
from analog_deq.equilibrium.parametrise import (
    class_a,
    class_a_symmetric,
    class_b,
    class_b_symmetric,
    class_c,
    class_c_symmetric,
)
from analog_deq.equilibrium.weight import START, Weight, normal

__all__ = [
    "WEIGHT_CLASSES",
    "Free",
    "Monotone",
    "NonEuclidean",
    "NormBounded",
    "Weight",
    "class_a",
    "class_a_symmetric",
    "class_b",
    "class_b_symmetric",
    "class_c",
    "class_c_symmetric",
]


class NormBounded(Weight):
    """Class A: a contraction in a weighted infinity norm; stable for any time constants and any lag without overshoot.

    Args:
        n: number of nodes.
        gamma: contraction bound in (0, 1).
        max_slope: slope bound of the activation, a number or (N,).
        generator: source of the start values.
        symmetric: keep ``W`` symmetric; the norm weights then follow from the parameters.
        dtype: of the parameters.

    Example:
        >>> import torch
        >>> w = NormBounded(4, 0.9, generator=torch.Generator().manual_seed(0))
        >>> w.claim().check(w(), 1.0)
        >>> tuple(w().shape)
        (4, 4)
    """

    weight_class = "A"

    def __init__(
        self,
        n: int,
        gamma: float = 0.9,
        max_slope: Tensor | float = 1.0,
        *,
        generator: torch.Generator,
        symmetric: bool = False,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__(n, max_slope, symmetric, dtype)
        self.gamma = gamma
        self.t = normal(n, START, generator, dtype)
        self.log_eta = None if symmetric else nn.Parameter(torch.zeros(n, dtype=dtype))

    def forward(self) -> Tensor:
        """Class-A ``W`` (N, N)."""
        if self.log_eta is None:
            return class_a_symmetric(self.t, self.gamma, self.max_slope)[0]
        return class_a(self.t, self.log_eta, self.gamma, self.max_slope)

    def claim(self) -> Claim:
        """Class A with ``gamma`` and the present norm weights."""
        with torch.no_grad():
            eta = (
                class_a_symmetric(self.t, self.gamma, self.max_slope)[1]
                if self.log_eta is None
                else torch.exp(self.log_eta - self.log_eta.max())
            )
        return Claim("A", self.gamma, eta)


class NonEuclidean(Weight):
    """Class B (NEMON): row bound with signed diagonal, strong self-inhibition allowed; stable for any time constants.

    Starts with a zero diagonal and rows of class A. Arguments as for :class:`NormBounded`, ``gamma`` below 1.

    Example:
        >>> import torch
        >>> w = NonEuclidean(4, 0.9, generator=torch.Generator().manual_seed(0))
        >>> w.claim().check(w(), 1.0)
    """

    weight_class = "B"

    def __init__(
        self,
        n: int,
        gamma: float = 0.9,
        max_slope: Tensor | float = 1.0,
        *,
        generator: torch.Generator,
        symmetric: bool = False,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__(n, max_slope, symmetric, dtype)
        self.gamma = gamma
        self.t = normal(n, START, generator, dtype)
        self.log_eta = None if symmetric else nn.Parameter(torch.zeros(n, dtype=dtype))
        with torch.no_grad():
            room = max(gamma, 0.0)
            t = self.t.fill_diagonal_(0.0)
            t *= room / t.abs().sum(1, keepdim=True).clamp(min=room) if room else 0.0
            # W_ii = T_ii - sum_j |T_ij| + gamma = 0
            t.diagonal().copy_(-0.5 * (room - t.abs().sum(1)).clamp(min=0.0))

    def forward(self) -> Tensor:
        """Class-B ``W`` (N, N)."""
        if self.log_eta is None:
            return class_b_symmetric(self.t, self.gamma, self.max_slope)[0]
        return class_b(self.t, self.log_eta, self.gamma, self.max_slope)

    def claim(self) -> Claim:
        """Class B with ``gamma`` and the present norm weights."""
        with torch.no_grad():
            eta = self.max_slope.sqrt() if self.log_eta is None else torch.exp(self.log_eta - self.log_eta.max())
        return Claim("B", self.gamma, eta)


class Free(Weight):
    """No certificate: any matrix. The baseline that shows what a certificate costs; may have several equilibria.

    Args as for :class:`NormBounded`; ``gain`` is the standard deviation of the start values times ``sqrt(N)``.

    Example:
        >>> import torch
        >>> Free(4, generator=torch.Generator().manual_seed(0)).claim() is None
        True
    """

    weight_class = "free"

    def __init__(
        self,
        n: int,
        gain: float = START,
        max_slope: Tensor | float = 1.0,
        *,
        generator: torch.Generator,
        symmetric: bool = False,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__(n, max_slope, symmetric, dtype)
        self.w = normal(n, gain, generator, dtype)

    def forward(self) -> Tensor:
        """The parameter itself over the slope bound, or its symmetric part."""
        if not self.symmetric:
            return self.w / self.max_slope[:, None]
        root = self.max_slope.sqrt()
        return 0.5 * (self.w + self.w.mT) / (root[:, None] * root)

    def claim(self) -> None:
        """None: nothing is promised."""
        return


WEIGHT_CLASSES: dict[str, type[NormBounded] | type[NonEuclidean] | type[Monotone] | type[Free]] = {
    "A": NormBounded,
    "B": NonEuclidean,
    "C": Monotone,
    "free": Free,
}
"""Module of each class a design file can name; second argument ``gamma`` (A, B), ``margin`` (C), ``gain`` (free)."""
