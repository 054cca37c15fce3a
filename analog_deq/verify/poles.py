"""Poles of a linearised network from its measured frequency response, with their errors.

The response ``T`` (N, N) from currents into the summing nodes to the integrators' outputs has all poles of the network,
crowded: a rational fit of one entry, or of a mixture, cannot tell 32 poles within a factor of 20 apart (of a made-up
network with such poles it gave the slowest with the wrong sign at data good to 1e-9). Its inverse is another matter.
``M(s) = T(s)^-1`` is what the loop equations say, ``1 / H_i(s)`` of each neuron less the weights, so its entries are
smooth wherever each neuron alone is: a polynomial of low degree fits it on a band of frequencies, and the poles are
where the polynomial matrix is singular, an eigenvalue problem of its block companion matrix:

    P(c + r x) = sum_k A_k x^k,   det P = 0   <=>   1/x is an eigenvalue of the companion of A_0^-1 A_k.

The first band holds s = 0 (real coefficients) and every slow pole; further ones, each round a frequency, follow the
imaginary axis upwards for ringing ones; what is unstable further out stands alone
(:mod:`analog_deq.verify.far_poles`). Fitted at every other frequency, each band is held to the ones left out. Where
a neuron has a pole of its own within reach (a slow driver), ``M`` has it too; a rational fit of a mixture of its
entries (AAA: Nakatsukasa, Sete, Trefethen, SIAM J. Sci. Comput. 40, 2018) finds these few, and
``M(s) prod(1 - s/q)`` is fitted.

Sources: Gohberg, Lancaster, Rodman, *Matrix Polynomials*, 1982 (linearisation); Tisseur, *Linear Algebra Appl.* 309,
2000 (a perturbation dP moves an eigenvalue by ``|y^H dP x| / |y^H P' x|``).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import AAA

from analog_deq.verify.far_poles import far_unstable_poles

Array = np.ndarray
DEGREES = range(2, 9)
FIRST_TRUST, TRUST = 0.7, 0.5
"""Radius, as a share of the band's top or of its centre, within which a band's poles are believed."""
WIDE, WIDE_ERROR = 8.0, 0.05
"""A second band round s = 0 is so many times as wide, for poles far from the axis on the unstable side; of its poles
those count whose own error is at most this share."""
REACH = 0.75
"""A band round w holds the frequencies from (1 - REACH) w to (1 + REACH) w."""
STEP = 1.4
"""Ratio of the centres of neighbouring bands: their circles overlap on the axis up to 0.27 w to its left."""
OWN_RTOL, OWN_TERMS = 1e-6, 16
"""The rational fit of a mixture: its relative tolerance, and how many terms it may have."""
OWN_REACH, OWN_GAP = 2.5, 1e-3
"""A neuron's own pole within so many radii of a band is taken out; what is so near to it is not a pole of the loop."""
FIT_LIMIT = 2e-2
"""Largest relative error at frequencies left out of the fit of a band that is believed."""


@dataclass(frozen=True, slots=True)
class Poles:
    """Poles ``value`` (poles,) in 1/s near the imaginary axis, rightmost first, with their own ``error`` (poles,).

    Of a pair the one above the real axis is listed.

    ``covered_per_s`` is the angular frequency up to which the axis is covered, ``fit_error`` the largest relative error
    of a band at the frequencies left out of its fit.
    """

    value: Array
    error: Array
    covered_per_s: float
    fit_error: float

    @property
    def margin_per_s(self) -> float:
        """Slowest decay rate, negative when unstable; NaN without a pole."""
        return float(-self.value[0].real) if len(self.value) else float("nan")

    @property
    def margin_error_per_s(self) -> float:
        return float(self.error[0]) if len(self.value) else float("nan")


