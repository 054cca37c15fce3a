"""The gradient of an equilibrium: one path a call, chosen by name, and refused rather than replaced.

With ``z = f(z)``, ``J`` its Jacobian at the solved state and ``g = dL/dz``, the implicit function theorem gives

    (I - J^T) v = g,    and for ``f = act(W z + u)``:   dL/du = q = D v,   dL/dW = q^T z  (summed over samples).

Paths: ``same`` iterates with the forward solver on the transposed system; ``dense`` factorises; ``gmres``;
``neumann(k)`` sums k terms of the inverse (k = 1: Jacobian-free); ``unroll(k)`` differentiates k steps from the
solved state by autograd; ``nudge(beta)`` is equilibrium propagation: ``q`` is *measured* by two further equilibria,
with the gradient added to and taken from ``u`` (Scellier & Bengio 2017, arXiv:1602.05179, with the centred difference
of Laborieux et al. 2021), which equals the adjoint because ``(D^-1 - W)^-1`` is symmetric when ``W`` is.
Source of the implicit form: Bai et al. 2019, arXiv:1909.01377, eq. 3.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from analog_deq.equilibrium.cell import System
from analog_deq.equilibrium.iterate import Result, Settings, anderson, picard
from analog_deq.equilibrium.linear import dense, gmres, neumann
from analog_deq.equilibrium.problems import Adjoint, Linearised, weighted_sum
from analog_deq.equilibrium.splitting import peaceman_rachford_adjoint
from analog_deq.equilibrium.warm import Place
from analog_deq.errors import EquilibriumError

Nudged = Callable[[Tensor], Tensor]
"""Equilibria (B, N) with a nudge (B, N) added to the pre-activations."""

KINDS: dict[str, str] = {
    "same": "", "dense": "", "gmres": "", "neumann": "(k)", "unroll": "(k)", "nudge": "(beta)",
}  # fmt: skip
"""Each path and what it is given."""


@dataclass(frozen=True, slots=True)
class Path:
    """A gradient path: its kind and its number (terms, steps, or amplitude of the nudge)."""

    kind: str
    number: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Path:
        """The path of a name such as ``same`` or ``neumann(5)``; EquilibriumError for any other.

        >>> Path.parse("neumann(5)")
        Path(kind='neumann', number=5.0)
        """
        match = re.fullmatch(r"\s*([a-z]+)\s*(?:\(\s*([0-9.eE+-]+)\s*\))?\s*", text)
        kind, number = (match[1], match[2]) if match else ("", None)
        try:
            value = 0.0 if number is None else float(number)
        except ValueError:
            value = -1.0
        wanted = KINDS.get(kind)
        whole = wanted != "(k)" or value == int(value)
        if wanted is None or bool(wanted) != (number is not None) or (wanted and not (value > 0 and whole)):
            known = ", ".join(f"{name}{given}" for name, given in KINDS.items())
            raise EquilibriumError(f"equilibrium: adjoint is {text!r}; choose one of {known}, numbers positive")
        return cls(kind, value)

    @property
    def name(self) -> str:
        """What the report calls it."""
        if not KINDS[self.kind]:
            return f"implicit({self.kind})"
        return f"{self.kind}({self.number:g})"


@dataclass(slots=True)
class AdjointStats:
    """Filled in by each backward pass (hence mutable); ``runs == 0`` says that none has happened.

    Attributes:
        runs: backward passes so far.
        iterations: steps (or terms, or equilibria) of the latest one.
        residual: worst relative residual ``|g + J^T v - v| / |v|`` of the latest one, weighted 1-norm; not known
            (NaN) for ``unroll`` and ``nudge``, which never form ``v``.
    """

    runs: int = 0
    iterations: int = 0
    residual: float = float("nan")


@dataclass(frozen=True, slots=True)
class Solved:
    """A solved equilibrium, ready to be differentiated.

    Attributes:
        z: the state the gradient is taken at.
        value: the state returned, another one where a circuit was measured.
        linearised: the Jacobian there.
        slope: activation slopes there, None for a general function.
        failed: the samples that failed, or None.
        path, solver, run: how the gradient is computed.
        eta: norm weights (N,), or None.
        metric: diagonal of class C's metric, for the splitting.
        max_slope: slope bound (N,) or scalar, for the splitting.
        nudged: equilibria under a nudge, for ``nudge(beta)``.
        scaling: the rows' scaling that makes ``W`` symmetric (..., N), for ``nudge(beta)``.
    """

    z: Tensor
    value: Tensor
    linearised: Linearised
    slope: Tensor | None
    failed: Tensor | None
    path: Path
    solver: str
    run: Settings
    eta: Tensor | None = None
    metric: Tensor | None = None
    max_slope: Tensor | None = None
    nudged: Nudged | None = None
    scaling: Tensor | None = None
    place: Place | None = None
    stats: AdjointStats = field(default_factory=AdjointStats)


def solve_adjoint(solved: Solved, g: Tensor) -> Tensor:
    """``v`` of ``(I - J^T) v = g`` for every sample (..., N), by the path of ``solved``; carries no gradient itself.

    Raises:
        EquilibriumError: ``g`` is not finite, or some sample misses the tolerance within the step limit (never for
            ``neumann``, which promises none).
    """
    with torch.no_grad():
        # Each sample is scaled to unit size, so that a loss of 1e-30 or 1e+30 runs the very same iteration.
        scale = weighted_sum(g, solved.eta).unsqueeze(-1)
        _require_finite(scale)
        scale = torch.where(scale == 0, torch.ones_like(scale), scale)
        problem = Adjoint(solved.linearised, g / scale, solved.eta)
        result = _solve(solved, problem)
        stats = solved.stats
        stats.runs += 1
        stats.iterations = result.iterations
        stats.residual = float(result.residual.amax())
        if solved.path.kind != "neumann" and not stats.residual <= _bar(solved):
            raise EquilibriumError(_failure(result, solved))
        if solved.place is not None:
            solved.place.keep_adjoint(result.z)
        return result.z * scale


def _solve(solved: Solved, problem: Adjoint) -> Result:
    kind, run = solved.path.kind, solved.run
    if kind == "dense" or (kind == "same" and solved.solver == "newton"):
        return dense(problem)
    if kind == "gmres":
        return gmres(problem, run)
    if kind == "neumann":
        return neumann(problem, int(solved.path.number))
    if solved.solver == "peaceman_rachford":
        assert solved.max_slope is not None, "filled for this solver"
        return peaceman_rachford_adjoint(problem, solved.max_slope, run, solved.metric)
    start = problem.g if solved.place is None else solved.place.adjoint_start(problem.g)
    return (anderson if solved.solver == "anderson" else picard)(problem, start, run)


def _bar(solved: Solved) -> float:
    """Largest residual accepted: a factorisation is held to rounding through its own condition, not to ``tol``."""
    exact = solved.path.kind == "dense" or solved.solver == "newton"
    return max(solved.run.tol, 1e-3) if exact else solved.run.tol


def _require_finite(scale: Tensor) -> None:
    if not bool(torch.isfinite(scale).all()):
        bad = torch.nonzero(~torch.isfinite(scale[..., 0]))[0].tolist()
        raise EquilibriumError(f"adjoint: dL/dz of sample {bad} is not finite; look at the loss of that sample")


def _failure(result: Result, solved: Solved) -> str:
    ranked = torch.nan_to_num(result.residual, nan=float("inf"))
    index = [int(i) for i in torch.unravel_index(ranked.argmax(), ranked.shape)]
    return (
        f"adjoint did not converge: sample {index} has relative residual {float(ranked.amax()):.3g} after "
        f"{result.iterations} iterations ({solved.path.name}, solver {solved.solver}, tol {solved.run.tol:.3g}, "
        f"damping {solved.run.damping:.3g}); no gradient was returned. Use certified weights, adjoint='dense' or "
        "'gmres', more iterations, or float64 for a tighter tol"
    )


def _without_failed(solved: Solved, g: Tensor) -> Tensor:
    """``g`` with exact zeros at failed samples; EquilibriumError when the loss depends on one."""
    if solved.failed is None:
        return g
    if bool((g[solved.failed] != 0).any()):
        raise EquilibriumError(
            f"{int(solved.failed.sum())} samples did not converge, yet the loss depends on them; "
            "leave them out with z[report.converged] before the loss"
        )
    return torch.where(solved.failed.unsqueeze(-1), torch.zeros_like(g), g)


def _refuse_second_order(path: str) -> None:
    if torch.is_grad_enabled():
        raise EquilibriumError(
            f"second-order gradients through an equilibrium are offered by adjoint='dense' alone, not by {path}: "
            "backward was called with create_graph=True"
        )


class _Implicit(torch.autograd.Function):
    """Gives a solved ``z`` of the dense system its gradient in ``w`` and ``u``; saves w, u and z, no graph."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, u: Tensor, system: System, solved: Solved) -> Tensor:
        ctx.solved, ctx.system = solved, system
        ctx.save_for_backward(w, u)
        return solved.value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (g,) = grads
        solved: Solved = ctx.solved
        w, u = ctx.saved_tensors
        if torch.is_grad_enabled() and solved.path.kind == "dense" and solved.failed is None:
            return (*_second_order(w, u, g, ctx.system, solved), None, None)
        _refuse_second_order(solved.path.name)
        g = _without_failed(solved, g)
        z = solved.z
        if solved.path.kind == "nudge":
            q = measure_adjoint(solved, g)
        else:
            assert solved.slope is not None, "dense systems have slopes"
            q = solve_adjoint(solved, g).mul_(solved.slope)
        if solved.failed is not None:
            # zero rows keep what is left of failed samples, even NaN, out of the sums
            zero = torch.zeros_like(q)
            keep = ~solved.failed.unsqueeze(-1)
            q, z = torch.where(keep, q, zero), torch.where(keep, z, zero)
        grad_w = q.mT @ z if ctx.needs_input_grad[0] else None
        return grad_w, q if ctx.needs_input_grad[1] else None, None, None


