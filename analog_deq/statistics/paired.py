"""The drop of accuracy between two networks on the same inputs, with its interval; inputs may be nested in dies."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from analog_deq.statistics.moments import mean_interval
from analog_deq.statistics.samples import Interval, check_confidence, percentile_interval
from analog_deq.statistics.shares import wilson

_FEW_CLUSTERS = 10
"""Below this the percentile bootstrap over dies covers too little, so a t interval over dies is used."""


@dataclass(frozen=True, slots=True)
class PairedDrop:
    """Accuracy of ``a`` minus accuracy of ``b`` on the same inputs, as shares (not points).

    ``a_only`` and ``b_only`` count the inputs that just one of the two gets right; ``p_value`` is McNemar's exact
    two-sided test on them. With clusters the test ignores the clustering, the interval does not.
    """

    drop: float
    interval: Interval
    p_value: float
    n: int
    a_only: int
    b_only: int
    method: str


def paired_drop(
    correct_a: ArrayLike,
    correct_b: ArrayLike,
    *,
    confidence: float = 0.95,
    die: ArrayLike | None = None,
    generator: np.random.Generator | None = None,
    resamples: int = 2000,
) -> PairedDrop:
    """Accuracy drop from ``a`` (software) to ``b`` (hardware) with an interval and McNemar's exact p.

    Without ``die`` the interval is Newcombe's (1998, method 10), which keeps a width when the two never disagree.
    With ``die`` (one label per input) inputs are nested in dies, and the interval comes from resampling whole dies
    with ``generator``; under 10 dies from a t interval over dies. That interval is then widened to hold
    Newcombe's, because dies that all agree show no spread to resample.

    Raises ValueError for unequal lengths, values other than 0/1, fewer than 2 dies, or dies without a generator.
    """
    a, b = _as_correct(correct_a, "correct_a"), _as_correct(correct_b, "correct_b")
    if a.size != b.size or a.size == 0:
        raise ValueError(f"paired_drop needs the same inputs on both sides; got {a.size} and {b.size}")
    check_confidence(confidence)
    a_only, b_only = int(np.sum(a & ~b)), int(np.sum(b & ~a))
    interval, method = _newcombe_paired(a, b, confidence), "Newcombe paired score"
    if die is not None:
        if generator is None:
            raise ValueError("resampling dies needs a seeded generator: pass generator=numpy.random.default_rng(seed)")
        clustered, method = _drop_over_dies(a, b, np.asarray(die).ravel(), confidence, generator, resamples)
        interval = (min(clustered[0], interval[0]), max(clustered[1], interval[1]))
    discordant = a_only + b_only
    p_value = float(stats.binomtest(a_only, discordant, 0.5).pvalue) if discordant else 1.0
    return PairedDrop(float(a.mean() - b.mean()), interval, p_value, a.size, a_only, b_only, method)


def _as_correct(values: ArrayLike, name: str) -> NDArray[np.bool_]:
    array = np.asarray(values).ravel()
    if array.dtype != np.bool_ and not np.isin(array, (0, 1)).all():
        raise ValueError(f"{name} must hold only right (1) or wrong (0); a failed sample is a wrong one")
    return array.astype(np.bool_)


def _newcombe_paired(a: NDArray[np.bool_], b: NDArray[np.bool_], confidence: float) -> Interval:
    n = a.size
    both, neither = int(np.sum(a & b)), int(np.sum(~a & ~b))
    a_only, b_only = int(np.sum(a & ~b)), int(np.sum(b & ~a))
    share_a, share_b = (both + a_only) / n, (both + b_only) / n
    (low_a, high_a), (low_b, high_b) = wilson(both + a_only, n, confidence), wilson(both + b_only, n, confidence)
    cross = float(both * neither - a_only * b_only)
    if cross > 0:
        cross = max(cross - n / 2, 0.0)  # Newcombe's continuity correction, only for a positive association
    scale = math.sqrt((both + a_only) * (b_only + neither) * (both + b_only) * (a_only + neither))
    phi = cross / scale if scale else 0.0

    def half(x: float, y: float) -> float:
        return math.sqrt(max(x * x - 2 * phi * x * y + y * y, 0.0))

    drop = share_a - share_b
    return drop - half(share_a - low_a, high_b - share_b), drop + half(high_a - share_a, share_b - low_b)


def _drop_over_dies(
    a: NDArray[np.bool_],
    b: NDArray[np.bool_],
    die: NDArray[np.generic],
    confidence: float,
    generator: np.random.Generator,
    resamples: int,
) -> tuple[Interval, str]:
    if die.size != a.size:
        raise ValueError(f"die has {die.size} labels for {a.size} inputs; give one label per input")
    _, index = np.unique(die, return_inverse=True)
    sizes = np.bincount(index).astype(np.float64)
    drops = np.bincount(index, weights=a.astype(np.float64) - b.astype(np.float64))
    if sizes.size < 2:
        raise ValueError("one die shows no spread between dies; give at least 2 dies or leave die out")
    if sizes.size < _FEW_CLUSTERS:
        return mean_interval(drops / sizes, confidence), f"t over {sizes.size} dies"
    picks = generator.integers(0, sizes.size, size=(resamples, sizes.size))
    resampled = drops[picks].sum(axis=1) / sizes[picks].sum(axis=1)
    return percentile_interval(resampled, sizes.size, confidence), f"bootstrap over {sizes.size} dies"
