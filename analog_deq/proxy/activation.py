"""The measured activation as a torch function: a monotone cubic table with per-node mismatch."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from analog_deq.errors import OutOfDomainError
from analog_deq.fit.forms import hermite, monotone_slopes
from analog_deq.fit.parameters import Table


@dataclass(frozen=True, slots=True)
class TableActivation:
    """``z = sat sig(in_scale h + in_offset) + out_offset`` with sig the measured table.

    Parameters are tensors of shape (N,) or scalars; beyond the table's ends its end value is held with slope 0.
    :meth:`outside` says which states are there, and :meth:`require_inside` refuses them.
    """

    start: float
    step: float
    values: Tensor
    slopes: Tensor
    sat: Tensor
    in_scale: Tensor
    in_offset: Tensor
    out_offset: Tensor
    max_slope: Tensor = field(init=False)

    def __post_init__(self) -> None:
        grid = torch.linspace(0, 1, 8 * len(self.values), dtype=self.values.dtype)
        dense = self.start + grid * self.step * (len(self.values) - 1)
        steepest = hermite(dense, self.start, self.step, self.values, self.slopes)[1].max()
        # the cubic between dense points is flat at its steepest point; 0.1 % covers the sampling
        object.__setattr__(self, "max_slope", 1.001 * steepest * (self.sat * self.in_scale).abs())

    @classmethod
    def nominal(cls, table: Table) -> TableActivation:
        """The activation without mismatch, float64."""
        values = torch.as_tensor(table.values, dtype=torch.float64)
        one, zero = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        return cls(table.start, table.step, values, monotone_slopes(values, table.step), one, one, zero, zero)

    def varied(self, sat: Tensor, in_scale: Tensor, in_offset: Tensor, out_offset: Tensor) -> TableActivation:
        """The same table with the given mismatch parameters."""
        return TableActivation(self.start, self.step, self.values, self.slopes, sat, in_scale, in_offset, out_offset)

    def _inner(self, h: Tensor) -> tuple[Tensor, Tensor]:
        return hermite(self.in_scale * h + self.in_offset, self.start, self.step, self.values, self.slopes)

    def value(self, h: Tensor) -> Tensor:
        """z for pre-activations ``h`` (..., N)."""
        return self.sat * self._inner(h)[0] + self.out_offset

    def slope(self, h: Tensor) -> Tensor:
        """dz/dh, same shape as ``h``."""
        return self.sat * self.in_scale * self._inner(h)[1]

    def outside(self, h: Tensor) -> Tensor:
        """True where ``h`` lies beyond the calibrated table."""
        inner = self.in_scale * h + self.in_offset
        return (inner < self.start) | (inner > self.start + self.step * (len(self.values) - 1))

    @property
    def end_slopes(self) -> tuple[Tensor, Tensor]:
        """dz/dh between the last two points at the table's low and high end; how flat the curve is where it stops."""
        rise = (self.values[1:] - self.values[:-1]) / self.step
        gain = (self.sat * self.in_scale).abs()
        return gain * rise[0].abs(), gain * rise[-1].abs()

    def require_inside(self, h: Tensor, share: float = 0.0) -> None:
        """OutOfDomainError when more than ``share`` of ``h`` leaves the calibrated range."""
        outside = self.outside(h)
        found = float(outside.double().mean())
        if found > share:
            reach = float(h.abs().max())
            raise OutOfDomainError(
                f"{100 * found:.3g} % of the pre-activations leave the calibrated range [{self.start:.4g}, "
                f"{self.start + self.step * (len(self.values) - 1):.4g}] (largest |h| = {reach:.4g}; "
                f"{100 * share:.3g} % allowed); train with a stronger range penalty or calibrate with a larger h_max"
            )


def numpy_activation(table: Table, h: np.ndarray) -> np.ndarray:
    """Nominal z of ``h`` as NumPy arrays."""
    copied = torch.as_tensor(np.array(h, dtype=np.float64))  # torch warns of the read-only arrays pandas hands out
    return np.asarray(TableActivation.nominal(table).value(copied).numpy())
