"""Fixed-point iterations on a batch, forward and adjoint alike: damped Picard with mixes, and Anderson.

A :class:`Problem` says what one step is and how far a step still moved each sample. Samples stop by themselves: once
more than half of those at work are done they are taken out, so that one slow sample does not keep a batch busy. The
host looks at the residual only every few steps, at a step predicted from the decay seen so far.

A slow mode costs Picard most of its steps. At a look that finds many steps ahead, the last two steps are therefore
mixed so that the residual becomes least, each sample by itself: Anderson's method with one step of memory, once in a
while (Pratapa et al. 2016, J. Comput. Phys. 306, 43: alternating with plain steps it is as good as at every step).
What is returned is always judged by a plain step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

MEMORY = 5
"""Earlier steps Anderson's method mixes."""
RIDGE = 1e-10
"""Anderson's regulariser relative to the size of the residuals: an absolute one would depend on the loss's scale."""
FARTHEST = 32
"""Most steps between two looks at the residual."""
FEW, WORTH = 3, 4e6
"""Taking samples out and mixing cost some ten small operations each: not done for so few steps to the next look; the
former is, if these are more than so many multiply-adds of a dense system."""
WINDOW = 4
"""Most steps from a mix to the look at what it brought; fewer where it should be the last one."""
GAIN, FAR, FAILURES = math.log(0.5) / WINDOW, 50.0, 3
"""A mix has failed when its window did not halve the residual; it takes a sample at most so many times its last step;
how many may fail."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How an iteration runs; forward and adjoint share one object, so that they cannot drift apart.

    Attributes:
        tol: a sample is done when its residual is at or below this.
        max_iterations: steps after which a sample counts as failed.
        damping: fraction of each step taken, in (0, 1].
        check_every: steps to the first look at the residual.
    """

    tol: float
    max_iterations: int
    damping: float = 1.0
    check_every: int = 4


class Problem(Protocol):
    """``z = step(z)`` for a batch."""

    def step(self, z: Tensor) -> Tensor:
        """One undamped step. Never overwrites ``z``; what it returns is good until the step after the next."""
        ...

    def residual(self, after: Tensor, before: Tensor) -> Tensor:
        """How far a step moved each sample, (B,) or (D, B), in the units of ``Settings.tol``."""
        ...

    def narrow(self, index: Tensor) -> Problem | None:
        """The same problem for some of its samples, None when it can not be taken apart."""
        ...


@dataclass(frozen=True, slots=True)
class Result:
    """Where an iteration ended: a state, and per sample the residual of the step that was measured last.

    Undamped Picard returns what that step made of the state, for free: its own residual is smaller, by ``gamma``
    where the map contracts. Every other iteration returns the state the residual belongs to.

    ``steps`` holds each sample's own count, ``iterations`` the largest. ``whole`` says that all samples ran to the end
    together, so that what the problem remembers of its last step belongs to this state (for undamped Picard: led to
    it).
    """

    z: Tensor
    residual: Tensor
    steps: Tensor
    iterations: int
    whole: bool = True


