"""Unstable poles far from the slow ones: an op-amp with its inputs swapped runs away at its own bandwidth.

Slow poles of a network are crowded, and a rational fit of a mixture of its responses cannot tell them apart
(:mod:`analog_deq.verify.poles`). A fast pole on the right of the axis stands alone, and such a fit finds it: it is one
when every random mixture of the responses has it at the same place, which the spurious poles of a fit never do.
"""

from __future__ import annotations

import warnings

import numpy as np
from scipy.interpolate import AAA

Array = np.ndarray
MIXTURES = 3
AGREE = 1e-2
"""Largest relative distance between the mixtures' values of one pole."""
RTOL, TERMS = 1e-6, 60


def far_unstable_poles(omega: Array, response: Array, beyond: float) -> tuple[Array, Array]:
    """Poles (poles,) in 1/s with a positive real part and ``|s| > beyond``, and the spread of each over the mixtures.

    ``response`` (F, N, N) at ``omega`` (F,) in 1/s. Of a pair the one above the real axis is listed. A rational fit
    (AAA: Nakatsukasa, Sete, Trefethen, SIAM J. Sci. Comput. 40, 2018) of ``u^T T(jw) v`` for random ``u``, ``v``. Poles
    well above the highest frequency are not seen.

    Example:
        >>> w = np.logspace(4, 9, 121)
        >>> t = 1 / ((1 + 1j * w / 1e5) * (1 - 1j * w / 3e7))
        >>> values, _ = far_unstable_poles(w, t[:, None, None], 1e6)
        >>> [f"{value:.3g}" for value in values.real]
        ['3e+07']
    """
    rng, n = np.random.default_rng(0), response.shape[1]
    each = [
        _unstable(omega, np.einsum("fij,i,j->f", response, rng.standard_normal(n), rng.standard_normal(n)), beyond)
        for _ in range(MIXTURES)
    ]
    found, spread = [], []
    for pole in each[0]:
        others = [other[np.argmin(np.abs(other - pole))] if len(other) else np.inf for other in each[1:]]
        apart = max(abs(other - pole) for other in others)
        if apart <= AGREE * abs(pole):
            found.append(pole)
            spread.append(float(apart))
    return np.array(found, dtype=complex), np.array(spread)


def _unstable(omega: Array, mixture: Array, beyond: float) -> Array:
    points, values = np.concatenate([1j * omega, -1j * omega]), np.concatenate([mixture, mixture.conj()])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a noisy response is not fitted to the tolerance
        poles = AAA(points, values, rtol=RTOL, max_terms=TERMS).poles()
    real = np.abs(poles.imag) < AGREE * np.abs(poles)
    poles = np.where(real, poles.real, poles)
    return np.asarray(poles[(poles.real > 0) & (poles.imag >= 0) & (np.abs(poles) > beyond)])
