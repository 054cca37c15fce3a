"""A diagonal Lyapunov matrix: ``L = diag(l) > 0`` with ``L (I - M) + (I - M)^T L >= 2 m L``, ``m`` as large as found.

``m > 0`` is class C (Lyapunov diagonal stability). For fixed ``mu`` the set ``P(l) = L B + B^T L > 0``,
``B = I - M + mu I``, is a convex cone; ``F(l) = sum(l) - log det P(l)`` has its analytic centre as only minimum, found
by Newton's method. With ``X = P^-1``, ``U = X B^T``, ``Y = B U``: ``dF/dl_i = 1 - 2 U_ii``,
``d2F = 2 (U * U^T + X * Y)`` (elementwise), so one step costs a few products of N x N matrices. ``mu`` is lowered
towards ``-m(l)`` between centres (Boyd and El Ghaoui, method of centers for generalised eigenvalue problems, Linear
Algebra Appl. 188, 1993).

What is returned is checked by an eigenvalue of the matrix itself, so a poor centre can only miss a certificate.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import matrix_balance

CLOSE = 0.98
"""Share of the upper bound of the margin at which the search stops."""


def diagonal_margin(weights: np.ndarray, m: np.ndarray) -> float:
    """Largest ``m`` for these weights: the least eigenvalue of the symmetric part of ``L^(1/2) (I - M) L^(-1/2)``.

    Rounding is taken off, so a positive value is a proof (in the sense of the eigenvalue solver's backward error).

    Args:
        weights: (N,) the diagonal of ``L``, positive.
        m: (N, N) feedback with slopes folded into its rows.

    Example:
        >>> import numpy as np
        >>> round(diagonal_margin(np.ones(2), np.array([[0.5, 7.0], [-7.0, 0.5]])), 6)
        0.5
    """
    root = np.sqrt(weights)
    a = np.eye(len(m)) - root[:, None] * m / root
    return float(np.linalg.eigvalsh(0.5 * (a + a.T))[0] - 4 * np.finfo(float).eps * np.abs(a).sum(1).max())


def find_diagonal(m: np.ndarray, starts: list[np.ndarray] | None = None, steps: int = 600) -> tuple[np.ndarray, float]:
    """Weights (N,) of the largest margin found, scaled to a maximum of 1, and that margin; negative: not class C.

    The search stops at 98 % of an upper bound of the margin (the least diagonal entry of ``I - M``, the least real
    part of its eigenvalues), when it no longer gains, or after ``steps`` Newton steps. A matrix with an eigenvalue
    of real part 1 or more, or such a diagonal entry, cannot be class C and is not searched.

    Args:
        m: (N, N) feedback with slopes folded into its rows.
        starts: further weights (N,) to start from, beside all ones and those that balance rows against columns.
        steps: limit on Newton steps; each costs a few products of N x N matrices.

    Example:
        >>> import numpy as np
        >>> weights, margin = find_diagonal(np.array([[0.5, 4.0], [-0.04, 0.5]]))
        >>> bool(margin > 0.45), diagonal_margin(np.ones(2), np.array([[0.5, 4.0], [-0.04, 0.5]])) < 0
        (True, True)
    """
    n = len(m)
    candidates = [np.ones(n), _balanced(m), *(starts or [])]
    margins = [diagonal_margin(w, m) for w in candidates]
    best = int(np.argmax(margins))
    weights, margin = candidates[best], margins[best]
    ceiling = min(float((1.0 - np.diag(m)).min()), float((1.0 - np.linalg.eigvals(m).real).min()))
    if ceiling <= 0.0:
        return weights / weights.max(), min(margin, ceiling)
    stale = 0
    while steps > 0 and margin < CLOSE * ceiling and stale < 4:
        # Strictly feasible for the present weights. Closer to the edge gains more a round, but takes more Newton steps.
        mu = -margin + 0.03 * max(ceiling - margin, 1e-9)
        centred, used = _centre(weights, np.eye(n) - m + mu * np.eye(n), min(steps, 20))
        steps -= used
        reached = diagonal_margin(centred, m)
        gain = reached - margin
        stale = stale + 1 if gain < 1e-2 * (ceiling - margin) else 0
        if gain > 0.0:
            weights, margin = centred, reached
        elif used == 0:
            break
    return weights / weights.max(), margin


def _balanced(m: np.ndarray) -> np.ndarray:
    """Weights whose scaling makes rows and columns alike: near the right ones when ``M`` is scaled by ``Psi``."""
    _, (scale, _) = matrix_balance(m - np.diag(np.diag(m)), permute=False, separate=True)
    return 1.0 / scale**2


def _centre(weights: np.ndarray, b: np.ndarray, steps: int) -> tuple[np.ndarray, int]:
    """Damped Newton steps towards the analytic centre, from feasible weights; and how many were taken."""
    n = len(b)
    weights = weights * (n / weights.sum())
    for k in range(steps):
        p = weights[:, None] * b
        try:
            x = np.linalg.inv(np.linalg.cholesky(p + p.T))
            x = x.T @ x
            u = x @ b.T
            gradient = 1.0 - 2.0 * np.diag(u)
            hessian = 2.0 * (u * u.T + x * (b @ u))
            # In units of the weights themselves: they may spread over many decades.
            scaled = weights[:, None] * hessian * weights
            direction = -weights * np.linalg.solve(scaled, weights * gradient)
        except np.linalg.LinAlgError:
            return weights, k
        decrement = float(np.sqrt(max(-gradient @ direction, 0.0)))
        if not np.isfinite(decrement) or decrement < 0.1:
            return weights, k
        # 1 / (1 + decrement) stays inside the cone for a self-concordant function; near the centre full steps do.
        weights = weights + direction / (1.0 + decrement if decrement > 0.25 else 1.0)
        weights = np.maximum(weights, np.finfo(float).tiny)
    return weights, steps
