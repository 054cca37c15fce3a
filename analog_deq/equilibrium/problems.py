"""The two fixed points of an equilibrium as problems for :mod:`.iterate`: the state's, and the adjoint's.

State: ``z = f(z)``; the residual of a sample is ``max_i |f(z) - z|_i / eta_i``. Adjoint: ``v = g + J^T v`` with ``J``
the Jacobian of ``f`` at the solved state (``D W`` for the circuit); the residual is ``sum_i eta_i |dv_i| / sum_i
eta_i |v_i|``, the dual norm, so that both contract at the same rate, and relative, so that the scale of a loss
changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from analog_deq.equilibrium.cell import FunctionSystem, System
from analog_deq.equilibrium.iterate import Problem

Product = Callable[[Tensor], Tensor]


class State:
    """``z = act(W z + u)``. ``h`` is the pre-activation of the state the last step started from."""

    def __init__(self, system: System, eta: Tensor | None) -> None:
        self.system, self.eta = system, eta
        self.w, self.u, self.act = system.w.detach(), system.u.detach(), system.act
        self._transposed = self.w.mT
        self._affine = torch.addmm if self.w.ndim == 2 else torch.baddbmm
        self._inverse_eta = None if eta is None else 1.0 / eta
        # an activation may return its argument (a linear one does), which the next step must not overwrite
        self.h, self._spare = torch.empty_like(self.u), torch.empty_like(self.u)

    def start(self) -> Tensor:
        """``act(u)``, the first iterate from zero: one matrix product saved."""
        return self.act.value(self.u)

    def step(self, z: Tensor) -> Tensor:
        """``act(W z + u)``."""
        self.h, self._spare = self._spare, self.h
        self._affine(self.u, z, self._transposed, out=self.h)
        return self.act.value(self.h)

    def residual(self, after: Tensor, before: Tensor) -> Tensor:
        """Weighted largest change of each sample."""
        change = (after - before).abs_()
        return (change if self._inverse_eta is None else change.mul_(self._inverse_eta)).amax(-1)

    def narrow(self, index: Tensor) -> State | None:
        """Some of the samples; None with draws, whose batches must stay equally long."""
        if self.u.ndim != 2:
            return None
        return State(System(self.w, self.u[index], self.act), self.eta)

    def final_h(self, z: Tensor, kept: bool) -> Tensor:
        """``W z + u`` of the state an iteration returned; ``kept`` says that the last step started from it."""
        return self.h if kept else torch.matmul(z, self._transposed) + self.u


class FunctionState:
    """``z = f(z)`` for any function, without gradient."""

    def __init__(self, system: FunctionSystem, place: Tensor | None = None) -> None:
        self.system, self.place = system, place

    def start(self) -> Tensor:
        """Zero."""
        return torch.zeros_like(self.system.like)

    def step(self, z: Tensor) -> Tensor:
        """``f(z)``."""
        return self.system.f(z).detach()

    def residual(self, after: Tensor, before: Tensor) -> Tensor:
        """Largest change of each sample."""
        return (after - before).abs_().amax(-1)

    def narrow(self, index: Tensor) -> None:
        """None: a function may hold something for each of its rows."""
        return


class Linearised(Protocol):
    """The Jacobian at the solved state, as the adjoint needs it."""

    def transposed(self, v: Tensor) -> Tensor:
        """``J^T v`` (..., N)."""
        ...

    def matrix(self) -> Tensor:
        """``J`` of every sample (..., N, N)."""
        ...


class DenseLinearised:
    """``J = D W`` with ``D = diag(slope)``."""

    def __init__(self, w: Tensor, slope: Tensor) -> None:
        self.w, self.slope = w, slope

    def transposed(self, v: Tensor) -> Tensor:
        """``W^T D v``."""
        return torch.matmul(v * self.slope, self.w)

    def matrix(self) -> Tensor:
        """``D W`` (..., B, N, N)."""
        return self.slope.unsqueeze(-1) * (self.w if self.w.ndim == 2 else self.w.unsqueeze(-3))


class FunctionLinearised:
    """The Jacobian of a function, by reverse differentiation at one recorded evaluation."""

    def __init__(self, system: FunctionSystem, z: Tensor) -> None:
        self.system, self.z = system, z.detach().requires_grad_()
        self.value: Tensor | None = None

    def transposed(self, v: Tensor) -> Tensor:
        """``J^T v`` by one reverse sweep. The evaluation is recorded at the first."""
        if self.value is None:
            with torch.enable_grad():
                self.value = self.system.f(self.z)
        if not self.value.requires_grad:
            return torch.zeros_like(v)
        (product,) = torch.autograd.grad(self.value, self.z, v, retain_graph=True, allow_unused=True)
        return torch.zeros_like(v) if product is None else product

    def matrix(self) -> Tensor:
        """``J`` row by row, one sweep a node: (B, N, N)."""
        rows = []
        for i in range(self.z.shape[-1]):
            unit = torch.zeros_like(self.z)
            unit[..., i] = 1.0
            rows.append(self.transposed(unit))
        return torch.stack(rows, dim=-2)


class Adjoint:
    """``v = g + J^T v`` with ``g`` scaled to unit size, sample by sample."""

    def __init__(self, linearised: Linearised, g: Tensor, eta: Tensor | None) -> None:
        self.linearised, self.g, self.eta = linearised, g, eta
        self._dense = linearised if isinstance(linearised, DenseLinearised) else None
        if self._dense is not None:
            self._affine = torch.addmm if self._dense.w.ndim == 2 else torch.baddbmm
            self._weighted = torch.empty_like(g)
            # two buffers take turns: the new state never overwrites the one it is compared with
            self._out, self._spare = torch.empty_like(g), torch.empty_like(g)

    def step(self, v: Tensor) -> Tensor:
        """``g + J^T v``."""
        if self._dense is None:
            return self.g + self.linearised.transposed(v)
        self._out, self._spare = self._spare, self._out
        torch.mul(v, self._dense.slope, out=self._weighted)
        self._affine(self.g, self._weighted, self._dense.w, out=self._out)
        return self._out

    def residual(self, after: Tensor, before: Tensor) -> Tensor:
        """Relative change of each sample; a zero gradient stays exactly zero."""
        change, size = weighted_sum(after - before, self.eta), weighted_sum(after, self.eta)
        return change / size.clamp(min=torch.finfo(size.dtype).tiny)

    def narrow(self, index: Tensor) -> Problem | None:
        """Some of the samples of a dense system without draws."""
        if self._dense is None or self._dense.w.ndim != 2:
            return None
        return Adjoint(DenseLinearised(self._dense.w, self._dense.slope[index]), self.g[index], self.eta)


def weighted_sum(v: Tensor, eta: Tensor | None) -> Tensor:
    """``sum_i eta_i |v_i|`` (...,), the dual of the states' norm."""
    return v.abs().sum(-1) if eta is None else v.abs() @ eta
