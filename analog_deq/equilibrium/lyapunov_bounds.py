"""Latency, error gain and tolerance that follow from a diagonal Lyapunov matrix (class C, and class B through it).

With ``Y = diag(s) (h - h*)``, ``Z = z - z*``, ``Z_i = d_i Y_i``, ``0 <= d_i <= 1``: ``T Y' = -Y + M Z``. The Lur'e
function ``V = sum_i l_i tau_i int_0^Y_i (act - act*)`` has ``V' = -Y^T L Z + Z^T L M Z``. Per node the integral lies
between ``Z^2/2`` and ``Y Z - Z^2/2``, at most ``Y^2/2``. With ``P = sym(L (I - M))``:
``V' <= -sum_i l_i (Y_i Z_i - Z_i^2) - Z^T P Z <= -r V``,
``r = min(1 / tau_max, 2 least eigenvalue of (LT)^-1/2 P (LT)^-1/2)``. Hence
``sum l tau Z^2 <= exp(-r t) sum l tau Y(0)^2``, and through ``tau_i Y_i' = -Y_i + (M Z)_i`` every ``|Y_i|`` decays at
``r / 2``. Global, for any activation with slopes in [0, s_i]. For class B with Perron weights
``r >= 2 (1 - gamma) / tau_max`` up to the cap at ``1 / tau_max``. Source of the function: Forti and Tesi, IEEE TCAS-I
42(7), 1995; the rate and the constants are worked out here.
"""

from __future__ import annotations

import math

import numpy as np


def _scaled(weights: np.ndarray, m: np.ndarray) -> np.ndarray:
    root = np.sqrt(weights)
    return root[:, None] * m / root


def _symmetric(scaled: np.ndarray) -> np.ndarray:
    return np.eye(len(scaled)) - 0.5 * (scaled + scaled.T)


def settling(weights: np.ndarray, m: np.ndarray, slope: np.ndarray, tau_s: np.ndarray) -> tuple[float, float]:
    """Decay rate in 1/s and constant ``k``: every ``|h_i - h_i*|(t) <= k exp(-rate t)`` times the largest initial one.

    Args:
        weights: (N,) diagonal Lyapunov weights of ``m``.
        m: (N, N) feedback with slopes folded into its rows.
        slope: (N,) slope bounds.
        tau_s: (N,) time constants, seconds.

    Example:
        >>> import numpy as np
        >>> rate, k = settling(np.ones(1), np.zeros((1, 1)), np.ones(1), np.ones(1))  # truly exp(-t)
        >>> rate, k
        (0.5, 1.0)
    """
    fast = np.sqrt(tau_s)
    p = _symmetric(_scaled(weights, m)) / (fast[:, None] * fast)
    rate = min(1.0 / float(tau_s.max()), 2.0 * float(np.linalg.eigvalsh(p)[0]))
    metric = np.sqrt(weights * tau_s)
    start = float(np.linalg.norm(metric * slope))
    gain = np.linalg.norm(m / metric, axis=1) / (slope * (1.0 - 0.5 * rate * tau_s))
    return 0.5 * rate, 1.0 + float(gain.max()) * start


def error_gain(weights: np.ndarray, m: np.ndarray) -> float:
    """State error per error of the activations (offset, gain, quantisation), both in the 2-norm weighted by ``l``.

    From ``e = D M e + f``: with ``p = e - f``, ``|p|_P <= |L M f|_(P^-1)``.

    Example:
        >>> import numpy as np
        >>> error_gain(np.ones(1), np.array([[0.5]]))
        2.0
    """
    scaled = _scaled(weights, m)
    p = _symmetric(scaled)
    factor = np.linalg.cholesky(p)
    gain = float(np.linalg.norm(np.linalg.solve(factor, scaled), 2))
    return 1.0 + gain / math.sqrt(float(np.linalg.eigvalsh(p)[0]))


def tolerated(weights: np.ndarray, m: np.ndarray, margin: float) -> float:
    """Relative error of every weight that leaves the matrix in class C for sure; inf for a zero matrix.

    ``|x^T L E x| <= e |x|^T L |M| |x|`` for ``|E_ij| <= e |M_ij|``: safe while ``e`` times the largest eigenvalue of
    the symmetric part of ``L^(1/2) |M| L^(-1/2)`` stays below ``m``.

    Example:
        >>> import numpy as np
        >>> tolerated(np.ones(1), np.array([[0.5]]), 0.5)
        1.0
    """
    size = _scaled(weights, np.abs(m))
    largest = float(np.linalg.eigvalsh(0.5 * (size + size.T))[-1])
    return margin / largest if largest > 0.0 else math.inf