def picard(problem: Problem, start: Tensor, run: Settings) -> Result:
    """``z <- z + damping (step(z) - z)`` until every sample's residual is at most ``run.tol``.

    A mix has failed when in its window the residual did not halve, or fell slower than by plain steps. Plain steps up
    to the next look follow; after ``FAILURES`` there are no others, so that what a certificate says of convergence
    holds. Nothing is mixed while the residual rises.

    A sample that does not get there is in the result with the residual it ended with; what becomes of it is the
    caller's to decide. A state that went to NaN is given up at the next look.
    """
    z = start
    done: _Gathered | None = None
    k, look, last, first = 0, min(run.check_every, run.max_iterations), (0, math.nan), None
    plain, failures, mixed, moved = -math.inf, 0, False, None
    while True:
        after = problem.step(z)
        k += 1
        if k == 1 < look:
            first = problem.residual(after, z).amax()  # read at the first look, for the decay until then
        if failures < FAILURES and k == look - 1:
            moved = after - z
        if k >= look:
            residual = problem.residual(after, z)
            worst = float(residual.amax())
            if worst <= run.tol or k >= run.max_iterations or (worst != worst and _hopeless(residual, run.tol)):
                steps = torch.full_like(residual, k, dtype=torch.int64)
                ending = after if run.damping == 1.0 else z
                if done is None:
                    return Result(ending.clone() if ending is start else ending, residual, steps, k)
                return done.finish(ending, residual, steps, k)
            if first is not None:
                last, first = (1, float(first)), None
            rate = _rate(k, worst, last)
            failed = mixed and not rate < min(plain, GAIN)
            failures += failed
            plain = plain if mixed else rate
            ahead = _wait(worst, rate, run)
            mixed = not failed and moved is not None and ahead > FEW and rate < 0.0
            look = min(k + (min(ahead // 2, WINDOW) if mixed else ahead), run.max_iterations)
            last = (k, worst)
            finished = residual <= run.tol
            worth = look - k > FEW or (look - k) * z.numel() * z.shape[-1] > WORTH
            if worth and residual.ndim == 1 and len(residual) > 1 and 2 * int(finished.sum()) > len(residual):
                going = torch.nonzero(~finished).squeeze(-1)
                smaller = problem.narrow(going)
                if smaller is not None:
                    done = done or _Gathered(z, residual)
                    done.store(after if run.damping == 1.0 else z, residual, k, going)
                    problem, z, after = smaller, z[going], after[going]
                    moved = None if moved is None else moved[going]
            if mixed:
                assert moved is not None, "checked with mixed"
                z, moved = _mix(z, after - z, moved, run.damping), None
                continue
        z = after if run.damping == 1.0 else torch.lerp(z, after, run.damping)


def _mix(z: Tensor, moved: Tensor, before: Tensor, damping: float) -> Tensor:
    """``z + damping (1 - t) moved``, ``t`` making ``|moved - t (moved - before)|`` least, for each sample.

    ``moved`` and ``before`` are what the last two steps would have changed. Where one real mode is left it is gone
    after this (Aitken); ``t`` is bounded, so that rounding can not throw a sample far.
    """
    change = moved - before
    t = (moved * change).sum(-1, keepdim=True) / (change * change).sum(-1, keepdim=True)
    return torch.addcmul(z, moved, (1.0 - t).nan_to_num_(1.0).clamp_(0.0, FAR), value=damping)


class _Gathered:
    """Results of samples taken out of a running batch, put back in their places at the end."""

    def __init__(self, z: Tensor, residual: Tensor) -> None:
        self.z, self.residual = z.clone(), residual.clone()
        self.steps = torch.zeros_like(residual, dtype=torch.int64)
        self.place = torch.arange(len(residual), device=z.device)

    def store(self, z: Tensor, residual: Tensor, k: int, going: Tensor) -> None:
        """Keep the state of the samples at work as it is now; those in ``going`` go on."""
        self._write(z, residual, torch.full_like(residual, k, dtype=torch.int64))
        self.place = self.place[going]

    def _write(self, z: Tensor, residual: Tensor, steps: Tensor) -> None:
        self.z[self.place], self.residual[self.place], self.steps[self.place] = z, residual, steps

    def finish(self, z: Tensor, residual: Tensor, steps: Tensor, k: int) -> Result:
        """The whole batch."""
        self._write(z, residual, steps)
        return Result(self.z, self.residual, self.steps, k, whole=False)


def anderson(problem: Problem, start: Tensor, run: Settings) -> Result:
    """Anderson's mixing of the last ``MEMORY`` steps, each sample by itself (Walker & Ni 2011, SIAM J. Num. Anal.).

    Minimises ``|sum_k a_k (step(z_k) - z_k)|`` under ``sum a = 1``, then ``z <- sum_k a_k step(z_k)`` (damping mixes in
    the states). No guarantee beyond Picard's: certified cells converge, others may not.
    """
    shape = start.shape
    flat = start.reshape(-1, shape[-1])
    history_z: list[Tensor] = []
    history_f: list[Tensor] = []
    z = flat
    ending: tuple[Tensor, Tensor, Tensor] | None = None
    k = 0
    while True:
        shaped = z.reshape(shape)
        after = problem.step(shaped)
        k += 1
        residual = problem.residual(after, shaped)
        if ending is None:
            ending = shaped.clone(), residual, torch.full_like(residual, k, dtype=torch.int64)
        else:
            # a sample that was done keeps the state it was done at
            fresh = ~(ending[1] <= run.tol)
            ending = (
                torch.where(fresh.unsqueeze(-1), shaped, ending[0]),
                torch.where(fresh, residual, ending[1]),
                torch.where(fresh, torch.full_like(ending[2], k), ending[2]),
            )
        if k % run.check_every == 0 or k >= run.max_iterations:
            worst = float(ending[1].amax())
            if worst <= run.tol or k >= run.max_iterations or (worst != worst and _hopeless(ending[1], run.tol)):
                return Result(*ending, k, whole=False)
        history_z = [*history_z[-MEMORY:], z]
        history_f = [*history_f[-MEMORY:], after.reshape(flat.shape).clone()]
        states, steps = torch.stack(history_z, 1), torch.stack(history_f, 1)
        moved = steps - states
        gram = moved @ moved.mT
        ridge = RIDGE * gram.diagonal(dim1=-2, dim2=-1).amax(-1).clamp(min=torch.finfo(z.dtype).tiny)
        gram = gram + ridge[:, None, None] * torch.eye(gram.shape[-1], dtype=z.dtype, device=z.device)
        weight = torch.linalg.solve_ex(gram, torch.ones_like(gram[..., 0]))[0]
        weight = weight / weight.sum(-1, keepdim=True)
        mixed = (weight.unsqueeze(1) @ (states + run.damping * moved)).squeeze(1)
        # a singular mix (all residuals alike) is replaced by the plain step
        good = torch.isfinite(mixed).all(-1, keepdim=True)
        z = torch.where(good, mixed, torch.lerp(states[:, -1], steps[:, -1], run.damping))


def _hopeless(residual: Tensor, tol: float) -> bool:
    """Whether no finite sample can still improve: one that went to NaN will not come back."""
    return bool(((residual <= tol) | residual.isnan()).all())


def _rate(k: int, worst: float, last: tuple[int, float]) -> float:
    """Logarithmic decay of the residual per step since the last look, negative; nan when it did not fall."""
    if not (math.isfinite(worst) and 0 < worst < last[1]):
        return math.nan
    return math.log(worst / last[1]) / (k - last[0])


def _wait(worst: float, rate: float, run: Settings) -> int:
    """Steps until the residual should have fallen to the tolerance."""
    if math.isnan(rate):
        return run.check_every
    needed = math.ceil(math.log(run.tol / worst) / rate - 1e-9)
    return max(1, min(needed, FARTHEST))
