"""Weighted row sums of a feedback matrix and the weights that make the largest of them small (Perron-Frobenius).

For a matrix ``K`` with non-negative off-diagonal entries, ``max_i (K eta)_i / eta_i`` over ``eta > 0`` has the Perron
root (the eigenvalue of largest real part) as its infimum, reached by the Perron vector when ``K`` is irreducible.
"""

from __future__ import annotations

import numpy as np


def majorant(m: np.ndarray) -> np.ndarray:
    """``|M_ij|`` off the diagonal and ``M_ii`` on it: the matrix whose weighted row sums bound class B.

    Example:
        >>> import numpy as np
        >>> majorant(np.array([[-2.0, -1.0], [0.5, 0.25]])).tolist()
        [[-2.0, 1.0], [0.5, 0.25]]
    """
    size = np.abs(m)
    np.fill_diagonal(size, np.diag(m))
    return size


def row_bound(k: np.ndarray, eta: np.ndarray) -> float:
    """``max_i (K eta)_i / eta_i``.

    Example:
        >>> import numpy as np
        >>> row_bound(np.array([[0.0, 2.0], [0.5, 0.0]]), np.array([2.0, 1.0]))
        1.0
    """
    return float((k @ eta / eta).max())


def perron_weights(k: np.ndarray) -> np.ndarray:
    """Positive weights (N,), maximum 1, that nearly minimise ``row_bound`` of ``K`` (off-diagonal entries >= 0).

    The resolvent vector ``(c I - K)^-1 1`` with ``c`` just above the Perron root: it tends to the Perron vector, but
    stays positive for reducible ``K`` too. A bound below 1 is found whenever one exists, up to rounding of the root.

    Example:
        >>> import numpy as np
        >>> k = np.array([[0.0, 2.0], [0.3, 0.0]])
        >>> row_bound(k, np.ones(2)), round(row_bound(k, perron_weights(k)), 2)  # sqrt(0.6) = 0.775
        (2.0, 0.77)
    """
    n = len(k)
    shift = max(0.0, -float(np.diag(k).min()))
    size, limit = k + shift * np.eye(n), 1.0 + shift
    root = float(np.linalg.eigvals(size).real.max())
    level = root + 1e-3 * (limit - root) if root < limit else root * 1.001
    # A defective matrix can have its root underestimated; the solve then shows a sign, and the level is raised.
    for _ in range(40):
        try:
            weights = np.linalg.solve(level * np.eye(n) - size, np.ones(n))
        except np.linalg.LinAlgError:
            weights = np.zeros(n)
        if (weights > 0).all() and np.isfinite(weights).all():
            return weights / weights.max()
        level = 0.5 * (level + limit) if level < limit else 1.5 * level
    return np.ones(n)
