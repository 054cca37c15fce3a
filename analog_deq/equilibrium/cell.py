"""What is solved: a cell gives, for one batch and one frozen draw of the hardware, the system ``z = f(z)``.

Two kinds of system. :class:`System` is the circuit's, ``z = act(W z + u)`` with a dense matrix: fast, every solver,
every adjoint. :class:`FunctionSystem` is any torch function of the state, differentiated by autograd: a cell of your
own in a few lines.

Example: a gated cell that is no ``act(W z + u)``
    >>> import torch
    >>> from analog_deq.equilibrium.solve import equilibrium
    >>> class Gated(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.w = torch.nn.Parameter(0.3 * torch.eye(2))
    ...     def system(self, x, draw=None):
    ...         return FunctionSystem(lambda z: torch.tanh(z @ self.w + x) * torch.sigmoid(x), x)
    >>> cell = Gated()
    >>> z, report = equilibrium(cell, torch.ones(5, 2))
    >>> z.sum().backward()
    >>> report.gradient, tuple(cell.w.grad.shape)
    ('implicit(same)', (2, 2))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from analog_deq.equilibrium.claim import Claim
from analog_deq.errors import EquilibriumError


class Activation(Protocol):
    """An elementwise activation; per-node parameters broadcast over the batch. Must be pure and stateless."""

    @property
    def max_slope(self) -> Tensor | float:
        """Bound on ``|slope|``, a number or (N,)."""
        ...

    def value(self, h: Tensor) -> Tensor:
        """``act(h)``, same shape as ``h`` (..., N)."""
        ...

    def slope(self, h: Tensor) -> Tensor:
        """``d act / d h``, elementwise, same shape as ``h`` (..., N)."""
        ...


@dataclass(frozen=True, slots=True)
class Tanh:
    """The ideal activation ``z = tanh(h)``: slopes in (0, 1], full scale 1.

    In float32 on a CPU, without gradient, it is taken as ``2 sigmoid(2 h) - 1``: four times faster there, and within
    3e-7 of tanh.

    Example:
        >>> import torch
        >>> Tanh().slope(torch.zeros(1)).item()
        1.0
    """

    max_slope: float = field(default=1.0, init=False)

    def value(self, h: Tensor) -> Tensor:
        """``tanh(h)``."""
        if h.dtype != torch.float32 or h.device.type != "cpu" or (h.requires_grad and torch.is_grad_enabled()):
            return torch.tanh(h)
        return torch.add(h, h).sigmoid_().mul_(2.0).sub_(1.0)

    def slope(self, h: Tensor) -> Tensor:
        """``1 - tanh(h)^2``."""
        z = self.value(h)
        return 1.0 - z * z


@dataclass(frozen=True, slots=True)
class HardClip:
    """The projection onto [-1, 1]: with it a class-C cell solves a box-constrained quadratic programme exactly.

    Example:
        >>> import torch
        >>> HardClip().value(torch.tensor([-3.0, 0.5])).tolist()
        [-1.0, 0.5]
    """

    max_slope: float = field(default=1.0, init=False)

    def value(self, h: Tensor) -> Tensor:
        """``min(max(h, -1), 1)``."""
        return h.clamp(-1.0, 1.0)

    def slope(self, h: Tensor) -> Tensor:
        """1 inside, 0 at the bounds and beyond."""
        return (h.abs() < 1.0).to(h.dtype)


@dataclass(frozen=True, slots=True)
class System:
    """``z = act(W z + u)`` for one batch on one draw (or on D draws at once).

    Attributes:
        w: (N, N), or (D, N, N) for D frozen draws of the hardware; pre-activation per state.
        u: (B, N), or (D, B, N) with draws; pre-activation units.
        act: the activation.
        claim: the certificate that ``w`` is said to hold; checked against ``w`` at every solve, never trusted. None
            says "not certified": no error bound is given then.
        tau_s: time constants (N,) or a number, in seconds, for the certificate's settling time; None: not known.
        second_pole_s: time constant of the parasitic pole of each node, for its stability check; None: not known.
    """

    w: Tensor
    u: Tensor
    act: Activation
    claim: Claim | None = None
    tau_s: Tensor | float | None = None
    second_pole_s: Tensor | float | None = None

    def __post_init__(self) -> None:
        w, u = self.w, self.u
        n = u.shape[-1] if u.ndim else 0
        single, draws = u.ndim == 2 and w.shape == (n, n), u.ndim == 3 and w.shape == (u.shape[0], n, n)
        if not (single or draws) or u.numel() == 0:
            raise EquilibriumError(
                f"equilibrium needs w (N, N) with u (B, N), or w (D, N, N) with u (D, B, N), none empty; "
                f"got w {tuple(w.shape)} and u {tuple(u.shape)}"
            )
        if w.dtype != u.dtype or not u.is_floating_point() or w.device != u.device:
            raise EquilibriumError(
                f"equilibrium: w is {w.dtype} on {w.device}, u is {u.dtype} on {u.device}; convert one explicitly"
            )

    def system(self, x: Tensor | None = None, draw: Any = None) -> System:
        """Itself: a system already is a cell whose input and draw are decided."""
        return self

    def preactivation(self, z: Tensor) -> Tensor:
        """``h = W z + u`` (..., N)."""
        return z @ self.w.mT + self.u


@dataclass(frozen=True, slots=True)
class FunctionSystem:
    """``z = f(z)`` for any torch function; what it closes over gets its gradient by autograd.

    Attributes:
        f: (B, N) -> (B, N), acting on each row by itself. Pure: the same result every time it is called.
        like: a tensor (B, N) with the shape, type and device of the state.
    """

    f: Callable[[Tensor], Tensor]
    like: Tensor

    def __post_init__(self) -> None:
        if self.like.ndim != 2 or self.like.numel() == 0 or not self.like.is_floating_point():
            raise EquilibriumError(f"equilibrium: the state must be (B, N) and floating, got {tuple(self.like.shape)}")

    def system(self, x: Tensor | None = None, draw: Any = None) -> FunctionSystem:
        """Itself."""
        return self


class Cell(Protocol):
    """Anything with a system: one call per solve, so that parameters, draws and inputs are evaluated once.

    ``draw`` is a frozen sample of the hardware that the cell itself defined (None: ideal). The system is used by the
    forward solve, the adjoint and the report alike, which is how one draw is shared by all of them.
    """

    def system(self, x: Tensor, draw: Any = None) -> System | FunctionSystem: ...
