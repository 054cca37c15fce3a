"""Weights <-> conductances: differential pairs, the programmable range, and quantisation with its gradient."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from analog_deq.spec import Crossbar, Neuron, Scaling


@dataclass(frozen=True, slots=True)
class ConductanceMapping:
    """w = scale (g_pos - g_neg), scale = R_F z_unit / v_unit; each pair keeps one device at g_min.

    ``scale_ohm`` is one number or (N,), one a column.
    """

    g_min: float
    g_max: float
    levels: int
    scale_ohm: float | Tensor

    @classmethod
    def of(cls, neuron: Neuron, crossbar: Crossbar, r_feedback_ohm: float | None = None) -> ConductanceMapping:
        """Mapping of a design; ``r_feedback_ohm`` replaces its R_F, for an integrator with feedback of its own."""
        scale = (r_feedback_ohm or neuron.r_feedback_ohm) * neuron.z_unit_v / neuron.v_unit_v
        return cls(crossbar.g_min_siemens, crossbar.g_max_siemens, crossbar.levels, scale)

    @property
    def w_max(self) -> float | Tensor:
        """Largest weight the range can hold, of each column where their scales differ."""
        return self.scale_ohm * (self.g_max - self.g_min)

    def scaled(self, share: Tensor | None) -> ConductanceMapping:
        """The mapping with ``share`` (N,) of R_F in each column; itself without."""
        return self if share is None else replace(self, scale_ohm=self.scale_ohm * share)

    def feedback_share(self, w: Tensor, scaling: Scaling) -> Tensor | None:
        """Share (N,) of R_F with which the weights (rows, N) fill the range; None where R_F stays as designed.

        Example:
            >>> mapping = ConductanceMapping(1e-6, 101e-6, 16, 1e4)  # holds weights up to 1
            >>> mapping.feedback_share(torch.tensor([[0.5, -0.2], [0.1, 0.01]]), Scaling(mode="column"))
            tensor([0.5000, 0.2000])
        """
        if scaling.mode == "none":
            return None
        largest = w.detach().abs().amax(0) / (self.w_max * scaling.fill)
        if scaling.mode == "global":
            largest = largest.max().expand_as(largest)
        return largest.clamp(scaling.smallest, 1.0)

    def program(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Programmed (g_pos, g_neg) in siemens, quantised; gradients pass straight through the rounding.

        Weights beyond ``w_max`` saturate, with zero gradient.
        """
        limited = (w / self.scale_ohm).clamp(self.g_min - self.g_max, self.g_max - self.g_min)
        return self._quantise(limited.clamp(min=0)), self._quantise((-limited).clamp(min=0))

    def _quantise(self, above: Tensor) -> Tensor:
        g = self.g_min + above
        if self.levels == 0:
            return g
        step = (self.g_max - self.g_min) / (self.levels - 1)
        rounded = self.g_min + torch.round(above / step) * step
        return g + (rounded - g).detach()


def quantise(value: Tensor, bits: int) -> Tensor:
    """Mid-tread converter over [-1, 1] with 2^bits - 1 codes; clips, and passes gradients straight through."""
    codes = 2 ** (bits - 1) - 1
    rounded = torch.round(value.clamp(-1, 1) * codes) / codes
    return value + (rounded - value).detach()
