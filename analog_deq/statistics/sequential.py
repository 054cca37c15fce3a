"""A yield claim judged while dies come in: exact group-sequential bounds whose error rates do not grow with the looks.

Looking at the Clopper-Pearson bound after every few dies, and stopping when it clears the limit, passes a bad circuit
far more often than stated. Here the error is spent over the looks (Lan and DeMets 1983): by the k-th look at most
alpha (n_k / N)^1.5 of it, counted exactly over all paths of the number of fails, separately for passing and for failing
wrongly. The looks are fixed beforehand, at most N dies are drawn, and what is not decided by then is inconclusive.

Why not a confidence sequence that holds at every die forever: it saves error for dies that a campaign never draws. For
90 % on 100 dies a mixture over all higher yields first passes at 43 dies and allows 2 fails at 100; this plan passes at
45 and allows the 4 of the fixed test. Wald's test against one alternative has neither an end nor bounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from analog_deq.statistics.samples import Interval, check_confidence
from analog_deq.statistics.shares import dies_needed

Array = NDArray[np.float64]
Decision = Literal["pass", "fail", "undecided"]
LOOKS = 20
"""Looks of a campaign, equally far apart."""
SPENDING_POWER = 1.5
"""Share of the error spent by the k-th look: (n_k / N) to this power."""


@dataclass(frozen=True, slots=True)
class SequentialResult:
    """What the dies so far decide of a yield, with one-sided bounds that hold in spite of the looks.

    ``dies`` had been judged at the look that decided, ``fails`` of them failing; at the last look if none did.
    """

    decision: Decision
    dies: int
    fails: int
    planned: int
    bounds: Interval
    confidence: float

    @property
    def stop(self) -> bool:
        """Whether further dies cannot change the decision."""
        return self.decision != "undecided" or self.dies >= self.planned

    def statement(self) -> str:
        """One sentence for a report."""
        level = 100 * (1 - self.confidence)
        ended = "undecided" if self.decision == "undecided" else f"decided ({self.decision})"
        return (
            f"{ended} after {self.dies} of {self.planned} planned dies, {self.fails} failing; looks fixed beforehand, "
            f"error spent exactly: a wrong pass or a wrong fail at most {level:.3g} % each"
        )


@dataclass(frozen=True)
class SequentialPlan:
    """Limits of the number of fails at each look. Made by :meth:`of`.

    ``pass_up_to`` fails pass at a look (-1: too early to pass), ``fail_from`` fails fail (n + 1: too early to fail).
    """

    target: float
    confidence: float
    looks: tuple[int, ...]
    pass_up_to: tuple[int, ...]
    fail_from: tuple[int, ...]

    @classmethod
    def of(
        cls, target: float, dies: int, confidence: float = 0.95, looks: Sequence[int] | None = None
    ) -> SequentialPlan:
        """The plan of at most ``dies`` dies for the claim that the yield is at least ``target``.

        ``looks`` are the numbers of dies after which it is judged; by default 20, equally far apart. ValueError for a
        target or confidence outside (0, 1), no dies, or looks that do not grow to ``dies``.
        """
        check_confidence(confidence)
        if not 0.0 < target < 1.0 or dies < 1:
            raise ValueError(f"yield target {target} on {dies} dies; need 0 < target < 1 and at least one die")
        count = min(LOOKS, dies)
        planned = tuple(looks or [math.ceil(dies * k / count) for k in range(1, count + 1)])
        if planned[0] < 1 or planned[-1] != dies or any(a >= b for a, b in pairwise(planned)):
            raise ValueError(f"looks {planned} must grow from 1 or more to the {dies} planned dies")
        alpha = 1.0 - confidence
        passing, failing = [], []
        spent_pass = spent_fail = 0.0
        going, before = np.ones(1), 0
        for n in planned:
            going, before = _further(going, n - before, 1.0 - target), n
            allowed = alpha * (n / dies) ** SPENDING_POWER
            low, high = np.cumsum(going), np.cumsum(going[::-1])[::-1]
            passes = int(np.searchsorted(low, allowed - spent_pass, side="right")) - 1
            fails = int(np.sum(high > allowed - spent_fail))
            fails = max(fails, passes + 1)
            spent_pass += float(going[: passes + 1].sum())
            spent_fail += float(going[fails:].sum())
            going = _continuing(going, passes, fails)
            passing.append(passes)
            failing.append(fails)
        return cls(target, confidence, planned, tuple(passing), tuple(failing))

    @cached_property
    def fewest_to_pass(self) -> int | None:
        """Dies after which it first passes, none failing; None when even all planned dies cannot."""
        return next((n for n, c in zip(self.looks, self.pass_up_to, strict=True) if c >= 0), None)

    def judge(self, passed: ArrayLike) -> SequentialResult:
        """What dies (in the order they were drawn, True where one passes) decide, at the looks they reach.

        Dies beyond the look that decided do not count: they were drawn for another claim.
        """
        fails = np.cumsum(~np.asarray(passed, dtype=bool))
        reached = [k for k, n in enumerate(self.looks) if n <= fails.size]
        for k in reached:
            f = int(fails[self.looks[k] - 1])
            if f <= self.pass_up_to[k] or f >= self.fail_from[k]:
                return self._result("pass" if f <= self.pass_up_to[k] else "fail", k, f)
        if not reached:
            planned = self.looks[-1]
            return SequentialResult("undecided", 0, 0, planned, (0.0, 1.0), self.confidence)
        return self._result("undecided", reached[-1], int(fails[self.looks[reached[-1]] - 1]))

    def decided(self, share: float) -> tuple[float, float, float]:
        """Probabilities of pass and of fail, and the mean number of dies, at a true yield ``share``. Exact."""
        pass_share = fail_share = mean = 0.0
        going, before = np.ones(1), 0
        for n, low, high in zip(self.looks, self.pass_up_to, self.fail_from, strict=True):
            going, before = _further(going, n - before, 1.0 - share), n
            passing, failing = float(going[: low + 1].sum()), float(going[high:].sum())
            pass_share, fail_share, mean = pass_share + passing, fail_share + failing, mean + n * (passing + failing)
            going = _continuing(going, low, high)
        return pass_share, fail_share, mean + self.looks[-1] * float(going.sum())

    def _result(self, decision: Decision, k: int, fails: int) -> SequentialResult:
        return SequentialResult(
            decision, self.looks[k], fails, self.looks[-1], _bounds(self, k, fails), self.confidence
        )


@lru_cache(maxsize=4096)
def _bounds(plan: SequentialPlan, k: int, fails: int) -> Interval:
    """One-sided bounds by stagewise ordering: passing earlier is better, failing earlier worse (Armitage 1957)."""
    alpha = 1.0 - plan.confidence

    def tails(share: float) -> tuple[float, float]:
        """Probabilities of an outcome at least as good, and at least as bad, at a true yield ``share``."""
        better = worse = 0.0
        going, before = np.ones(1), 0
        for j in range(k + 1):
            going, before = _further(going, plan.looks[j] - before, 1.0 - share), plan.looks[j]
            low, high = plan.pass_up_to[j], plan.fail_from[j]
            if j < k:
                better += float(going[: low + 1].sum())
                worse += float(going[high:].sum())
                going = _continuing(going, low, high)
        return better + float(going[: fails + 1].sum()), worse + float(going[fails:].sum())

    n = plan.looks[k]
    lower = 0.0 if fails == n else optimize.brentq(lambda p: tails(p)[0] - alpha, 1e-12, 1 - 1e-12)
    upper = 1.0 if fails == 0 else optimize.brentq(lambda p: tails(p)[1] - alpha, 1e-12, 1 - 1e-12)
    return float(lower), float(upper)


def sequential_dies_needed(target: float, dies: int, confidence: float = 0.95) -> int:
    """Dies a plan of ``dies`` needs to pass without a fail; where it cannot, those that a fixed number needs.

    >>> sequential_dies_needed(0.9, 100), sequential_dies_needed(0.99865, 2218), sequential_dies_needed(0.99, 100)
    (45, 2218, 299)
    """
    return SequentialPlan.of(target, dies, confidence).fewest_to_pass or dies_needed(target, confidence)


def _further(going: Array, dies: int, fail: float) -> Array:
    """Distribution of fails after ``dies`` more dies."""
    return np.convolve(going, stats.binom.pmf(np.arange(dies + 1), dies, fail))


def _continuing(going: Array, passes: int, fails: int) -> Array:
    """The distribution without the paths that ended."""
    left = going.copy()
    left[: passes + 1] = 0.0
    left[fails:] = 0.0
    return left
