"""Confidence statements for sign-off: shares, paired drops, quantiles, means and spreads.

Every function takes plain arrays and returns plain numbers or a small frozen record. Randomness enters only through
a ``numpy.random.Generator`` handed in. Bad input raises ValueError; a statement that the sample is too small to make
comes back as None, never as a number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Interval = tuple[float, float]

_FEW_CLUSTERS = 10
"""Below this the percentile bootstrap over dies covers too little, so a t interval over dies is used."""


def _check_confidence(confidence: float) -> None:
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence is {confidence}; write a share between 0 and 1, such as 0.95")


def _check_count(k: int, n: int) -> None:
    if n < 0 or not 0 <= k <= n:
        raise ValueError(f"{k} passes of {n} samples is impossible; need 0 <= k <= n")


def _finite(samples: ArrayLike, name: str) -> NDArray[np.float64]:
    values = np.asarray(samples, dtype=np.float64).ravel()
    if not np.all(np.isfinite(values)):
        raise ValueError(
            f"{name}: {int(np.sum(~np.isfinite(values)))} of {values.size} values are not finite; "
            "count failed samples separately, a statistic over them means nothing"
        )
    return values


def clopper_pearson(k: int, n: int, confidence: float = 0.95) -> Interval:
    """Two-sided exact interval of a share, ``k`` passes of ``n``. No samples gives (0, 1).

    >>> clopper_pearson(0, 0)
    (0.0, 1.0)
    """
    _check_count(k, n)
    _check_confidence(confidence)
    tail = (1.0 - confidence) / 2.0
    return _share_lower(k, n, tail), 1.0 - _share_lower(n - k, n, tail)


def clopper_pearson_lower(k: int, n: int, confidence: float = 0.95) -> float:
    """One-sided exact lower bound of a share: what a yield gate compares with its limit.

    >>> round(clopper_pearson_lower(30, 30), 3)
    0.905
    """
    _check_count(k, n)
    _check_confidence(confidence)
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
    _check_count(k, n)
    _check_confidence(confidence)
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
    _check_confidence(confidence)
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
    _check_confidence(confidence)
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
    return _percentile_interval(resampled, sizes.size, confidence), f"bootstrap over {sizes.size} dies"


def _percentile_interval(resampled: NDArray[np.float64], n: int, confidence: float) -> Interval:
    """Expanded percentile interval (Hesterberg 2015): as wide for small ``n`` as a t interval would be."""
    t = stats.t.ppf(0.5 + confidence / 2.0, n - 1) * math.sqrt(n / (n - 1))
    tail = float(stats.norm.cdf(-t))
    low, high = np.quantile(resampled, [tail, 1.0 - tail])
    return float(low), float(high)


def quantile_upper_bound(samples: ArrayLike, q: float, confidence: float = 0.95) -> float | None:
    """Upper bound of the ``q`` quantile from order statistics, free of any distribution; None when n is too small.

    >>> quantile_upper_bound(range(58), 0.95) is None, quantile_upper_bound(range(59), 0.95)
    (True, 58.0)
    """
    _check_confidence(confidence)
    if not 0.0 < q < 1.0:
        raise ValueError(f"q is {q}; write a share between 0 and 1")
    values = np.sort(_finite(samples, "quantile_upper_bound"))
    n = values.size
    # P(the r-th smallest >= quantile) = P(Binomial(n, q) <= r - 1); take the smallest r that reaches the confidence.
    reached = stats.binom.cdf(np.arange(n), n, q) >= confidence
    return float(values[int(np.argmax(reached))]) if reached.any() else None


def quantile_interval(samples: ArrayLike, q: float, confidence: float = 0.95) -> Interval | None:
    """Two-sided order-statistic interval of the ``q`` quantile; None when n is too small for either edge."""
    values = _finite(samples, "quantile_interval")
    one_sided = 0.5 + confidence / 2.0
    high = quantile_upper_bound(values, q, one_sided)
    low = quantile_upper_bound(-values, 1.0 - q, one_sided)
    return None if high is None or low is None else (-low, high)


def mean_interval(samples: ArrayLike, confidence: float = 0.95) -> Interval:
    """Student t interval of the mean. Needs 2 samples."""
    _check_confidence(confidence)
    values = _finite(samples, "mean_interval")
    if values.size < 2:
        raise ValueError(f"mean_interval needs at least 2 samples; got {values.size}")
    half = float(stats.t.ppf(0.5 + confidence / 2.0, values.size - 1)) * float(values.std(ddof=1) / values.size**0.5)
    return float(values.mean()) - half, float(values.mean()) + half


def sd_interval(samples: ArrayLike, confidence: float = 0.95) -> Interval:
    """Chi-square interval of the standard deviation, for normal samples. Needs 2 samples."""
    _check_confidence(confidence)
    values = _finite(samples, "sd_interval")
    if values.size < 2:
        raise ValueError(f"sd_interval needs at least 2 samples; got {values.size}")
    squares = float(values.var(ddof=1)) * (values.size - 1)
    high, low = stats.chi2.ppf([(1 - confidence) / 2, (1 + confidence) / 2], values.size - 1)
    return math.sqrt(squares / float(low)), math.sqrt(squares / float(high))


def rms_interval(
    errors: ArrayLike, generator: np.random.Generator, *, confidence: float = 0.95, resamples: int = 2000
) -> Interval | None:
    """Bootstrap interval of the RMS of ``errors`` (images, nodes), resampling whole images; None under 2 images.

    Nodes of one image settle together, so their errors are not separate samples.
    """
    _check_confidence(confidence)
    array = np.asarray(errors, dtype=np.float64)
    _finite(array, "rms_interval")
    if array.shape[0] < 2:
        return None
    per_image = np.mean(array.reshape(array.shape[0], -1) ** 2, axis=1)
    picks = generator.integers(0, per_image.size, size=(resamples, per_image.size))
    low, high = _percentile_interval(per_image[picks].mean(axis=1), per_image.size, confidence)
    return math.sqrt(low), math.sqrt(high)


def rms_increase(
    a: ArrayLike, b: ArrayLike, generator: np.random.Generator, *, confidence: float = 0.95, resamples: int = 2000
) -> tuple[float, Interval | None]:
    """RMS of ``a`` minus RMS of ``b``, both (samples, outputs) of the same samples, with its bootstrap interval.

    Samples are drawn in pairs, so what is common to both cancels. The interval is None under 2 samples.
    """
    _check_confidence(confidence)
    first, second = (_finite(x, "rms_increase").reshape(np.shape(x)) for x in (a, b))
    if first.shape != second.shape or first.ndim < 1:
        raise ValueError(f"rms_increase needs two arrays of one shape; got {first.shape} and {second.shape}")
    squares = [np.mean(x.reshape(len(x), -1) ** 2, axis=1) for x in (first, second)]
    n = len(first)
    value = float(np.sqrt(squares[0].mean()) - np.sqrt(squares[1].mean()))
    if n < 2:
        return value, None
    picks = generator.integers(0, n, size=(resamples, n))
    drawn = np.sqrt(squares[0][picks].mean(axis=1)) - np.sqrt(squares[1][picks].mean(axis=1))
    return value, _percentile_interval(drawn, n, confidence)