def _second_order(w: Tensor, u: Tensor, g: Tensor, system: System, solved: Solved) -> tuple[Tensor, Tensor]:
    """The dense adjoint as a differentiable function of ``w``, ``u`` and ``g``: the state is attached once more."""
    z: Tensor = _Implicit.apply(w, u, system, solved)
    slope = system.act.slope(torch.matmul(z, w.mT) + u)
    jacobian = slope.unsqueeze(-1) * (w if w.ndim == 2 else w.unsqueeze(-3))
    eye = torch.eye(w.shape[-1], dtype=w.dtype, device=w.device)
    q = torch.linalg.solve((eye - jacobian).mT, g.unsqueeze(-1)).squeeze(-1) * slope
    solved.stats.runs += 1
    return q.mT @ z, q


def measure_adjoint(solved: Solved, g: Tensor) -> Tensor:
    """``q = dL/du`` (..., N) from two nudged equilibria: ``(z(u + b) - z(u - b)) |g| / (2 beta)``, ``b = beta g/|g|``.

    For ``W = A S`` with ``S`` symmetric, ``A g`` is nudged with and the response divided by ``A`` (:mod:`.symmetry`).
    The nudge's largest entry is ``beta`` in each sample; its error is of order ``beta^2``, and the tolerance of the
    equilibria divided by ``beta``.
    """
    assert solved.nudged is not None, "filled for this path"
    assert solved.scaling is not None, "filled for this path"
    with torch.no_grad():
        a = solved.scaling.unsqueeze(-2)
        g = a * g
        size = g.abs().amax(-1, keepdim=True)
        _require_finite(size)
        size = torch.where(size == 0, torch.ones_like(size), size)
        beta = solved.path.number
        up, down = solved.nudged(beta * g / size), solved.nudged(-beta * g / size)
        solved.stats.runs += 1
        solved.stats.iterations = 2
        q = (up - down) * (size / (2.0 * beta)) / a
        bad = ~torch.isfinite(q).all(-1) & (g != 0).any(-1)
        if bool(bad.any()):
            raise EquilibriumError(
                f"nudge: {int(bad.sum())} samples have no nudged equilibrium, yet the loss depends on them; their "
                "gradient is unknown. Use a smaller beta, or leave them out"
            )
        return torch.where((g != 0).any(-1, keepdim=True), q, torch.zeros_like(q))


