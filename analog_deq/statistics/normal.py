"""Statements that hold for normal samples only: tolerance bounds, capability; each with the check it stands on.

"mean + k sd" is a bound of a quantile only with the right k, and only for normal samples. What is not normal is bounded
by its order statistics instead, and where they are too few nothing is stated. A test of normality passes what it cannot
tell from normal: 100 samples of a t distribution with 5 degrees of freedom pass two times in five, and their bound of
99.865 % is then nearly always too low (docs/statistics.md has figures). A heavy tail takes counting, or 300 samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

from analog_deq.statistics.quantiles import quantile_upper_bound
from analog_deq.statistics.samples import check_confidence, finite

THREE_SIGMA = 0.99865
"""Share of a normal quantity below mean + 3 sd."""
SIGNIFICANCE = 0.05
"""A sample whose p is below is not called normal."""
FEW_NORMALITY = 20
"""Samples a test of normality needs to say anything."""
_MANY_SHAPIRO = 5000
"""Royston's p of the Shapiro-Wilk test is calibrated up to here; beyond it D'Agostino and Pearson's is."""

Side = Literal["upper", "lower"]


@dataclass(frozen=True, slots=True)
class Normality:
    """The p-value of a test of normality, its name, and whether the sample may be called normal."""

    p_value: float
    test: str

    @property
    def passed(self) -> bool:
        return self.p_value >= SIGNIFICANCE

    def statement(self) -> str:
        """``Shapiro-Wilk p = 0.42``."""
        return f"{self.test} p = {self.p_value:.2g}"


def normality(samples: ArrayLike) -> Normality | None:
    """Shapiro and Wilk's test (D'Agostino and Pearson's above 5000); None under 20 samples or without spread.

    ValueError for a value that is not finite.
    """
    values = finite(samples, "normality")
    if values.size < FEW_NORMALITY or np.ptp(values) <= 1e-12 * np.abs(values).max():
        return None
    centred = values - values.mean()  # the tests lose digits of a small spread on a large mean
    if values.size > _MANY_SHAPIRO:
        return Normality(float(stats.normaltest(centred).pvalue), "D'Agostino-Pearson")
    return Normality(float(stats.shapiro(centred).pvalue), "Shapiro-Wilk")


def tolerance_factor(n: int, coverage: float = THREE_SIGMA, confidence: float = 0.95) -> float:
    """k such that mean + k sd of ``n`` normal samples exceeds the ``coverage`` quantile with ``confidence``.

    k = t'(confidence; n - 1, z sqrt n) / sqrt n, a quantile of the non-central t (Owen 1968). One-sided.

    >>> [round(tolerance_factor(n), 2) for n in (30, 100, 300, 1000)]
    [3.91, 3.44, 3.24, 3.13]
    """
    check_confidence(confidence)
    if n < 2 or not 0.5 <= coverage < 1.0:
        raise ValueError(f"tolerance factor of n = {n}, coverage {coverage}: need n >= 2 and 0.5 <= coverage < 1")
    z = float(stats.norm.ppf(coverage))
    return float(stats.nct.ppf(confidence, n - 1, z * math.sqrt(n))) / math.sqrt(n)


@dataclass(frozen=True, slots=True)
class ToleranceBound:
    """A bound that ``coverage`` of the population respects, with ``confidence``, and the way it was found.

    ``k`` and ``normality`` are None for a bound from order statistics of samples too few to test.
    """

    value: float
    side: Side
    coverage: float
    confidence: float
    n: int
    k: float | None
    normality: Normality | None

    def statement(self) -> str:
        """How the bound was found, in words for a report."""
        tested = "too few for a normality check" if self.normality is None else self.normality.statement()
        found = "order statistic" if self.k is None else f"mean {'+' if self.side == 'upper' else '-'} {self.k:.2f} sd"
        share = f"{100 * self.coverage:.6g} % {'below' if self.side == 'upper' else 'above'}"
        return f"{share} with {100 * self.confidence:g} %: {found}, n = {self.n}, {tested}"


def tolerance_bound(
    samples: ArrayLike, side: Side = "upper", *, coverage: float = THREE_SIGMA, confidence: float = 0.95
) -> ToleranceBound | None:
    """Bound of the ``coverage`` quantile: mean and k sd where normality passes, else order statistics, else None.

    ``side`` "lower" bounds the 1 - coverage quantile from below. A bound on both sides needs two, each at half the
    error. ValueError for a value that is not finite.
    """
    sign = 1.0 if side == "upper" else -1.0
    values = sign * finite(samples, "tolerance_bound")
    tested = normality(values)
    if tested is not None and tested.passed:
        k = tolerance_factor(values.size, coverage, confidence)
        bound = float(values.mean() + k * values.std(ddof=1))
        return ToleranceBound(sign * bound, side, coverage, confidence, values.size, k, tested)
    ordered = quantile_upper_bound(values, coverage, confidence)
    if ordered is None:
        return None
    return ToleranceBound(sign * ordered, side, coverage, confidence, values.size, None, tested)


@dataclass(frozen=True, slots=True)
class Capability:
    """Cpk and its lower bound, which is None where the samples are not normal or too few to tell."""

    cpk: float
    lower: float | None
    n: int
    normality: Normality | None


def capability(
    samples: ArrayLike, minimum: float | None = None, maximum: float | None = None, confidence: float = 0.95
) -> Capability:
    """Cpk = min(max - mean, mean - min) / (3 sd) with a one-sided lower bound.

    The bound of each limit is exact for normal samples: 3 sqrt(n) Cp is a non-central t with the true value in its
    non-centrality. The smaller of the two bounds holds at least as often as stated.

    Raises ValueError for no limit, fewer than 2 samples, or samples that are all equal.
    """
    check_confidence(confidence)
    values = finite(samples, "capability")
    if minimum is None and maximum is None:
        raise ValueError("capability needs a limit: give minimum, maximum or both")
    sd = float(values.std(ddof=1)) if values.size > 1 else 0.0
    if sd == 0.0:
        raise ValueError(f"capability of {values.size} samples without spread means nothing")
    mean = float(values.mean())
    sides = [*([] if maximum is None else [maximum - mean]), *([] if minimum is None else [mean - minimum])]
    tested = normality(values)
    lower = None
    if tested is not None and tested.passed:
        lower = min(_capability_lower(side / (3 * sd), values.size, confidence) for side in sides)
    return Capability(min(sides) / (3 * sd), lower, values.size, tested)


def _capability_lower(value: float, n: int, confidence: float) -> float:
    """Capability whose estimate exceeds ``value`` with probability 1 - ``confidence``."""
    t = 3 * math.sqrt(n) * value

    def excess(true: float) -> float:
        return float(stats.nct.cdf(t, n - 1, 3 * math.sqrt(n) * true)) - confidence

    error = math.sqrt(1 / (9 * n) + value**2 / (2 * (n - 1)))  # of an estimate (Bissell 1990)
    return float(optimize.brentq(excess, value - 5 * error, value + error))