def poles(omega: Array, response: Array, first_top: float) -> Poles:
    """Poles of the network whose response is ``response`` (F, N, N) at ``omega`` (F,) in 1/s, rising.

    ``first_top`` is the top of the band that holds s = 0: a few times the fastest rate of the slow poles, below the
    poles and zeros of a neuron alone.

    Raises:
        ValueError: too few frequencies, or a response that is singular or not finite.

    Example:
        >>> w = np.logspace(3, 7, 161)
        >>> t = 1 / ((1 + 1j * w / 1e5) * (1 + 1j * w / 2e5) - 0.5)  # two poles in a loop of gain 0.5
        >>> found = poles(w, t[:, None, None], 1e6)
        >>> [round(value.real) for value in found.value]  # s^2 + 3e5 s + 1e10 = 0
        [-38197, -261803]
    """
    if not np.isfinite(response).all():
        raise ValueError("the response is not finite")
    inverse = np.linalg.inv(response / np.abs(response[0]).max())
    own = own_poles(omega, inverse)
    found = [_band(omega, inverse, own, 0.0, first_top)]
    if WIDE * first_top <= omega[-1]:
        wide = _band(omega, inverse, own, 0.0, WIDE * first_top)
        sure = wide.errors <= WIDE_ERROR * np.abs(wide.values)
        found.append(_Band(wide.values[sure], wide.errors[sure], 0.0))
    centre = FIRST_TRUST * first_top
    covered = FIRST_TRUST * first_top
    while (1 + REACH) * centre <= omega[-1]:
        found.append(_band(omega, inverse, own, centre, REACH * centre))
        covered = (1 + TRUST) * centre
        centre *= STEP
    wide_reach = FIRST_TRUST * (WIDE if WIDE * first_top <= omega[-1] else 1.0) * first_top
    found.append(_Band(*far_unstable_poles(omega, response, wide_reach), 0.0))
    values, errors = _merge(found)
    order = np.argsort(-values.real)
    fit = max(band.fit_error for band in found)
    return Poles(values[order], errors[order], covered, fit)


@dataclass(frozen=True, slots=True)
class _Band:
    values: Array
    errors: Array
    fit_error: float


def own_poles(omega: Array, inverse: Array) -> Array:
    """Poles of ``inverse`` (F, N, N) itself below the highest frequency, as a rational fit of a mixture finds them."""
    n = inverse.shape[1]
    mixture = inverse.reshape(len(omega), -1) @ np.random.default_rng(0).standard_normal(n * n)
    points, values = np.concatenate([1j * omega, -1j * omega]), np.concatenate([mixture, mixture.conj()])
    with warnings.catch_warnings():
        # Noisy responses are not fitted to the tolerance. The poles are candidates: a band uses them when it gains.
        warnings.simplefilter("ignore", RuntimeWarning)
        near = AAA(points, values, rtol=OWN_RTOL, max_terms=OWN_TERMS).poles()
    near = near[np.abs(near) < omega[-1] / 3]
    real = near[np.abs(near.imag) < 1e-3 * np.abs(near)].real
    above = near[near.imag >= 1e-3 * np.abs(near)]
    return np.concatenate([real, above, above.conj()])


def _band(omega: Array, inverse: Array, own: Array, centre: float, radius: float) -> _Band:
    """Poles within the trusted circle of one band, from the fit that misses the frequencies left out least."""
    inside = np.flatnonzero(np.abs(omega - centre) <= radius * (1 + 1e-9))
    if len(inside) < 8:
        raise ValueError(f"{len(inside)} frequencies within {radius:.3g}/s of {centre:.3g}/s; at least 8 are needed")
    reach = own[np.abs(own - 1j * centre) < OWN_REACH * radius]
    plain = _fits(omega[inside], inverse[inside], centre, radius)
    if len(reach):
        factor = np.prod(1 - 1j * omega[inside, None] / reach, axis=1)
        if centre == 0:  # whole pairs: real coefficients
            factor = np.prod(1 - 1j * omega[inside, None] / _paired(reach), axis=1)
        multiplied = _fits(omega[inside], inverse[inside] * factor[:, None, None], centre, radius)
        plain, reach = (multiplied, reach) if multiplied[2] < plain[2] else (plain, reach[:0])
    coefficients, error, relative, before = plain
    trust = FIRST_TRUST if centre == 0 else TRUST * centre / radius
    x = _singular_points(coefficients, trust)
    for q in reach:  # where the factor is zero the product is singular, and M is not
        x = x[np.abs(x - (q - 1j * centre) / radius) > OWN_GAP * abs(q) / radius]
    errors = np.array([_moved(coefficients, point, error) for point in x])
    if before is not None and len(x):  # what the last step of the degree changed
        lower = _singular_points(before, 1.5 * trust)
        shift = np.abs(x[:, None] - lower).min(axis=1) if len(lower) else np.full(len(x), np.inf)
        errors = np.maximum(errors, shift)
    return _Band(1j * centre + radius * x, radius * errors, relative)


def _paired(q: Array) -> Array:
    """``q`` with the conjugate of every complex value that lacks it."""
    lone = [value.conj() for value in q if value.imag != 0 and not np.any(np.isclose(q, value.conj()))]
    return np.concatenate([q, np.array(lone, dtype=q.dtype)]) if lone else q


