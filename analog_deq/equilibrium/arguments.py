"""What a solve is refused for before it starts, and what is said of one that failed."""

from __future__ import annotations

import warnings
from typing import Literal

import torch
from torch import Tensor

from analog_deq.equilibrium.adjoint import Path
from analog_deq.equilibrium.cell import FunctionSystem, System
from analog_deq.equilibrium.iterate import Result, Settings
from analog_deq.equilibrium.symmetry import row_scaling
from analog_deq.equilibrium.warm import Place
from analog_deq.errors import EquilibriumError

SOLVERS = ("picard", "anderson", "newton", "peaceman_rachford")
NEUTRAL_ASYMMETRY = 3e-3
"""Largest asymmetry, after scaling the rows, up to which a nudged difference counts as the adjoint.

In ngspice 2e-3 (wires of 2 ohm) left an error of 2e-4 of the gradient, 2e-4 (no wires) one of 4e-5
(docs/gradients.md).
"""
NUDGE_RESOLVED = 1e-3
"""Residual of a nudged equilibrium over the nudge, at most."""


class EquilibriumWarning(UserWarning):
    """Some samples of a batch did not converge, and the caller asked to be warned only."""


def check_arguments(
    like: Tensor, z0: Tensor | None, warm: Place | None, tol: float, steps: int, damping: float | None, every: int,
    solver: str, on_fail: str, linearize: str,
) -> None:  # fmt: skip
    if z0 is not None and (z0.shape != like.shape or warm is not None):
        raise EquilibriumError(
            f"equilibrium: z0 has shape {tuple(z0.shape)}, the state {tuple(like.shape)}; they must match, and a warm "
            "start takes its place"
        )
    floor = 8 * torch.finfo(like.dtype).eps
    if not tol >= floor:
        raise EquilibriumError(
            f"equilibrium: tol {tol:.3g} is below {floor:.2g}, the reach of {like.dtype}; use float64"
        )
    if steps < 1 or every < 1 or not (damping is None or 0.0 < damping <= 1.0):
        raise EquilibriumError(
            f"equilibrium: max_iterations {steps} and check_every {every} must be at least 1, "
            f"damping {damping} in (0, 1]"
        )
    for name, value, known in (
        ("on_fail", on_fail, ("raise", "warn", "mask")), ("solver", solver, SOLVERS),
        ("linearize", linearize, ("solved", "measured")),
    ):  # fmt: skip
        if value not in known:
            raise EquilibriumError(f"equilibrium: {name} is {value!r}; use one of {', '.join(known)}")


def check_path(system: System | FunctionSystem, path: Path, solver: str, reads_noise: bool) -> None:
    """EquilibriumError for what is not offered on this kind of system."""
    if isinstance(system, FunctionSystem):
        for what, asked in (
            ("solver='peaceman_rachford'", solver == "peaceman_rachford"), ("adjoint='nudge'", path.kind == "nudge"),
            ("read_noise", reads_noise),
        ):  # fmt: skip
            if asked:
                raise EquilibriumError(f"equilibrium: {what} needs a System, z = act(W z + u); this cell is a function")
    elif path.kind == "nudge":
        _, asymmetry = row_scaling(system.w.detach())
        if asymmetry > NEUTRAL_ASYMMETRY:
            raise EquilibriumError(
                f"equilibrium: adjoint='nudge' is the gradient of a symmetric W only (up to scaled rows); this "
                f"one is asymmetric by {asymmetry:.3g} of its largest entry. Use a symmetric weight class, or another "
                "adjoint"
            )


def nudge_tolerance(tol: float, beta: float, dtype: torch.dtype) -> float:
    """Tolerance of the nudged equilibria: a thousandth of the nudge at most.

    They start at the free state; with a residual below the tolerance from the outset they would stop there, and the
    difference would be that of a few steps, not of two equilibria. EquilibriumError where the type cannot resolve it.
    """
    needed, floor = min(tol, NUDGE_RESOLVED * beta), 8 * torch.finfo(dtype).eps
    if needed < floor:
        raise EquilibriumError(
            f"equilibrium: nudge({beta:g}) needs states to {needed:.2g}, {dtype} reaches {floor:.2g}; use a nudge of "
            f"at least {floor / NUDGE_RESOLVED:.2g}, or float64"
        )
    return needed


def report_failure(
    result: Result, converged: Tensor, run: Settings, like: Tensor, on_fail: Literal["raise", "warn", "mask"]
) -> None:
    if on_fail == "mask":
        return
    text = _failure(result, converged, run, torch.finfo(like.dtype).eps)
    if on_fail == "raise":
        raise EquilibriumError(text)
    warnings.warn(text, EquilibriumWarning, stacklevel=4)


def _failure(result: Result, converged: Tensor, run: Settings, eps: float) -> str:
    count, total = int((~converged).sum()), converged.numel()
    if bool((result.residual <= run.tol).all()):
        first = torch.nonzero(~converged)[0].tolist()
        return f"forward: {count} of {total} samples were not measured, the first is {first}; see what it says of them"
    ranked = torch.nan_to_num(result.residual, nan=float("inf"))
    index = [int(i) for i in torch.unravel_index(ranked.argmax(), ranked.shape)]
    worst = float(result.residual[tuple(index)])
    mend = (
        "raise tol or use float64: this is rounding"
        if worst < 100 * eps
        else "use certified weights, a smaller damping, another solver, more iterations, or on_fail='mask'"
    )
    return (
        f"equilibrium did not converge: sample {index} has residual {worst:.3g} after {result.iterations} iterations "
        f"(tol {run.tol:.3g}, damping {run.damping:.3g}); {count} of {total} samples failed; {mend}"
    )
