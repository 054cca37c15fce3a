"""Write and verify: a device is written again until its read is close enough; drawn, and in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import erf

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class Written:
    """Errors of the conductances (S), passes each took, and whether its last verify read was within tolerance."""

    error: Array
    passes: Array
    accepted: Array


def write_verify(
    sigma: Array, read_sigma: Array, tolerance: float | None, passes: int, rng: np.random.Generator
) -> Written:
    """Devices written up to ``passes`` times, each write an independent error of ``sigma`` (S).

    A write is accepted when a verify read of it, with noise ``read_sigma`` (S), is within ``tolerance`` (S) of the
    target; the last one stays as it is. Without a tolerance a device is written once. A write is the whole procedure
    whose spread was published, so one pass reproduces that spread.
    """
    shape = np.shape(sigma)
    error = np.clip(rng.standard_normal(shape), -5.0, 5.0) * sigma
    count = np.ones(shape, dtype=int)
    if tolerance is None:
        return Written(error, count, np.ones(shape, dtype=bool))
    accepted = np.abs(error + read_sigma * rng.standard_normal(shape)) <= tolerance
    for _ in range(passes - 1):
        again = ~accepted
        if not again.any():
            break
        # every device draws, so that what one gets does not hang on how the others fared
        fresh = np.clip(rng.standard_normal(shape), -5.0, 5.0) * sigma
        seen = fresh + read_sigma * rng.standard_normal(shape)
        error = np.where(again, fresh, error)
        accepted = accepted | (np.abs(seen) <= tolerance)
        count = count + again
    return Written(error, count, accepted)


def acceptance(sigma: float, read_sigma: float, tolerance: float) -> float:
    """Probability that one write is accepted, ``erf(tolerance / sqrt(2 (sigma^2 + read_sigma^2)))``.

    Its inverse is the mean number of passes of a device that is written until it is.

    Example:
        >>> round(acceptance(1e-6, 0.0, 1e-6), 4)
        0.6827
    """
    return float(erf(tolerance / np.sqrt(2 * (sigma**2 + read_sigma**2))))


def remaining_sigma(sigma: float, read_sigma: float, tolerance: float) -> float:
    """Standard deviation of an accepted error.

    What the verify read saw is a normal distribution cut at the tolerance; the error is its share
    ``k = sigma^2 / (sigma^2 + read_sigma^2)`` of that, and what the read's noise hides, k read_sigma^2, beside it:
    a verify cannot make an error smaller than ``sqrt(k) read_sigma``.
    """
    total = np.hypot(sigma, read_sigma)
    a = tolerance / total
    cut = total**2 * (1 - np.sqrt(2 / np.pi) * a * np.exp(-(a**2) / 2) / erf(a / np.sqrt(2)))
    k = sigma**2 / total**2
    return float(np.sqrt(k**2 * cut + k * read_sigma**2))
