"""What can be promised about a feedback matrix before it is built: uniqueness, stability, latency, error gain.

With slopes ``|act'_i| <= s_i``, ``M = diag(s) |W|`` and weights ``eta > 0``, ``gamma = max_i (M eta)_i / eta_i``.
The state map ``z -> act(W z + u)`` then contracts at rate ``gamma`` in ``max_i |z_i| / eta_i``. The circuit moves
``h``, whose Jacobian is ``T^-1 (-I + W D)``: the slope sits on the *columns* there. With ``xi = eta / s`` the rows
give ``sum_j |W_ij| s_j xi_j / xi_i = s_i (|W| eta)_i / eta_i <= gamma``, so the same ``gamma`` holds for ``h`` in the
norm weighted by ``xi``. Any ``xi_i`` in ``[(|W| eta)_i / gamma, eta_i / s_i]`` serves as well; ``settle_bound_s`` uses
the least spread choice. That is why slopes are folded into rows here.
Sources: Jafarpour et al., arXiv:2106.03194; Davydov et al., arXiv:2110.08298.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from analog_deq.errors import EquilibriumError

SCHEMA = "analog_deq.certificate/1"


@dataclass(frozen=True, slots=True)
class Certificate:
    """A checked statement about one effective matrix; what it derives is computed, never stored twice.

    Attributes:
        weight_class: "A" when ``gamma < 1``, otherwise "none".
        gamma: contraction bound for the weights ``eta``, slope included.
        eta: norm weights of the states, scaled to a maximum of 1.
        max_slope: slope bound per node.
        norm_spread: smallest ``max(xi) / min(xi)`` of the pre-activation norm, at least 1.
        tau_max_s: slowest time constant in seconds, None when no ``tau_s`` was given.
        spectral_norm: ``||diag(s) W||_2``.
        spectral_radius: largest ``|eigenvalue|`` of ``diag(s) W`` (signed; not a bound on anything by itself).
    """

    weight_class: Literal["A", "none"]
    gamma: float
    eta: tuple[float, ...]
    max_slope: tuple[float, ...]
    norm_spread: float
    tau_max_s: float | None
    spectral_norm: float
    spectral_radius: float

    @property
    def unique(self) -> bool:
        """One equilibrium for every input: class A, or a contraction in the 2-norm."""
        return self.weight_class == "A" or self.spectral_norm < 1.0

    @property
    def lag_robust(self) -> bool:
        """Stable under any parasitic lag or delay on any path, if each has unit area and no overshoot."""
        return self.weight_class == "A"

    @property
    def static_error_amplification(self) -> float | None:
        """``1 / (1 - gamma)``: state error per activation error (weighted norm); None when not of class A."""
        return 1.0 / (1.0 - self.gamma) if self.weight_class == "A" else None

    @property
    def mismatch_margin(self) -> float:
        """Relative error ``e`` of every weight with ``gamma (1 + e) = 1``; negative is a shortfall, inf when W = 0."""
        return math.inf if self.gamma == 0.0 else 1.0 / self.gamma - 1.0

    def settle_bound_s(self, tol: float = 4e-3) -> float | None:
        """Seconds after which every ``|h_i - h_i*|`` is at most ``tol`` times the largest initial one.

        ``tau_max / (1 - gamma) * ln(norm_spread / tol)``; the spread is the price of reading a weighted norm node by
        node, and 1 when ``eta`` and ``s`` are equal over the nodes. None when not of class A or without time constants.
        """
        if not 0.0 < tol < 1.0:
            raise EquilibriumError(f"settle_bound_s: tol is {tol}; give a fraction between 0 and 1")
        if self.weight_class != "A" or self.tau_max_s is None:
            return None
        return self.tau_max_s / (1.0 - self.gamma) * math.log(self.norm_spread / tol)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, derived figures included for the reader; an unbounded margin is null."""
        margin = self.mismatch_margin
        return {
            "schema": SCHEMA,
            "weight_class": self.weight_class,
            "gamma": self.gamma,
            "eta": list(self.eta),
            "max_slope": list(self.max_slope),
            "norm_spread": self.norm_spread,
            "tau_max_s": self.tau_max_s,
            "spectral_norm": self.spectral_norm,
            "spectral_radius": self.spectral_radius,
            "unique": self.unique,
            "lag_robust": self.lag_robust,
            "static_error_amplification": self.static_error_amplification,
            "mismatch_margin": margin if math.isfinite(margin) else None,
            "settle_bound_s": self.settle_bound_s(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Certificate:
        """The certificate back from ``to_dict``; refuses an unknown schema or figures that contradict each other."""
        if data.get("schema") != SCHEMA:
            raise EquilibriumError(f"certificate: schema is {data.get('schema')!r}, this version reads {SCHEMA!r}")
        keys = ("weight_class", "gamma", "norm_spread", "tau_max_s", "spectral_norm", "spectral_radius")
        missing = [key for key in (*keys, "eta", "max_slope") if key not in data]
        if missing:
            raise EquilibriumError(f"certificate: {', '.join(missing)} missing; write it again with to_dict")
        made = cls(eta=tuple(data["eta"]), max_slope=tuple(data["max_slope"]), **{key: data[key] for key in keys})
        if (made.weight_class == "A") != (made.gamma < 1.0) or made.to_dict() != data:
            raise EquilibriumError("certificate: its figures contradict each other; certify the matrix again")
        return made


def certify(
    w: Tensor, max_slope: Tensor | float, tau_s: Tensor | None = None, eta: Tensor | None = None
) -> Certificate:
    """The certificate of one *effective* feedback matrix: as built (quantised, mismatched), not as trained.

    Evaluated in float64 whatever the input type. A given ``eta`` is the only one tested; without it the weights are
    the resolvent vector ``(c I - M)^-1 1`` with ``c`` just above the Perron root of ``M = diag(s) |W|``: it tends to
    the Perron vector, but stays positive for reducible ``M`` too. Class A is thus found whenever it exists (up to
    rounding of the root), and ``gamma`` is always evaluated from the weights returned, never inferred.

    Valid for any activation with ``|slope_i| <= s_i`` everywhere the states go.

    Args:
        w: (N, N), pre-activation per state.
        max_slope: slope bound ``s``, a number or (N,), positive. State per pre-activation.
        tau_s: (N,) time constants in seconds, positive; needed for ``settle_bound_s`` only.
        eta: (N,) positive norm weights, for instance ``exp(log_eta)`` of ``class_a``.

    Returns:
        The certificate; ``weight_class`` is "none" when nothing could be shown.

    Raises:
        EquilibriumError: an argument has the wrong shape, is not finite or has the wrong sign.

    Example:
        >>> import torch
        >>> c = certify(torch.tensor([[0.0, 0.5], [-0.5, 0.0]]), 1.0, tau_s=torch.tensor([1e-6, 2e-6]))
        >>> c.weight_class, round(c.gamma, 3), c.lag_robust
        ('A', 0.5, True)
    """
    matrix = w.detach().to("cpu", torch.float64).numpy()
    n = matrix.shape[0] if matrix.ndim else 0
    if n == 0 or matrix.shape != (n, n) or not np.isfinite(matrix).all():
        raise EquilibriumError(f"certify: w must be (N, N) and finite, got shape {tuple(w.shape)}")
    slope = _vector("max_slope", max_slope, n)
    tau = None if tau_s is None else _vector("tau_s", tau_s, n)
    signed = slope[:, None] * matrix
    size = np.abs(signed)
    weights = _search(size) if eta is None else _vector("eta", eta, n)
    weights = weights / weights.max()
    gamma = float((size @ weights / weights).max())
    needed = np.abs(matrix) @ weights / gamma if gamma > 0.0 else np.zeros(n)
    return Certificate(
        weight_class="A" if gamma < 1.0 else "none",
        gamma=gamma,
        eta=tuple(weights.tolist()),
        max_slope=tuple(slope.tolist()),
        norm_spread=max(1.0, float(needed.max() / (weights / slope).min())),
        tau_max_s=None if tau is None else float(tau.max()),
        spectral_norm=float(np.linalg.norm(signed, 2)),
        spectral_radius=float(np.abs(np.linalg.eigvals(signed)).max()),
    )


def _vector(name: str, value: Tensor | float, n: int) -> np.ndarray:
    array = torch.as_tensor(value).detach().to("cpu", torch.float64).numpy()
    if not (np.isfinite(array).all() and (array > 0).all()) or array.shape not in ((), (1,), (n,)):
        raise EquilibriumError(f"certify: {name} must be finite, positive, a number or ({n},); got shape {array.shape}")
    return np.array(np.broadcast_to(array, (n,)))


def _search(size: np.ndarray) -> np.ndarray:
    """Positive weights that nearly minimise ``gamma`` for the non-negative matrix ``size``."""
    n = len(size)
    root = float(np.abs(np.linalg.eigvals(size)).max())
    level = root + 1e-3 * (1.0 - root) if root < 1.0 else root * 1.001
    # A defective matrix can have its root underestimated; the solve then shows a sign, and the level is raised.
    for _ in range(40):
        try:
            weights = np.linalg.solve(level * np.eye(n) - size, np.ones(n))
        except np.linalg.LinAlgError:
            weights = np.zeros(n)
        if (weights > 0).all() and np.isfinite(weights).all():
            return weights
        level = 0.5 * (level + 1.0) if level < 1.0 else 1.5 * level
    return np.ones(n)
