"""What the trainable weight classes share: the module they derive from, and how they start."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from analog_deq.equilibrium.claim import Claim
from analog_deq.equilibrium.parametrise import slopes
from analog_deq.errors import EquilibriumError

START = 0.5
"""Standard deviation of the start values of ``W``, times ``sqrt(N)``, slopes folded in."""


class Weight(nn.Module):
    """What the classes share: size, folded slope bounds, whether ``W`` is kept symmetric."""

    weight_class: ClassVar[Literal["A", "B", "C", "free"]]
    max_slope: Tensor

    def __init__(self, n: int, max_slope: Tensor | float, symmetric: bool, dtype: torch.dtype) -> None:
        super().__init__()
        if n < 1:
            raise EquilibriumError(f"{type(self).__name__}: n is {n}; a network has at least one node")
        self.n, self.symmetric = n, symmetric
        like = torch.empty(n, n, dtype=dtype)
        self.register_buffer("max_slope", slopes(type(self).__name__, max_slope, like).clone())

    def forward(self) -> Tensor:
        """``W`` (N, N), pre-activation per state, differentiable in the parameters."""
        raise NotImplementedError

    def claim(self) -> Claim | None:
        """The certificate ``W`` holds for activations within ``max_slope``; None when there is none."""
        raise NotImplementedError


def normal(n: int, scale: float, generator: torch.Generator, dtype: torch.dtype) -> nn.Parameter:
    """Parameter (N, N) of standard deviation ``scale / sqrt(N)``."""
    return nn.Parameter(scale / n**0.5 * torch.randn(n, n, generator=generator, dtype=dtype))