class _Hook(torch.autograd.Function):
    """The identity on ``f(z*)`` whose backward turns ``dL/dz`` into ``v``: autograd carries it into all of ``f``."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, solved: Solved) -> Tensor:
        ctx.solved = solved
        return solved.value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        solved: Solved = ctx.solved
        _refuse_second_order(f"{solved.path.name} on this kind of cell")
        return solve_adjoint(solved, _without_failed(solved, grads[0])), None


class _FirstOrder(torch.autograd.Function):
    """The identity, at another value, with a backward that may not be differentiated again."""

    @staticmethod
    def forward(ctx: Any, unrolled: Tensor, solved: Solved) -> Tensor:
        ctx.solved = solved
        return solved.value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        solved: Solved = ctx.solved
        _refuse_second_order(solved.path.name)
        solved.stats.runs += 1
        solved.stats.iterations = int(solved.path.number)
        return _without_failed(solved, grads[0]), None


def attach_dense(system: System, solved: Solved) -> Tensor:
    """The state with its gradient in ``w`` and ``u`` (first order; second too on the dense path)."""
    out: Tensor = _Implicit.apply(system.w, system.u, system, solved)
    return out


def attach_function(f: Callable[[Tensor], Tensor], solved: Solved) -> Tensor:
    """The state with its gradient in whatever ``f`` closes over, first order; without gradient when that is nothing."""
    value = f(solved.z.detach())
    if not value.requires_grad:
        return solved.value
    out: Tensor = _Hook.apply(value, solved)
    return out


def attach_unrolled(f: Callable[[Tensor], Tensor], solved: Solved) -> Tensor:
    """The state with the gradient of ``unroll(k)``: k recorded steps of ``f`` from the solved state."""
    z = solved.z.detach()
    for _ in range(int(solved.path.number)):
        z = f(z)
    if not z.requires_grad:
        return solved.value
    out: Tensor = _FirstOrder.apply(z, solved)
    return out
