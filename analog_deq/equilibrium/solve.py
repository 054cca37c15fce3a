"""Equilibria ``z = f(z)`` of a batch: one call, one solver, one gradient path, and a report on all three.

The circuit is ``tau_i dh_i/dt = -h_i + (W z)_i + u_i``; its rest point does not depend on ``tau``. Damped Picard is the
default: certified cells contract, and nothing else was faster at the sizes of a chip (docs/equilibrium.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from analog_deq.equilibrium.adjoint import (
    AdjointStats,
    Nudged,
    Path,
    Solved,
    attach_dense,
    attach_function,
    attach_unrolled,
)
from analog_deq.equilibrium.arguments import check_arguments, check_path, nudge_tolerance, report_failure
from analog_deq.equilibrium.cell import Cell, FunctionSystem, System
from analog_deq.equilibrium.iterate import Result, Settings, anderson, picard
from analog_deq.equilibrium.newton import newton
from analog_deq.equilibrium.problems import DenseLinearised, FunctionLinearised, FunctionState, Linearised, State
from analog_deq.equilibrium.report import EquilibriumReport
from analog_deq.equilibrium.splitting import peaceman_rachford
from analog_deq.equilibrium.symmetry import row_scaling
from analog_deq.equilibrium.warm import Place
from analog_deq.errors import EquilibriumError

Solver = Literal["picard", "anderson", "newton", "peaceman_rachford"]


class Forward(Protocol):
    """Measures the states of a batch on something else than the proxy: a simulator, a chip.

    Returns (B, N) in the state coordinates of the system, a row of NaN where the measurement failed. ``nudge`` (B, N)
    is added to the pre-activations (None: nothing).
    """

    def __call__(self, x: Any, draw: Any, *, nudge: Tensor | None = None) -> Tensor: ...


ReadNoise = Callable[[System, Tensor, Tensor], Tensor]
"""Additive noise (B, N) of reading states ``z`` at activation slopes ``slope``; carries no gradient."""


def equilibrium(
    cell: Cell,
    x: Any = None,
    *,
    draw: Any = None,
    z0: Tensor | None = None,
    warm: Place | None = None,
    tol: float = 1e-6,
    max_iterations: int = 500,
    damping: float | None = None,
    check_every: int = 4,
    solver: Solver = "picard",
    adjoint: str = "same",
    forward: Forward | None = None,
    linearize: Literal["solved", "measured"] = "solved",
    read_noise: ReadNoise | None = None,
    on_fail: Literal["raise", "warn", "mask"] = "raise",
) -> tuple[Tensor, EquilibriumReport]:
    """The state ``z = f(z)`` of every sample, with its gradient, and a report on how well it was reached.

    Gradients flow to everything the cell's system depends on, by the one path that ``adjoint`` names; never to ``z0``.
    They are attached when grad mode is on and something requires them; there is no train or eval mode. Second order is
    right with ``adjoint="dense"`` and refused with every other.

    With ``forward`` the returned value is what that callable measured. The gradient is then the proxy's: ``dL/dz``
    taken at the measured state, the Jacobian at the proxy's own equilibrium (``linearize="solved"``, half the
    variance under read noise) or at the measured one (``"measured"``).

    Existence, uniqueness and convergence are guaranteed only for certified systems. An uncertified one may have several
    equilibria, of which one is returned; ``report.certified`` says so.

    Args:
        cell: what is solved: a :class:`.System`, a :class:`.FunctionSystem`, or anything with ``system(x, draw)``.
        x: input handed to the cell, (B, M) as a rule.
        draw: frozen sample of the hardware, shared by forward solve, adjoint and report. None: the cell's ideal one.
        z0: starting state, shape of the state; None starts from rest. A stale start costs steps, not accuracy.
        warm: kept states and adjoints of these samples (:class:`.WarmStart`), read and written.
        tol: largest residual accepted, in units of ``z``; relative to ``|v|`` for the adjoint. At least 8 eps.
        max_iterations: step limit, forward and adjoint alike.
        damping: step fraction in (0, 1]; None takes what the claim's class needs (1 for A).
        check_every: steps to the first look at the residual; later looks are predicted.
        solver: ``picard``, ``anderson``, ``newton`` (dense), ``peaceman_rachford`` (class C; dense systems).
        adjoint: ``same`` (the forward's solver, transposed), ``dense``, ``gmres``, ``neumann(k)``, ``unroll(k)``,
            ``nudge(beta)`` (equilibrium propagation, symmetric ``W`` only).
        forward: measures the states instead of the proxy; see :class:`Forward`.
        linearize: where the proxy's Jacobian is taken when ``forward`` is given.
        read_noise: adds a sample of noise where the state is read, without gradient.
        on_fail: "raise"; "mask" to get unconverged samples back, flagged in ``report.converged``; "warn" to be told
            too.

    Returns:
        ``z`` with the shape of ``u``, and the report.

    Raises:
        EquilibriumError: no convergence (worst sample, residual, iterations and mend in the message), a claim that
            does not hold, a path that is not right for this system, or malformed arguments.

    Example:
        >>> import torch
        >>> from analog_deq.equilibrium.cell import Tanh
        >>> z, report = equilibrium(System(torch.tensor([[0.5]]), torch.tensor([[1.0]]), Tanh()))
        >>> round(z.item(), 4), report.gradient, report.certified
        (0.8952, 'none', False)
    """
    path = Path.parse(adjoint)
    system = cell.system(x, draw)
    like = system.u if isinstance(system, System) else system.like
    check_arguments(like, z0, warm, tol, max_iterations, damping, check_every, solver, on_fail, linearize)
    check_path(system, path, solver, read_noise is not None)
    dense = system if isinstance(system, System) else None
    if dense is not None and dense.claim is not None:
        dense.claim.check(dense.w.detach(), dense.act.max_slope)
    run = Settings(tol, max_iterations, _damping(dense, damping), check_every)
    eta, metric = _weights(dense)
    with torch.no_grad():
        problem = State(system, eta) if isinstance(system, System) else FunctionState(system)
        result = _solve(problem, _start(problem, z0, warm, like), run, solver, metric)
        if warm is not None:
            warm.keep(result.z)
        converged = result.residual <= tol
        value, distance = result.z, None
        if forward is not None:
            measured = forward(x, draw).detach()
            if measured.shape != like.shape or measured.dtype != like.dtype:
                raise EquilibriumError(
                    f"forward gave {tuple(measured.shape)} {measured.dtype}; the state is {tuple(like.shape)} "
                    f"{like.dtype}"
                )
            distance = (measured - result.z).square().mean(-1).sqrt()
            converged = converged & torch.isfinite(measured).all(-1)
            value = measured
    failed = None if bool(converged.all()) else ~converged
    if failed is not None:
        report_failure(result, converged, run, like, on_fail)
    at = value if forward is not None and linearize == "measured" else result.z
    # a failed measurement has no place of its own: the proxy's stands in, and no gradient passes through it
    at = at if failed is None else torch.where(torch.isfinite(at), at, torch.nan_to_num(result.z))
    kept = result.whole and at is result.z and solver in ("picard", "peaceman_rachford")
    slope = problem.act.slope(problem.final_h(at, kept)).detach() if isinstance(problem, State) else None
    if failed is not None and slope is not None:
        # their adjoint is exactly zero; a zero slope keeps what is left of them, even NaN, out of the sums
        slope = torch.where(failed.unsqueeze(-1), torch.zeros_like(slope), slope)
    stats = AdjointStats()
    nudged = None
    if path.kind == "nudge":
        finer = replace(run, tol=nudge_tolerance(run.tol, path.number, like.dtype))
        nudged = _nudges(dense, finer, solver, metric, eta, result.z, forward, x, draw)
    scaling = row_scaling(dense.w.detach())[0] if dense is not None and path.kind == "nudge" else None
    solved = Solved(
        at, value, _linearised(system, at, slope), slope, failed, path, solver, run, eta, metric,
        None if dense is None else torch.as_tensor(dense.act.max_slope), nudged, scaling, warm, stats,
    )  # fmt: skip
    z, gradient = _attach(system, solved)
    if read_noise is not None:
        assert dense is not None, "checked above"
        assert slope is not None, "dense systems have slopes"
        z = z + read_noise(dense, at, slope).detach()
    return z, EquilibriumReport(
        converged, result.residual, result.steps, result.iterations, tol, solver, gradient,
        "proxy" if forward is None else "measured", distance, stats, system, result.z,
    )  # fmt: skip


def _solve(problem: State | FunctionState, start: Tensor, run: Settings, solver: str, metric: Tensor | None) -> Result:
    if solver == "newton":
        return newton(problem, start, run)
    if solver == "peaceman_rachford":
        assert isinstance(problem, State), "checked by the caller"
        return peaceman_rachford(problem, start, run, metric)
    return (anderson if solver == "anderson" else picard)(problem, start, run)


def _start(problem: State | FunctionState, z0: Tensor | None, warm: Place | None, like: Tensor) -> Tensor:
    if z0 is not None:
        return z0.detach().to(like).expand_as(like)
    return problem.start() if warm is None else warm.start(like)


def _damping(dense: System | None, asked: float | None) -> float:
    if asked is not None:
        return asked
    if dense is None or dense.claim is None:
        return 1.0
    return dense.claim.damping(dense.w.detach(), dense.act.max_slope)


def _weights(dense: System | None) -> tuple[Tensor | None, Tensor | None]:
    """Norm weights (classes A and B; largest 1, so that bounds read in units of z) and metric (class C)."""
    if dense is None or dense.claim is None:
        return None, None
    weights = dense.claim.weights.detach().to(dense.u)
    return (None, weights) if dense.claim.weight_class == "C" else (weights / weights.max(), None)


def _linearised(system: System | FunctionSystem, at: Tensor, slope: Tensor | None) -> Linearised:
    if isinstance(system, System):
        assert slope is not None, "dense systems have slopes"
        return DenseLinearised(system.w.detach(), slope)
    return FunctionLinearised(system, at)


def _attach(system: System | FunctionSystem, solved: Solved) -> tuple[Tensor, str]:
    """The state with its gradient, and the name of the path."""
    if not torch.is_grad_enabled():
        return solved.value, "none"
    if isinstance(system, System):

        def f(z: Tensor) -> Tensor:
            return system.act.value(torch.matmul(z, system.w.mT) + system.u)

        own = _activation_trains(system, solved.z)
        if not (system.w.requires_grad or system.u.requires_grad or own):
            return solved.value, "none"
        if solved.path.kind == "unroll":
            return attach_unrolled(f, solved), solved.path.name
        if own and solved.path.kind == "nudge":
            raise EquilibriumError(
                "nudge measures dL/du: the activation's own parameters would get no gradient from it"
            )
        return (attach_function(f, solved) if own else attach_dense(system, solved)), solved.path.name
    attach = attach_unrolled if solved.path.kind == "unroll" else attach_function
    z = attach(system.f, solved)
    return z, solved.path.name if z.requires_grad else "none"


def _activation_trains(system: System, z: Tensor) -> bool:
    """Whether the activation's own parameters ask for a gradient."""
    return system.act.value(z[..., :1, :].detach()).requires_grad


def _nudges(
    dense: System | None, run: Settings, solver: str, metric: Tensor | None, eta: Tensor | None, z: Tensor,
    forward: Forward | None, x: Any, draw: Any,
) -> Nudged:  # fmt: skip
    """Equilibria under a nudge: measured by ``forward``, else solved as the free phase was, from its state."""
    if forward is not None:
        return lambda nudge: forward(x, draw, nudge=nudge)
    assert dense is not None, "checked by the caller"

    def solve(nudge: Tensor) -> Tensor:
        pushed = System(dense.w.detach(), dense.u.detach() + nudge, dense.act, dense.claim)
        result = _solve(State(pushed, eta), z, run, solver, metric)
        bad = ~(result.residual <= run.tol)
        return torch.where(bad.unsqueeze(-1), torch.full_like(z, torch.nan), result.z)

    return solve
