"""Intervals of a mean, a standard deviation and an RMS."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from analog_deq.statistics.samples import Interval, check_confidence, finite, percentile_interval


def mean_interval(samples: ArrayLike, confidence: float = 0.95) -> Interval:
    """Student t interval of the mean. Needs 2 samples."""
    check_confidence(confidence)
    values = finite(samples, "mean_interval")
    if values.size < 2:
        raise ValueError(f"mean_interval needs at least 2 samples; got {values.size}")
    half = float(stats.t.ppf(0.5 + confidence / 2.0, values.size - 1)) * float(values.std(ddof=1) / values.size**0.5)
    return float(values.mean()) - half, float(values.mean()) + half


def sd_interval(samples: ArrayLike, confidence: float = 0.95) -> Interval:
    """Chi-square interval of the standard deviation, for normal samples. Needs 2 samples."""
    check_confidence(confidence)
    values = finite(samples, "sd_interval")
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
    check_confidence(confidence)
    array = np.asarray(errors, dtype=np.float64)
    finite(array, "rms_interval")
    if array.shape[0] < 2:
        return None
    per_image = np.mean(array.reshape(array.shape[0], -1) ** 2, axis=1)
    picks = generator.integers(0, per_image.size, size=(resamples, per_image.size))
    low, high = percentile_interval(per_image[picks].mean(axis=1), per_image.size, confidence)
    return math.sqrt(low), math.sqrt(high)


def rms_increase(
    a: ArrayLike, b: ArrayLike, generator: np.random.Generator, *, confidence: float = 0.95, resamples: int = 2000
) -> tuple[float, Interval | None]:
    """RMS of ``a`` minus RMS of ``b``, both (samples, outputs) of the same samples, with its bootstrap interval.

    Samples are drawn in pairs, so what is common to both cancels. The interval is None under 2 samples.
    """
    check_confidence(confidence)
    first, second = (finite(x, "rms_increase").reshape(np.shape(x)) for x in (a, b))
    if first.shape != second.shape or first.ndim < 1:
        raise ValueError(f"rms_increase needs two arrays of one shape; got {first.shape} and {second.shape}")
    squares = [np.mean(x.reshape(len(x), -1) ** 2, axis=1) for x in (first, second)]
    n = len(first)
    value = float(np.sqrt(squares[0].mean()) - np.sqrt(squares[1].mean()))
    if n < 2:
        return value, None
    picks = generator.integers(0, n, size=(resamples, n))
    drawn = np.sqrt(squares[0][picks].mean(axis=1)) - np.sqrt(squares[1][picks].mean(axis=1))
    return value, percentile_interval(drawn, n, confidence)
