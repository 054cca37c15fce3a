"""What can be promised about a feedback matrix as built: uniqueness, stability, latency, error gain, tolerance.

``M = diag(s) W`` folds the slope bounds ``0 <= act'_i <= s_i`` (class A: ``|act'_i| <= s_i``) into the rows. Each class
is one bound ``gamma < 1`` on ``M``:

- **A**: ``max_i sum_j |M_ij| eta_j / eta_i``, a norm; also robust to lags.
- **B**: ``max_i (M_ii + sum_{j != i} |M_ij| eta_j / eta_i)``, a logarithmic norm (infinity norm weighted by
  ``1 / eta``).
- **C**: ``1 - m``, the largest eigenvalue of the symmetric part of ``L^(1/2) M L^(-1/2)``, a logarithmic 2-norm.

The circuit moves ``h``, where the slope sits on the *columns* of the Jacobian ``T^-1 (-I + W D)``. Class A: with
``xi = eta / s`` the rows give ``sum_j |W_ij| s_j xi_j / xi_i <= gamma``, so ``h`` contracts at the same ``gamma``. Any
``xi_i`` in ``[(|W| eta)_i / gamma, eta_i / s_i]`` serves; the least spread one is used. Classes B and C: a column
scaling spoils a signed diagonal, so latency comes from the diagonal Lyapunov function (``lyapunov_bounds.py``).
Sources: Jafarpour et al., arXiv:2106.03194; Davydov et al., arXiv:2110.08298; Revay et al., arXiv:2010.01732.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from analog_deq.equilibrium.claim import Claim
from analog_deq.equilibrium.classify import Figures, classify
from analog_deq.equilibrium.second_pole import SecondPole, check_second_pole
from analog_deq.errors import EquilibriumError

SCHEMA = "analog_deq.certificate/2"


@dataclass(frozen=True, slots=True)
class Certificate:
    """A checked statement about one effective matrix.

    Attributes:
        weight_class: "A", "B", "C" or "none".
        gamma: the bound of the class (above); for "none" the smallest row bound found, at least 1.
        weights: ``eta`` (A, B, none), the diagonal of ``L`` (C); (N,), maximum 1.
        max_slope: slope bound per node.
        tau_max_s: slowest time constant in seconds, None when no ``tau_s`` was given.
        rate_per_s: ``|h - h*|`` decays at least at this rate; None without class or time constants.
        norm_spread: constant in front of that decay, read node by node; None like ``rate_per_s``.
        error_gain: state error per error of the activations: infinity norm weighted by ``1 / eta`` (A, B), 2-norm
            weighted by ``l`` (C); None for "none".
        mismatch_margin: relative error of every weight, worst case, up to which the class certainly holds; for "none"
            ``1 / gamma - 1``, a shortfall, at most 0. inf when nothing can spoil it (W = 0).
        spectral_norm: ``||M||_2``.
        spectral_radius: largest ``|eigenvalue|`` of ``M`` (signed; not a bound on anything by itself).
        second_pole: the check of a parasitic second pole; None when no ``second_pole_s`` was given.
    """

    weight_class: Literal["A", "B", "C", "none"]
    gamma: float
    weights: tuple[float, ...]
    max_slope: tuple[float, ...]
    tau_max_s: float | None
    rate_per_s: float | None
    norm_spread: float | None
    error_gain: float | None
    mismatch_margin: float
    spectral_norm: float
    spectral_radius: float
    second_pole: SecondPole | None = None

    @property
    def unique(self) -> bool:
        """One equilibrium for every input, reached from anywhere for any positive time constants: A, B or C."""
        return self.weight_class != "none"

    @property
    def margin(self) -> float | None:
        """``m = 1 - gamma`` of class C, else None."""
        return 1.0 - self.gamma if self.weight_class == "C" else None

    @property
    def eta(self) -> tuple[float, ...] | None:
        """Norm weights of the states (A, B; "none": those tried), None for class C."""
        return None if self.weight_class == "C" else self.weights

    @property
    def lag_robust(self) -> bool:
        """Stable under any parasitic lag or delay on any path, if each has unit area and no overshoot: A only."""
        return self.weight_class == "A"

    @property
    def static_error_amplification(self) -> float | None:
        """``error_gain``: ``1 / (1 - max(gamma, 0))`` for A and B."""
        return self.error_gain

    def claim(self) -> Claim | None:
        """What a solve may be told about this matrix, None for "none"."""
        if self.weight_class == "none":
            return None
        weights = torch.tensor(self.weights, dtype=torch.float64)
        if self.weight_class == "C":
            return Claim("C", math.nan, weights, self.margin)
        return Claim(self.weight_class, self.gamma, weights)

    def settle_bound_s(self, tol: float = 4e-3) -> float | None:
        """Seconds after which every ``|h_i - h_i*|`` is at most ``tol`` times the largest initial one.

        ``ln(norm_spread / tol) / rate``. The rate is ``(1 - gamma) / tau_max`` for A; for B and C it comes from the
        Lyapunov function, about ``m / tau_max`` and at most ``1 / (2 tau_max)``. One pole per node only: a second pole
        is not in it. None when not certified or without time constants.
        """
        if not 0.0 < tol < 1.0:
            raise EquilibriumError(f"settle_bound_s: tol is {tol}; give a fraction between 0 and 1")
        if self.rate_per_s is None or self.norm_spread is None:
            return None
        return math.log(self.norm_spread / tol) / self.rate_per_s

    def statement(self) -> str:
        """The certificate in words; says so when there is none."""
        if self.weight_class == "none":
            bound = f"row bound {self.gamma:.3f}, must be below 1"
            return f"not certified: several equilibria or oscillation are possible ({bound})"
        figure = f"margin {self.margin:.3g}" if self.weight_class == "C" else f"gamma {self.gamma:.3f}"
        margin = 100.0 * self.mismatch_margin
        tolerance = (
            f"tolerates {margin:.2g} % error of every weight" if math.isfinite(margin) else "for any weight error"
        )
        head = f"class {self.weight_class}, {figure}: one equilibrium, stable for any positive time constants"
        if self.lag_robust:
            return f"{head} and any lag without overshoot, {tolerance}"
        return f"{head}, {tolerance}; NOT robust to lags: {self._pole_words()}"

    def _pole_words(self) -> str:
        pole = self.second_pole
        if pole is None:
            return "no second pole was checked"
        until = f"second poles of up to {pole.t2_max_s:.3g} s"
        loop = f"(loop at {100 * pole.loop_ratio:.0f} % of k_max)"
        if pole.verdict == "stable":
            return f"with {until} (poles, not pure delays) stability is proved {loop}"
        if pole.verdict == "unstable":
            return f"with {until} it OSCILLATES at slopes that were tested {loop}"
        return f"with {until} nothing is proved, though {pole.slopes_tested} tested slopes are stable"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, derived figures included for the reader; an unbounded margin is null."""
        data = {name: getattr(self, name) for name in self.__slots__}
        return {
            "schema": SCHEMA,
            **data,
            "weights": list(self.weights),
            "max_slope": list(self.max_slope),
            "mismatch_margin": self.mismatch_margin if math.isfinite(self.mismatch_margin) else None,
            "second_pole": None if self.second_pole is None else self.second_pole.to_dict(),
            "unique": self.unique,
            "lag_robust": self.lag_robust,
            "settle_bound_s": self.settle_bound_s(),
            "statement": self.statement(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Certificate:
        """The certificate back from ``to_dict``; refuses an unknown schema or figures that contradict each other."""
        if data.get("schema") != SCHEMA:
            raise EquilibriumError(
                f"certificate: schema is {data.get('schema')!r}, this version reads {SCHEMA!r}; "
                "certify the matrix again"
            )
        missing = [name for name in cls.__slots__ if name not in data]
        if missing:
            raise EquilibriumError(f"certificate: {', '.join(missing)} missing; write it again with to_dict")
        fields = {name: data[name] for name in cls.__slots__}
        fields["weights"], fields["max_slope"] = tuple(data["weights"]), tuple(data["max_slope"])
        fields["mismatch_margin"] = math.inf if data["mismatch_margin"] is None else data["mismatch_margin"]
        fields["second_pole"] = None if data["second_pole"] is None else SecondPole.from_dict(data["second_pole"])
        made = cls(**fields)
        gain = made.error_gain if made.weight_class in ("none", "C") else 1.0 / (1.0 - max(made.gamma, 0.0))
        if made.unique != (made.gamma < 1.0) or gain != made.error_gain or made.to_dict() != data:
            raise EquilibriumError("certificate: its figures contradict each other; certify the matrix again")
        return made


def certify(
    w: Tensor,
    max_slope: Tensor | float,
    tau_s: Tensor | float | None = None,
    eta: Tensor | None = None,
    *,
    second_pole_s: Tensor | float | None = None,
) -> Certificate:
    """The certificate of one *effective* feedback matrix: as built (quantised, mismatched), not as trained.

    Looks for class A, then B, then C, in float64 whatever the input type. A and B are found whenever they exist (up to
    rounding of a Perron root), C nearly so (``lyapunov_diagonal.py``); every figure is evaluated from the weights
    returned, never inferred. A given ``eta`` is the only one tested for A and B.

    Valid for any activation with slopes in [0, s_i] everywhere the states go.

    Args:
        w: (N, N), pre-activation per state.
        max_slope: slope bound ``s``, a number or (N,), positive. State per pre-activation.
        tau_s: (N,) or a number: time constants in seconds, positive; needed for latency and for the second pole.
        eta: (N,) positive norm weights, for instance ``exp(log_eta)`` of ``class_a``.
        second_pole_s: (N,) or a number: time constants of the parasitic second poles in seconds.

    Returns:
        The certificate; ``weight_class`` is "none" when nothing could be shown.

    Raises:
        EquilibriumError: an argument has the wrong shape, is not finite or has the wrong sign.

    Example:
        >>> import torch
        >>> c = certify(torch.tensor([[0.0, 0.5], [-0.5, 0.0]]), 1.0, tau_s=torch.tensor([1e-6, 2e-6]))
        >>> c.weight_class, round(c.gamma, 3), c.lag_robust
        ('A', 0.5, True)
        >>> certify(torch.tensor([[0.5, 3.0], [-3.0, 0.5]]), 1.0, 1e-6, second_pole_s=1e-8).statement()[:55]
        'class C, margin 0.5: one equilibrium, stable for any po'
    """
    matrix = w.detach().to("cpu", torch.float64).numpy()
    n = matrix.shape[0] if matrix.ndim else 0
    if n == 0 or matrix.shape != (n, n) or not np.isfinite(matrix).all():
        raise EquilibriumError(f"certify: w must be (N, N) and finite, got shape {tuple(w.shape)}")
    slope = _vector("max_slope", max_slope, n)
    tau = None if tau_s is None else _vector("tau_s", tau_s, n)
    t2 = None if second_pole_s is None else _vector("second_pole_s", second_pole_s, n)
    if t2 is not None and tau is None:
        raise EquilibriumError("certify: second_pole_s needs tau_s, the main time constants it is compared with")
    m = slope[:, None] * matrix
    given = None if eta is None else _vector("eta", eta, n)
    found = classify(m, given if given is None else given / given.max())
    figures = Figures.of(found, m, slope, tau)
    pole = None if t2 is None or tau is None else check_second_pole(m, tau, t2, found.lyapunov)
    return Certificate(
        weight_class=found.weight_class,
        gamma=found.gamma,
        weights=tuple(found.weights.tolist()),
        max_slope=tuple(slope.tolist()),
        tau_max_s=None if tau is None else float(tau.max()),
        rate_per_s=figures.rate_per_s,
        norm_spread=figures.norm_spread,
        error_gain=figures.error_gain,
        mismatch_margin=figures.mismatch_margin,
        spectral_norm=float(np.linalg.norm(m, 2)),
        spectral_radius=float(np.abs(np.linalg.eigvals(m)).max()),
        second_pole=pole,
    )


def _vector(name: str, value: Tensor | float, n: int) -> np.ndarray:
    array = torch.as_tensor(value).detach().to("cpu", torch.float64).numpy()
    if not (np.isfinite(array).all() and (array > 0).all()) or array.shape not in ((), (1,), (n,)):
        raise EquilibriumError(f"certify: {name} must be finite, positive, a number or ({n},); got shape {array.shape}")
    return np.array(np.broadcast_to(array, (n,)))
