"""What every statistic asks of its samples, and the bootstrap's percentile interval."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Interval = tuple[float, float]


def check_confidence(confidence: float) -> None:
    """Nothing; ValueError unless ``confidence`` is a share between 0 and 1."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence is {confidence}; write a share between 0 and 1, such as 0.95")


def check_count(k: int, n: int) -> None:
    """Nothing; ValueError unless ``k`` of ``n`` is possible."""
    if n < 0 or not 0 <= k <= n:
        raise ValueError(f"{k} passes of {n} samples is impossible; need 0 <= k <= n")


def finite(samples: ArrayLike, name: str) -> NDArray[np.float64]:
    """``samples`` as one flat array; ValueError naming ``name`` when one is not finite."""
    values = np.asarray(samples, dtype=np.float64).ravel()
    if not np.all(np.isfinite(values)):
        raise ValueError(
            f"{name}: {int(np.sum(~np.isfinite(values)))} of {values.size} values are not finite; "
            "count failed samples separately, a statistic over them means nothing"
        )
    return values


def percentile_interval(resampled: NDArray[np.float64], n: int, confidence: float) -> Interval:
    """Expanded percentile interval (Hesterberg 2015): as wide for small ``n`` as a t interval would be."""
    t = stats.t.ppf(0.5 + confidence / 2.0, n - 1) * math.sqrt(n / (n - 1))
    tail = float(stats.norm.cdf(-t))
    low, high = np.quantile(resampled, [tail, 1.0 - tail])
    return float(low), float(high)
