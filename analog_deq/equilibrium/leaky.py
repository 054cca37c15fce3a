"""A trainable cell of leaky integrators, with what hardware does to its weights: levels, and frozen mismatch draws.

For experiments without a design file; the pipeline's cell, with its array, op-amps and measured activation, is
:class:`analog_deq.train.models.ProxyModel`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from analog_deq.equilibrium.cell import Activation, System, Tanh
from analog_deq.equilibrium.claim import Claim
from analog_deq.equilibrium.weight import Weight
from analog_deq.errors import EquilibriumError


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Static errors of one die: relative standard deviation of a weight, and that of a pre-activation offset."""

    weight: float = 0.0
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class LeakyDraw:
    """D dies, frozen: relative errors of the weights and offsets of the nodes. The same object serves every solve.

    ``w`` (D, N, N), ``w_input`` (D, N, M), ``offset`` (D, N).
    """

    w: Tensor
    w_input: Tensor
    offset: Tensor


class LeakyCell(nn.Module):
    """``tau dh/dt = -h + W act(h) + W_in x + b``: trainable weights of any class, input weights and bias.

    Args:
        inputs: M.
        weight: a weight module (:mod:`.weights`): ``weight()`` is ``W`` (N, N), ``weight.claim()`` what it promises.
        generator: of the first input weights and bias.
        act: the activation.
        mismatch: what :meth:`sample` draws.
        levels: weights of ``W`` and ``W_in`` are rounded to this many levels over +-(largest), straight through; 0:
        not. tau_s: time constants in seconds, for the certificate's settling time.

    The certificate is that of the matrix that is solved, rounded and drawn: a claim is renewed on it
    (:meth:`Claim.renew`), and dropped when it does not hold any more. The report then says "not certified".

    Example:
        >>> import torch
        >>> from analog_deq.equilibrium.solve import equilibrium
        >>> from analog_deq.equilibrium.weights import NormBounded
        >>> seeded = torch.Generator().manual_seed(0)
        >>> cell = LeakyCell(3, NormBounded(8, 0.9, generator=seeded), seeded, mismatch=Mismatch(weight=0.05))
        >>> draw = cell.sample(seeded, dies=2)
        >>> z, report = equilibrium(cell, torch.zeros(5, 3, dtype=torch.float64), draw=draw)
        >>> tuple(z.shape), report.certified, report.gradient
        ((2, 5, 8), True, 'implicit(same)')
    """

    def __init__(
        self,
        inputs: int,
        weight: Weight,
        generator: torch.Generator,
        *,
        act: Activation | None = None,
        mismatch: Mismatch | None = None,
        levels: int = 0,
        tau_s: float | Tensor | None = None,
    ) -> None:
        super().__init__()
        with torch.no_grad():
            like: Tensor = weight()
        n = like.shape[0]
        self.weight = weight
        self.act: Activation = act or Tanh()
        self.mismatch, self.levels, self.tau_s = mismatch or Mismatch(), levels, tau_s
        if levels == 1 or levels < 0:
            raise EquilibriumError(f"LeakyCell: levels is {levels}; 0 for none, or at least 2")
        scale = inputs**-0.5
        self.w_input = nn.Parameter(scale * torch.randn(n, inputs, generator=generator, dtype=like.dtype))
        self.bias = nn.Parameter(torch.zeros(n, dtype=like.dtype))

    def sample(self, generator: torch.Generator, dies: int = 1) -> LeakyDraw:
        """Errors of ``dies`` dies from an explicit generator; independent normal, relative to each weight."""
        n, m = self.w_input.shape

        def normal(sigma: float, *shape: int) -> Tensor:
            return sigma * torch.randn(dies, *shape, generator=generator, dtype=self.w_input.dtype)

        spread = self.mismatch
        return LeakyDraw(normal(spread.weight, n, n), normal(spread.weight, n, m), normal(spread.offset, n))

    def system(self, x: Tensor, draw: LeakyDraw | None = None) -> System:
        """The system of inputs ``x`` (B, M), on one ideal die or on the D drawn ones."""
        w, w_input, offset = self._rounded(self.weight()), self._rounded(self.w_input), self.bias
        if draw is None:
            u = x @ w_input.T + offset
        else:
            w, w_input = w * (1 + draw.w), w_input * (1 + draw.w_input)
            u = x @ w_input.mT + (offset + draw.offset).unsqueeze(-2)
        claim: Claim | None = self.weight.claim()
        if claim is not None and (draw is not None or self.levels):
            claim = claim.renew(w.detach(), self.act.max_slope)
        return System(w, u, self.act, claim, self.tau_s)

    def _rounded(self, w: Tensor) -> Tensor:
        if not self.levels:
            return w
        step = 2.0 * w.detach().abs().max() / (self.levels - 1)
        return w + (torch.round(w.detach() / step) * step - w.detach())
