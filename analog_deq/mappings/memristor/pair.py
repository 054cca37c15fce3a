"""The pair between two amplifiers as a torch function of their difference h and their mean c."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from analog_deq.fit.forms import hermite, monotone_slopes


@dataclass(frozen=True, slots=True)
class PairActivation:
    """``z = sat sig(in_scale h + in_offset, c) + out_offset`` with ``sig(h, c) = sum_m T_m(h) c^m`` of measured tables.

    ``tables`` and ``slopes`` are (M + 1, K), the rest (N,) or scalars. c moves z by body effect, far less than h does.
    """

    start: float
    step: float
    tables: Tensor
    slopes: Tensor
    sat: Tensor
    in_scale: Tensor
    in_offset: Tensor
    out_offset: Tensor

    @classmethod
    def nominal(cls, start: float, step: float, tables: list[list[float]]) -> PairActivation:
        """The pair without mismatch, float64."""
        values = torch.as_tensor(tables, dtype=torch.float64)
        one, zero = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        return cls(start, step, values, torch.stack([monotone_slopes(t, step) for t in values]), one, one, zero, zero)

    def varied(self, sat: Tensor, in_scale: Tensor, in_offset: Tensor, out_offset: Tensor) -> PairActivation:
        """The same tables with the mismatch of each neuron."""
        return replace(self, sat=sat, in_scale=in_scale, in_offset=in_offset, out_offset=out_offset)

    @property
    def reach(self) -> float:
        """Largest |h| of the tables."""
        return min(-self.start, self.start + self.step * (self.tables.shape[1] - 1))

    def evaluate(self, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z, dz/dh and dz/dc at ``h`` and ``c`` (..., N)."""
        inner = self.in_scale * h + self.in_offset
        value, by_h, by_c = torch.zeros_like(h), torch.zeros_like(h), torch.zeros_like(h)
        power, below = torch.ones_like(c), torch.zeros_like(c)  # c^m and m c^(m-1)
        for m, (table, slopes) in enumerate(zip(self.tables, self.slopes, strict=True)):
            t, slope = hermite(inner, self.start, self.step, table, slopes)
            value, by_h, by_c = value + t * power, by_h + slope * power, by_c + t * below
            power, below = power * c, (m + 1) * power
        return self.sat * value + self.out_offset, self.sat * self.in_scale * by_h, self.sat * by_c

    def bounds(self, c_max: float) -> tuple[float, float]:
        """Largest |dz/dh| and |dz/dc| over the tables and |c| <= ``c_max``, 0.1 % up for what is between points."""
        grid = self.start + torch.linspace(0, 1, 8 * self.tables.shape[1], dtype=torch.float64) * self.step * (
            self.tables.shape[1] - 1
        )
        h = grid[:, None].expand(-1, 25)
        c = torch.linspace(-c_max, c_max, 25, dtype=torch.float64).expand(len(grid), -1)
        plain = self.varied(*(torch.as_tensor(v, dtype=torch.float64) for v in (1.0, 1.0, 0.0, 0.0)))
        _, by_h, by_c = plain.evaluate(h, c)
        return 1.001 * float(by_h.abs().max()), 1.001 * float(by_c.abs().max())


def bent(u: Tensor, law: tuple[float, float]) -> Tensor:
    """The read law ``u (1 + a u^2 + b u^4) / (1 + a + b)`` of row voltages in units of the read voltage: 1 at u = 1."""
    a, b = law
    square = u * u
    return u * (1 + square * (a + b * square)) / (1 + a + b)


def bent_slope(u: Tensor, law: tuple[float, float]) -> Tensor:
    """Derivative of :func:`bent`."""
    a, b = law
    square = u * u
    return (1 + square * (3 * a + 5 * b * square)) / (1 + a + b)
