"""Failures too rare to count: importance sampling and scaled-sigma sampling, each with its own stated error.

Both are estimates with assumptions, where counting has none. Importance sampling is unbiased, but a failure region that
no sample reached is missing from estimate and interval alike. Scaled-sigma sampling extrapolates: its interval holds as
far as its law does, which the fit checks at the scales that were sampled, not at 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from analog_deq.statistics.samples import Interval, check_confidence, check_count, finite

Array = NDArray[np.float64]
LEAST_EFFECTIVE = 20.0
"""Effective failing samples below which the error of an importance-sampled estimate is itself not known."""
LEAST_FAILURES = 5
"""Failures that make a scale count in a scaled-sigma fit."""
MISFIT = 0.01
"""Probability of a worse fit below which the law is rejected."""
_MEAN_WEIGHT_SIGMAS = 4.0


@dataclass(frozen=True, slots=True)
class RareEstimate:
    """A small probability with its interval, or why none is stated (``refused``, both None).

    ``n`` samples, ``failures`` of them; ``effective`` is the number of equally weighted failures that would give the
    same error.
    """

    probability: float | None
    interval: Interval | None
    n: int
    failures: int
    effective: float
    method: str
    refused: str = ""


def shifted_normals(
    rng: np.random.Generator, n: int, shift: ArrayLike, *, defensive: float = 0.1
) -> tuple[Array, Array]:
    """Samples (n, d) of standard normals moved by ``shift`` (d,), and the logarithms of their weights (n,).

    A share ``defensive`` is not moved (Hesterberg 1995): no weight exceeds 1 / ``defensive``, and a failure region away
    from the shift is found as often as that share would by counting.
    """
    move = finite(shift, "shift")
    if not 0.0 <= defensive < 1.0:
        raise ValueError(f"defensive share is {defensive}; need 0 <= share < 1")
    x = rng.standard_normal((n, move.size))
    x[rng.random(n) >= defensive] += move
    ratio = x @ move - 0.5 * float(move @ move)  # log of shifted over nominal density
    kept = -np.inf if defensive == 0 else math.log(defensive)
    return x, -np.logaddexp(kept, math.log1p(-defensive) + ratio)


def failure_shift(
    margin: Callable[[Array], Array],
    dimension: int,
    rng: np.random.Generator,
    *,
    samples: int = 1000,
    share: float = 0.1,
    rounds: int = 30,
) -> Array:
    """Shift (d,) to the failing side of standard normals, by the cross-entropy method (Rubinstein 1999).

    ``margin`` maps samples (n, d) to numbers that are negative where the sample fails, such as a proxy's. Each round
    moves to the weighted mean of the worst ``share``, until that share fails. ValueError when ``rounds`` do not do.
    """
    shift = np.zeros(dimension)
    for _ in range(rounds):
        x = rng.standard_normal((samples, dimension)) + shift
        values = np.asarray(margin(x), dtype=np.float64)
        level = max(float(np.quantile(values, share)), 0.0)
        worst = values <= level
        log_weight = -(x[worst] @ shift) + 0.5 * float(shift @ shift)
        weight = np.exp(log_weight - log_weight.max())
        shift = weight @ x[worst] / weight.sum()
        if level <= 0.0:
            return np.asarray(shift)
    raise ValueError(f"no failing samples within {rounds} rounds; raise samples or rounds, or the margin is never < 0")


def importance_sampling(failed: ArrayLike, log_weight: ArrayLike, *, confidence: float = 0.95) -> RareEstimate:
    """Probability of failure from weighted samples: the mean of weight x failed, with a log-normal interval.

    ``failed`` (n,) of 0 and 1, ``log_weight`` (n,) log of nominal over sampling density. A sample that gave no result
    is a failed one. Refused with fewer than 20 effective failures, and where the weights' mean is off 1 by more than
    its error explains: some region of the nominal density was not sampled.
    """
    check_confidence(confidence)
    bad = np.asarray(failed, dtype=bool).ravel()
    weight = np.exp(finite(log_weight, "importance_sampling"))
    if bad.size != weight.size or bad.size < 2:
        raise ValueError(f"importance_sampling needs a weight a sample, at least 2; got {bad.size} and {weight.size}")
    n, own = bad.size, np.where(bad, weight, 0.0)
    total, squares = float(own.sum()), float((own**2).sum())
    effective = total**2 / squares if squares else 0.0
    method, failures = "importance sampling", int(bad.sum())

    def refused(why: str) -> RareEstimate:
        return RareEstimate(None, None, n, failures, effective, method, why)

    if effective < LEAST_EFFECTIVE:
        return refused(f"{effective:.1f} effective failures of {n} samples; {LEAST_EFFECTIVE:g} are needed")
    error = float(weight.std(ddof=1)) / math.sqrt(n)
    if abs(float(weight.mean()) - 1) > _MEAN_WEIGHT_SIGMAS * error + 1e-9:
        return refused(f"the weights' mean is {weight.mean():.3g} +- {error:.2g}, not 1: the samples miss a region")
    value = total / n
    relative = float(own.std(ddof=1)) / (math.sqrt(n) * value)
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    interval = (value * math.exp(-z * relative), min(1.0, value * math.exp(z * relative)))
    return RareEstimate(value, interval, n, failures, effective, method)


def scaled_sigma(
    scales: Sequence[float], failures: Sequence[int], trials: Sequence[int], *, confidence: float = 0.95
) -> RareEstimate:
    """Probability of failure at scale 1 from counts at larger ones: log P(s) = a + b log s - c / s^2.

    The law of a Gaussian's tail behind a smooth boundary (Sun, Li et al., scaled-sigma sampling, TCAD 2015), fitted by
    maximum likelihood of the binomial counts; the interval is the profile likelihood's of log P(1). Refused with fewer
    than 4 scales, fewer than 3 with 5 failures and 5 passes, where the counts contradict the law, or where its interval
    reaches 1.

    >>> normal_tail = [(s, round(4000 * float(stats.norm.sf(3.5 / s)))) for s in (1.5, 1.75, 2.0, 2.5)]
    >>> found = scaled_sigma(*zip(*normal_tail), [4000] * 4)
    >>> found.interval[0] < stats.norm.sf(3.5) < found.interval[1]
    True
    """
    check_confidence(confidence)
    if not len(scales) == len(failures) == len(trials):
        raise ValueError("scaled_sigma needs as many scales as failures and trials")
    for count, tried in zip(failures, trials, strict=True):
        check_count(count, tried)
    s, k, n = (np.asarray(values, dtype=np.float64) for values in (scales, failures, trials))
    if np.any(s < 1.0):
        raise ValueError(f"a scale is {s.min():g}; scaled-sigma sampling needs scales of at least 1")
    used = (k >= LEAST_FAILURES) & (n - k >= LEAST_FAILURES)
    total, failing, method = int(n.sum()), int(k.sum()), "scaled sigma"

    def refused(why: str) -> RareEstimate:
        return RareEstimate(None, None, total, failing, 0.0, method, why)

    if s.size < 4 or used.sum() < 3:
        few = f"{LEAST_FAILURES} failures and as many passes"
        return refused(f"{int(used.sum())} of {s.size} scales have at least {few}; 3 of at least 4 are needed")
    law = np.stack([np.log(s), 1 - s**-2.0], axis=1)

    def deviance(log_p1: float, shape: Array) -> tuple[float, Array]:
        """Twice the loss against the counts' own shares, and its slope in ``shape``."""
        log_p = np.minimum(log_p1 + law @ shape, -1e-9)
        odds = np.exp(log_p) / -np.expm1(log_p)
        return -2 * float(k @ log_p + (n - k) @ np.log(-np.expm1(log_p))) + saturated, -2 * law.T @ (k - (n - k) * odds)

    def profile(log_p1: float) -> float:
        start, *_ = np.linalg.lstsq(law * weight[:, None], (np.log(share) - log_p1) * weight, rcond=None)
        return float(optimize.minimize(lambda x: deviance(log_p1, x), start, jac=True, method="BFGS").fun)

    share, weight = np.maximum(k, 0.5) / n, np.sqrt(np.maximum(k, 0.5))
    saturated = 2 * float(special.xlogy(k, k / n).sum() + special.xlog1py(n - k, -k / n).sum())
    both = np.column_stack([np.ones_like(s), law])
    guess, *_ = np.linalg.lstsq(both * weight[:, None], np.log(share) * weight, rcond=None)
    found = optimize.minimize_scalar(profile, bracket=(min(guess[0], -1e-3) - 0.5, min(guess[0], -1e-3)))
    best, least = float(found.x), float(found.fun)
    if stats.chi2.sf(least, s.size - 3) < MISFIT:
        return refused("the counts contradict the law of a Gaussian tail; choose scales nearer 1")
    drop = float(stats.chi2.ppf(confidence, 1))
    edges = [_crossing(lambda x: profile(x) - least - drop, best, step) for step in (-0.5, 0.5)]
    low, high = (math.exp(min(edge, 0.0)) for edge in edges)
    if high == 1.0:
        return refused(f"its interval is {low:.2g} to 1: too few failures, or scales too far from 1, to say anything")
    return RareEstimate(
        min(math.exp(best), 1.0), (low, high), total, failing, 1 / ((edges[1] - edges[0]) / 4) ** 2, method
    )


def _crossing(excess: Callable[[float], float], start: float, step: float) -> float:
    """Where ``excess`` first turns positive, walking from ``start`` in growing steps; log-probabilities end at -700."""
    inner, outer = start, start + step
    while excess(outer) < 0 and -700 < outer < 50:
        inner, outer, step = outer, outer + 2 * step, 2 * step
    return float(optimize.brentq(excess, *sorted((inner, outer)), xtol=1e-4)) if excess(outer) > 0 else outer
