"""How master and slave share their charge, the pair's gate among it: one period of the hold, and the share it takes.

The slave's node holds C_S and the activation's gate capacitance, which falls as the pair saturates. With rho(w) =
(C_S + C_gate(w)) / C_M conservation of charge is, in units of the pre-activation,

    w' + Q(w') = h + Q(w),    Q(w) = integral of rho from 0 to w

and w' = (1 - a) w + a h with a = 1 / (1 + rho) only where rho is constant. rho is piecewise linear, on the grid of the
fit; beyond it, constant.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from analog_deq.fit.parameters import Table

NEWTON = 4
"""Steps from w' of the share at w: rho changes by a few hundredths, so that the second is at round-off."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """rho on a uniform grid of w, float64."""

    start: float
    step_w: float
    rho: Tensor

    @classmethod
    def of(cls, table: Table) -> Sharing:
        """Sharing of a fitted table of rho."""
        return cls(table.start, table.step, torch.as_tensor(table.values, dtype=torch.float64))

    def ratio(self, w: Tensor) -> Tensor:
        """rho at held pre-activations ``w``, any shape."""
        k, t = self._place(w)
        return self.rho[k] + t.clamp(0, 1) * (self.rho[k + 1] - self.rho[k])

    def share(self, w: Tensor) -> Tensor:
        """Share a of a small step that a period takes at ``w``."""
        return 1 / (1 + self.ratio(w))

    def charge(self, w: Tensor) -> Tensor:
        """Q at ``w``, up to a constant."""
        k, t = self._place(w)
        whole = self.step_w * torch.cat([self.rho.new_zeros(1), torch.cumsum((self.rho[1:] + self.rho[:-1]) / 2, 0)])
        inside, low, rise = t.clamp(0, 1), self.rho[k], self.rho[k + 1] - self.rho[k]
        beyond = (t - inside) * (low + inside * rise)
        return whole[k] + self.step_w * (inside * low + inside**2 / 2 * rise + beyond)

    def period(self, w: Tensor, h: Tensor) -> Tensor:
        """Held pre-activations one period on from ``w``, when the amplifier delivers ``h``."""
        right = h + self.charge(w)
        new = w + self.share(w) * (h - w)
        for _ in range(NEWTON):
            new = new - (new + self.charge(new) - right) / (1 + self.ratio(new))
        return new

    def _place(self, w: Tensor) -> tuple[Tensor, Tensor]:
        position = (w - self.start) / self.step_w
        k = position.floor().clamp(0, len(self.rho) - 2).long()
        return k, position - k
