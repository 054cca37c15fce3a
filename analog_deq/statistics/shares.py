"""Shares, such as a yield: exact bounds for gates, the score interval for display, and the dies a claim needs."""

from __future__ import annotations

import math

from scipy import stats

from analog_deq.statistics.samples import Interval, check_confidence, check_count


def clopper_pearson(k: int, n: int, confidence: float = 0.95) -> Interval:
    """Two-sided exact interval of a share, ``k`` passes of ``n``. No samples gives (0, 1).

    >>> clopper_pearson(0, 0)
    (0.0, 1.0)
    """
    check_count(k, n)
    check_confidence(confidence)
    tail = (1.0 - confidence) / 2.0
    return _share_lower(k, n, tail), 1.0 - _share_lower(n - k, n, tail)


def clopper_pearson_lower(k: int, n: int, confidence: float = 0.95) -> float:
    """One-sided exact lower bound of a share: what a yield gate compares with its limit.

    >>> round(clopper_pearson_lower(30, 30), 3)
    0.905
    """
    check_count(k, n)
    check_confidence(confidence)
    return _share_lower(k, n, 1.0 - confidence)


def clopper_pearson_upper(k: int, n: int, confidence: float = 0.95) -> float:
    """One-sided exact upper bound of a share; a yield whose bound is under the limit has failed for certain."""
    return 1.0 - clopper_pearson_lower(n - k, n, confidence)


def _share_lower(k: int, n: int, tail: float) -> float:
    if k == 0:
        return 0.0
    return float(stats.beta.ppf(tail, k, n - k + 1))


def wilson(k: int, n: int, confidence: float = 0.95) -> Interval:
    """Two-sided Wilson score interval of a share: for display. Gates use :func:`clopper_pearson_lower`.

    >>> tuple(round(edge, 3) for edge in wilson(95, 100))
    (0.888, 0.978)
    """
    check_count(k, n)
    check_confidence(confidence)
    if n == 0:
        return 0.0, 1.0
    z = float(stats.norm.ppf(0.5 + confidence / 2.0))
    share = k / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # Rounding can leave the edge at an extreme share a hair off the exact 0 or 1.
    return (0.0 if k == 0 else centre - half), (1.0 if k == n else centre + half)


def dies_needed(yield_target: float, confidence: float = 0.95, fails: int = 0) -> int:
    """Fewest dies whose one-sided lower bound reaches ``yield_target`` with ``fails`` failing dies among them.

    >>> dies_needed(0.95), dies_needed(0.99), dies_needed(0.99865)
    (59, 299, 2218)
    """
    check_confidence(confidence)
    if not 0.0 < yield_target < 1.0:
        raise ValueError(f"yield target is {yield_target}; no finite sample proves 100 %, write a share below 1")
    if fails < 0:
        raise ValueError(f"fails is {fails}; a count cannot be negative")

    def enough(n: int) -> bool:
        return clopper_pearson_lower(n - fails, n, confidence) >= yield_target

    high = fails + 1
    while not enough(high):
        high *= 2
    low = fails
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
