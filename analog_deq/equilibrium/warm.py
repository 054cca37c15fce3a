"""States and adjoints of earlier solves, kept by sample, for the next epoch to start from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from analog_deq.errors import EquilibriumError


class WarmStart:
    """Latest state and adjoint of each sample of a data set. A stale start costs steps, never accuracy.

    Args:
        samples: size of the data set.
        states: N.

    Example:
        >>> import torch
        >>> from analog_deq.equilibrium.cell import System, Tanh
        >>> from analog_deq.equilibrium.solve import equilibrium
        >>> warm, index = WarmStart(10, 1), torch.tensor([3])
        >>> cell = System(torch.tensor([[0.9]]), torch.ones(1, 1), Tanh())
        >>> first = equilibrium(cell, warm=warm.at(index))[1].iterations
        >>> equilibrium(cell, warm=warm.at(index))[1].iterations < first
        True
    """

    def __init__(self, samples: int, states: int, *, dtype: torch.dtype = torch.float32, device: str = "cpu") -> None:
        self.z = torch.zeros(samples, states, dtype=dtype, device=device)
        self.v = torch.zeros_like(self.z)

    def at(self, index: Tensor) -> Place:
        """Where the samples ``index`` (B,) of a batch are kept; give it to ``equilibrium(..., warm=)``."""
        return Place(self, index)


@dataclass(frozen=True, slots=True)
class Place:
    """The kept rows of one batch."""

    store: WarmStart
    index: Tensor

    def start(self, like: Tensor) -> Tensor:
        """States to start from, (B, N)."""
        if like.ndim != 2 or like.shape != (len(self.index), self.store.z.shape[1]):
            raise EquilibriumError(
                f"warm start: the batch is {tuple(like.shape)}, {len(self.index)} indices of {self.store.z.shape[1]} "
                "states were given; draws have no warm start"
            )
        return self.store.z[self.index].to(like)

    def keep(self, z: Tensor) -> None:
        """Remember the solved states; a sample that is not finite keeps its old one."""
        good = torch.isfinite(z).all(-1, keepdim=True)
        self.store.z[self.index] = torch.where(good, z.detach().to(self.store.z), self.store.z[self.index])

    def adjoint_start(self, g: Tensor) -> Tensor:
        """Adjoint to start from: the kept one where there is one, else ``g``; both in units of ``|g|``."""
        kept = self.store.v[self.index].to(g)
        return torch.where((kept != 0).any(-1, keepdim=True), kept, g)

    def keep_adjoint(self, v: Tensor) -> None:
        """Remember ``v / |g|``."""
        self.store.v[self.index] = v.detach().to(self.store.v)