def _fits(omega: Array, values: Array, centre: float, radius: float) -> tuple[Array, float, float, Array | None]:
    """Coefficients of the best degree, their error at the frequencies left out in the 2-norm and relative to the
    largest value, and the coefficients of the best degree below.
    """
    size = float(np.linalg.norm(values, 2, axis=(1, 2)).max())
    best: tuple[Array, float] | None = None
    before: Array | None = None
    for degree in DEGREES:
        if degree + 1 >= len(omega[0::2]) * (2 if centre == 0 else 1):
            break
        coefficients = _fit(omega[0::2], values[0::2], centre, radius, degree)
        missed = _evaluate(coefficients, 1j * (omega[1::2] - centre) / radius) - values[1::2]
        error = float(np.linalg.norm(missed, 2, axis=(1, 2)).max())
        if best is None or error < best[1]:
            before = None if best is None else best[0]
            best = coefficients, error
    assert best is not None, "the lowest degree needs three frequencies"
    return best[0], best[1], best[1] / size, before


def _fit(omega: Array, inverse: Array, centre: float, radius: float, degree: int) -> Array:
    """Coefficients (degree + 1, N, N) in x = (s - j centre) / radius; real where the band holds s = 0."""
    powers = np.vander(1j * (omega - centre) / radius, degree + 1, increasing=True)
    data = inverse.reshape(len(omega), -1)
    if centre == 0:
        powers = np.concatenate([powers.real, powers.imag])
        data = np.concatenate([data.real, data.imag])
    found = np.linalg.lstsq(powers, data, rcond=None)[0]
    return np.asarray(found.reshape(degree + 1, *inverse.shape[1:]))


def _evaluate(coefficients: Array, x: Array) -> Array:
    """The polynomial matrix (points, N, N) at points ``x`` (points,)."""
    powers = np.vander(np.atleast_1d(x), len(coefficients), increasing=True)
    return np.asarray(np.tensordot(powers, coefficients, axes=1))


def _singular_points(coefficients: Array, trust: float) -> Array:
    """Points x with ``|x| <= trust`` at which the polynomial matrix is singular."""
    degree, n = len(coefficients) - 1, coefficients.shape[1]
    solved = np.linalg.solve(coefficients[0], np.concatenate(list(coefficients[1:]), axis=1))
    norms = np.linalg.norm(solved.reshape(n, degree, n), 2, axis=(0, 2))
    if norms @ trust ** np.arange(1, degree + 1) < 1:  # A_0 outweighs the rest: Neumann's series
        return np.empty(0, dtype=complex)
    companion = np.zeros((degree * n, degree * n), dtype=solved.dtype)
    companion[:n] = -solved
    companion[n:, :-n] = np.eye((degree - 1) * n)
    inverse = np.linalg.eigvals(companion)
    return np.asarray(1 / inverse[np.abs(inverse) >= 1 / trust])


def _moved(coefficients: Array, x: complex, error: float) -> float:
    """How far a singular point moves when the polynomial matrix is off by ``error`` in the 2-norm on the axis.

    Off the axis a polynomial's error may be larger, by at most ``|w + sqrt(w^2 - 1)|^degree`` at ``x = j w`` (Bernstein
    and Walsh; the band is -1 <= w <= 1).
    """
    w = complex(x / 1j)
    root = np.sqrt(w * w - 1)
    error *= max(abs(w + root), abs(w - root)) ** (len(coefficients) - 1)
    powers = np.arange(1, len(coefficients))
    slope = np.tensordot(powers * x ** (powers - 1), coefficients[1:], axes=1)
    left, _, right = np.linalg.svd(_evaluate(coefficients, np.array([x]))[0])
    turn = abs(left[:, -1].conj() @ slope @ right[-1].conj())
    return float(error / turn) if turn > 0 else float("inf")


def _merge(bands: list[_Band]) -> tuple[Array, Array]:
    """Every pole once, from the band that knows it best, of the upper half plane; clusters of the first band stay."""
    values = np.concatenate([band.values for band in bands])
    errors = np.concatenate([band.errors for band in bands])
    first = np.arange(len(values)) < len(bands[0].values)
    upper = np.flatnonzero(values.imag >= -1e-9 * np.abs(values))
    kept: list[int] = []
    for k in upper[np.argsort(errors[upper])]:
        near = [j for j in kept if abs(values[k] - values[j]) <= 1e-3 * abs(values[k]) + errors[k] + errors[j]]
        if not near or (first[k] and all(first[j] for j in near)):
            kept.append(int(k))
    return values[kept], errors[kept]
