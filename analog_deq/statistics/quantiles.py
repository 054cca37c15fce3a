"""Bounds of quantiles from order statistics, free of any distribution."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from analog_deq.statistics.samples import Interval, check_confidence, finite
from analog_deq.statistics.shares import dies_needed


def quantile_upper_bound(samples: ArrayLike, q: float, confidence: float = 0.95) -> float | None:
    """Upper bound of the ``q`` quantile from order statistics, free of any distribution; None when n is too small.

    >>> quantile_upper_bound(range(58), 0.95) is None, quantile_upper_bound(range(59), 0.95)
    (True, 58.0)
    """
    check_confidence(confidence)
    if not 0.0 < q < 1.0:
        raise ValueError(f"q is {q}; write a share between 0 and 1")
    values = np.sort(finite(samples, "quantile_upper_bound"))
    n = values.size
    # P(the r-th smallest >= quantile) = P(Binomial(n, q) <= r - 1); take the smallest r that reaches the confidence.
    reached = stats.binom.cdf(np.arange(n), n, q) >= confidence
    return float(values[int(np.argmax(reached))]) if reached.any() else None


def quantile_interval(samples: ArrayLike, q: float, confidence: float = 0.95) -> Interval | None:
    """Two-sided order-statistic interval of the ``q`` quantile; None when n is too small for either edge."""
    values = finite(samples, "quantile_interval")
    one_sided = 0.5 + confidence / 2.0
    high = quantile_upper_bound(values, q, one_sided)
    low = quantile_upper_bound(-values, 1.0 - q, one_sided)
    return None if high is None or low is None else (-low, high)


def samples_for_quantile(q: float, confidence: float = 0.95) -> int:
    """Fewest samples whose largest is an upper bound of the ``q`` quantile: 1 - q^n >= confidence (Wilks 1941).

    The same number as the dies that show a yield of ``q`` without a fail.

    >>> samples_for_quantile(0.95), samples_for_quantile(0.99), samples_for_quantile(0.99865)
    (59, 299, 2218)
    """
    return dies_needed(q, confidence)
