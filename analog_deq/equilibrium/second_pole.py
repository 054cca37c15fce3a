"""A parasitic second pole in every neuron: when a class B or C network stays stable, and when it oscillates.

``tau_i dh_i/dt = -h_i + sum_j W_ij v_j + u_i``,  ``t2_j dv_j/dt = -v_j + act_j(h_j)``: the pole sits between activation
and array (driver, line). With nodes alike, a pole of the op-amp, before the activation, has the same effect. ``M``
has the slope bounds folded into its rows.

Three statements, of different strength:

- **Loop eigenvalues** (slopes 1, all nodes alike): stable exactly when ``|Im x| < k_max sqrt(1 - Re x)`` for every
  eigenvalue ``x`` of ``M``, ``k_max = sqrt(tau/t2) + sqrt(t2/tau)``, from ``(1 + s tau)(1 + s t2) = x`` at ``s = j w``.
- **Frequency condition** (sufficient, nonlinear, global): the symmetric part of ``L N(jw) (I - A(jw) M B(jw))``
  positive for all ``w``, with ``A = 1/(1 + jw tau)``, ``B = 1/(1 + jw t2)`` and the Zames-Falb multiplier
  ``N = (1 + jw tau)/(1 + jw c)``, ``0 < c <= tau``: it is ``tau/c (1 - a/(1 + jw c))`` with ``a = 1 - c/tau < 1``, a
  lag of unit area, as monotone activations allow. ``N A = 1/(1 + jw c)``. The trajectories then reach the one
  equilibrium from anywhere. Without the multiplier (circle criterion alone) a skew loop passes only up to about 2,
  with it to ``k_max``.
- **Linearisation** at sampled slopes (necessary): one unstable sample around an equilibrium with those slopes is
  enough.

Between frequencies the condition is bounded, not sampled: ``Re N`` grows with ``w``, and the rest moves by at most
``||M|| (max|b| dc + max|c| db)``, ``db <= t2 dw / (1 + (w t2)^2)``; intervals are halved until that settles it.
Sources: Zames and Falb, SIAM J. Control 6(1), 1968; Megretski and Rantzer, IEEE TAC 42(6), 1997.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

CORNERS = (1.0, 0.5, 2.0)
"""Corners ``c`` of the multiplier that are tried, in units of ``t2``."""


@dataclass(frozen=True, slots=True)
class SecondPole:
    """What was found for the given second poles.

    Attributes:
        t2_max_s: largest second time constant, seconds.
        k_max: limit of imaginary loop eigenvalues, the smallest over the nodes.
        loop_ratio: largest ``|Im x| / (k_max sqrt(1 - Re x))``; below 1: stable at full slopes, if all nodes are alike
            (else an indication); inf with an eigenvalue of real part 1 or more.
        frequency_margin: smallest eigenvalue met in the frequency condition, in the metric of ``L``; None: no ``L``.
        proved: the condition holds at every frequency: globally stable for every activation within the slopes.
        worst_real_per_s: largest real part of the linearisation over the sampled slopes, 1/s; above 0: unstable.
        slopes_tested: number of slope samples, full slopes included.
    """

    t2_max_s: float
    k_max: float
    loop_ratio: float
    frequency_margin: float | None
    proved: bool
    worst_real_per_s: float
    slopes_tested: int

    @property
    def verdict(self) -> Literal["stable", "unstable", "undecided"]:
        """``stable``: proved. ``unstable``: the linearisation is, at slopes that were sampled. Else ``undecided``."""
        if self.proved:
            return "stable"
        return "unstable" if self.worst_real_per_s > 0.0 else "undecided"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; an infinite ratio is null."""
        return {
            "t2_max_s": self.t2_max_s,
            "k_max": self.k_max,
            "loop_ratio": self.loop_ratio if math.isfinite(self.loop_ratio) else None,
            "frequency_margin": self.frequency_margin,
            "proved": self.proved,
            "worst_real_per_s": self.worst_real_per_s,
            "slopes_tested": self.slopes_tested,
            "verdict": self.verdict,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> SecondPole:
        """The check back from ``to_dict``."""
        fields = {name: data[name] for name in cls.__slots__}
        return cls(**(fields | {"loop_ratio": math.inf if data["loop_ratio"] is None else data["loop_ratio"]}))


def check_second_pole(
    m: np.ndarray, tau_s: np.ndarray, t2_s: np.ndarray, weights: np.ndarray | None, *, samples: int = 24
) -> SecondPole:
    """The three statements for one matrix.

    Args:
        m: (N, N) feedback with slopes folded into its rows.
        tau_s: (N,) main time constants, seconds.
        t2_s: (N,) second time constants, seconds.
        weights: (N,) diagonal Lyapunov weights of ``m`` (class C); None skips the frequency condition.
        samples: slope vectors of the linearisation: all 1, then random corners and interior points in turn.

    Example:
        >>> import numpy as np
        >>> turn = np.array([[0.0, 5.0], [-5.0, 0.0]])
        >>> one = np.ones(2)
        >>> fast, slow = (check_second_pole(turn, one, t2 * one, one) for t2 in (0.02, 0.2))
        >>> round(fast.k_max, 2), fast.verdict, round(slow.k_max, 2), slow.verdict
        (7.21, 'stable', 2.68, 'unstable')
    """
    n = len(m)
    k_max = float((np.sqrt(tau_s / t2_s) + np.sqrt(t2_s / tau_s)).min())
    loop = np.linalg.eigvals(m)
    room = 1.0 - loop.real
    ratio = float((np.abs(loop.imag) / (k_max * np.sqrt(room))).max()) if bool((room > 0).all()) else math.inf
    margin, proved = None, False
    if weights is not None:
        for corner in CORNERS:
            margin, proved = frequency_condition(m, tau_s, t2_s, weights, np.minimum(corner * t2_s, tau_s))
            if proved:
                break
    rng = np.random.default_rng(0)
    slopes = np.ones((samples, n))
    slopes[1::2] = rng.integers(0, 2, slopes[1::2].shape)
    slopes[2::2] = rng.random(slopes[2::2].shape)
    worst = max(_largest_real(m, tau_s, t2_s, d) for d in slopes)
    return SecondPole(float(t2_s.max()), k_max, ratio, margin, proved, worst, samples)


def frequency_condition(
    m: np.ndarray, tau_s: np.ndarray, t2_s: np.ndarray, weights: np.ndarray, corner_s: np.ndarray, *, limit: int = 4000
) -> tuple[float, bool]:
    """Smallest eigenvalue met of the symmetric part of ``N - C M B`` in the metric of ``L``, and whether it is proved.

    Args:
        m: (N, N) feedback with slopes folded into its rows.
        tau_s: (N,) main time constants, seconds.
        t2_s: (N,) second time constants, seconds.
        weights: (N,) the diagonal of ``L``.
        corner_s: (N,) corners ``c`` of the multiplier, seconds, at most ``tau_s``.
        limit: number of frequencies after which it gives up, unproved.
    """
    root = np.sqrt(weights)
    scaled = root[:, None] * m / root
    norm = float(np.linalg.norm(scaled, 2))
    # Beyond the last frequency |c b| <= 1 / (9 (1 + norm)), so the loop is below 1/9, and Re N >= 1.
    last = 3.0 * math.sqrt(1.0 + norm) / min(float(corner_s.min()), float(t2_s.min()))
    edges = np.concatenate([[0.0], np.geomspace(1e-3 / max(float(tau_s.max()), float(t2_s.max())), last, 48)])
    start, stop = edges[:-1], edges[1:]
    smallest, seen = math.inf, 0
    while len(start):
        c, b = (1.0 / (1.0 + 1j * start[:, None] * t) for t in (corner_s, t2_s))
        grown = (1.0 + start[:, None] ** 2 * tau_s * corner_s) * np.abs(c) ** 2
        value = np.concatenate(
            [_least(grown[i : i + 64], c[i : i + 64], b[i : i + 64], scaled) for i in range(0, len(start), 64)]
        )
        smallest, seen = min(smallest, float(value.min())), seen + len(start)
        if smallest <= 0.0:
            return smallest, False
        width = (stop - start)[:, None]
        moved_c = (corner_s * width * np.abs(c) ** 2).max(1)
        moved_b = (t2_s * width * np.abs(b) ** 2).max(1)
        moved = norm * (np.abs(b).max(1) * moved_c + np.abs(c).max(1) * moved_b)
        open_ = value <= moved + 1e-12 * norm
        if seen + 2 * int(open_.sum()) > limit:
            return smallest, False
        middle = 0.5 * (start[open_] + stop[open_])
        start, stop = np.concatenate([start[open_], middle]), np.concatenate([middle, stop[open_]])
    return smallest, True


def _least(grown: np.ndarray, c: np.ndarray, b: np.ndarray, scaled: np.ndarray) -> np.ndarray:
    """Least eigenvalue per frequency of ``Re N`` minus the Hermitian part of ``C M B``."""
    loop = c[:, :, None] * scaled * b[:, None, :]
    condition = -0.5 * (loop + loop.conj().transpose(0, 2, 1))
    index = np.arange(len(scaled))
    condition[:, index, index] += grown
    return np.linalg.eigvalsh(condition)[:, 0]


def _largest_real(m: np.ndarray, tau_s: np.ndarray, t2_s: np.ndarray, slope: np.ndarray) -> float:
    """Largest real part of the linearised circuit ``(h, v)`` at given slopes, 1/s."""
    n = len(m)
    a = np.zeros((2 * n, 2 * n))
    a[:n, :n], a[:n, n:] = np.diag(-1.0 / tau_s), m / tau_s[:, None]
    a[n:, :n], a[n:, n:] = np.diag(slope / t2_s), np.diag(-1.0 / t2_s)
    return float(np.linalg.eigvals(a).real.max())
