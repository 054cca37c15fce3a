"""Diagonal Lyapunov matrices: found where one was built in, refused where none can be, and the bounds they give."""

import math

import numpy as np
import pytest
import torch

from analog_deq.equilibrium.cell import HardClip, System, Tanh
from analog_deq.equilibrium.certificate import certify
from analog_deq.equilibrium.lyapunov_bounds import settling
from analog_deq.equilibrium.lyapunov_diagonal import diagonal_margin, find_diagonal
from analog_deq.equilibrium.row_bounds import majorant, perron_weights, row_bound
from analog_deq.equilibrium.settle import integrate
from analog_deq.equilibrium.solve import equilibrium
from analog_deq.equilibrium.weights import class_b, class_c

torch.set_num_threads(1)
F64 = torch.float64


def class_c_matrix(
    rng: np.random.Generator, n: int, margin: float, skew: float, spread: float
) -> tuple[np.ndarray, np.ndarray]:
    """A matrix of class C and the diagonal it was built with, far from equal."""
    v, k = rng.normal(size=(2, n, n)) / math.sqrt(n)
    psi = np.exp(spread * rng.normal(size=n))
    return (1 - margin) * np.eye(n) - psi[:, None] * (v.T @ v + skew * (k - k.T)), 1 / psi


@pytest.mark.parametrize("n", [4, 16, 64])
@pytest.mark.parametrize("skew", [0.3, 3.0])
def test_a_diagonal_is_found_where_one_was_built_in(n, skew):
    rng = np.random.default_rng(n)
    for _ in range(20 if n < 64 else 4):
        m, built = class_c_matrix(rng, n, 0.05, skew, 1.0)
        assert diagonal_margin(built, m) >= 0.05 - 1e-10
        weights, margin = find_diagonal(m)
        assert margin > 0.04  # four fifths of what was built in, often more
        assert weights.min() > 0
        assert weights.max() == 1
        # an independent look at the inequality itself
        p = weights[:, None] * (np.eye(n) - m)
        assert np.linalg.eigvalsh(p + p.T - 1.999 * margin * np.diag(weights))[0] >= 0


def test_equal_weights_alone_would_miss_most_of_them():
    rng = np.random.default_rng(0)
    matrices = [class_c_matrix(rng, 16, 0.05, 1.0, 1.0)[0] for _ in range(20)]
    assert sum(diagonal_margin(np.ones(16), m) > 0 for m in matrices) < 5


def test_a_matrix_of_128_nodes_is_found_too():
    m, _ = class_c_matrix(np.random.default_rng(1), 128, 0.05, 1.0, 0.5)
    assert find_diagonal(m)[1] > 0


def test_what_cannot_be_class_c_is_refused():
    """Eigenvalues of real part above 1, a diagonal entry of 1 or more; and a stable matrix without any diagonal."""
    rng = np.random.default_rng(2)
    for _ in range(20):
        m = rng.normal(size=(8, 8))
        m *= 1.2 / np.linalg.eigvals(m).real.max()
        assert find_diagonal(m)[1] < 0
    # -(I - M) is stable (trace < 0, det > 0), yet one entry of the diagonal of I - M is negative
    m = np.eye(2) - np.array([[-0.5, 2.0], [-2.0, 1.5]])
    assert np.linalg.eigvals(m).real.max() < 1
    assert find_diagonal(m)[1] < 0
    # all of I - M positive stable with positive diagonal, but det < 0 for the leading block: not a P-matrix
    a = np.array([[1.0, 2.0, 5.0], [1.0, 1.0, -5.0], [-5.0, 5.0, 6.0]])
    assert np.linalg.det(a[:2, :2]) < 0
    assert find_diagonal(np.eye(3) - a)[1] < 0


@pytest.mark.parametrize("size", ["abs", "signed"])
def test_row_bounds_reach_the_perron_root(size):
    rng = np.random.default_rng(3)
    for _ in range(50):
        m = rng.normal(size=(7, 7)) * 10 ** rng.uniform(-1, 1)
        k = np.abs(m) if size == "abs" else majorant(m)
        root = float(np.linalg.eigvals(k).real.max())
        reached = row_bound(k, perron_weights(k))
        assert root - 1e-9 <= reached  # no weights do better
        assert reached <= root + 2e-2 * (1 + abs(root) + np.abs(np.diag(m)).max())


def random_b(gen: torch.Generator) -> torch.Tensor:
    return class_b(3 * torch.randn(8, 8, generator=gen, dtype=F64), torch.randn(8, generator=gen, dtype=F64), 0.8)


def random_c(gen: torch.Generator) -> torch.Tensor:
    v, k = torch.randn(2, 8, 8, generator=gen, dtype=F64) / math.sqrt(8)
    return class_c(v, 2 * k, 0.5 * torch.randn(8, generator=gen, dtype=F64), 0.2)


@pytest.mark.parametrize("act", [Tanh(), HardClip()])
@pytest.mark.parametrize("make", [random_b, random_c])
def test_the_circuit_settles_within_the_bound_with_time_constants_over_two_decades(make, act):
    gen = torch.Generator().manual_seed(4)
    for _ in range(10):
        w = make(gen)
        tau = 10 ** (2 * torch.rand(8, generator=gen, dtype=F64))
        rate, spread = settling(np.array(certify_weights(w)), w.numpy(), np.ones(8), tau.numpy())
        u = 2 * torch.randn(4, 8, generator=gen, dtype=F64)
        z, _ = equilibrium(System(w, u, act), damping=0.05, tol=1e-12, max_iterations=200_000)
        final = z @ w.T + u
        h0 = 4 * torch.randn(4, 8, generator=gen, dtype=F64)
        fastest = float(tau.min()) / (1 + float(torch.linalg.matrix_norm(w, 2)))
        t, h = integrate(w, u, act, tau, t_end_s=min(3 / rate, 4000 * fastest), dt_s=fastest, h0=h0)
        error = (h - final).abs().amax(-1) / (h0 - final).abs().amax(-1)
        assert (error <= (spread * torch.exp(-rate * t))[:, None] * (1 + 1e-6) + 1e-9).all()


def certify_weights(w: torch.Tensor) -> np.ndarray:
    weights, margin = find_diagonal(w.numpy())
    assert margin > 0
    return weights


@pytest.mark.parametrize("make", [random_b, random_c])
def test_static_errors_stay_within_the_gain(make):
    gen = torch.Generator().manual_seed(5)

    class Shifted(Tanh):
        def __init__(self, offset: torch.Tensor) -> None:
            object.__setattr__(self, "max_slope", 1.0)
            self.__class__.offset = offset  # frozen parent

        def value(self, h: torch.Tensor) -> torch.Tensor:
            return torch.tanh(h) + self.offset

    worst = 0.0
    for _ in range(20):
        w, u = make(gen), torch.randn(4, 8, generator=gen, dtype=F64)
        c = certify(w, 1.0)
        offset = 0.1 * torch.randn(8, generator=gen, dtype=F64)
        z, moved = (
            equilibrium(System(w, u, act), damping=0.05, tol=1e-12, max_iterations=200_000)[0]
            for act in (Tanh(), Shifted(offset))
        )
        weights = torch.tensor(c.weights, dtype=F64)
        if c.weight_class == "C":
            ratio = ((moved - z) * weights.sqrt()).norm(dim=-1) / (offset * weights.sqrt()).norm()
        else:
            ratio = ((moved - z) / weights).abs().amax(-1) / (offset / weights).abs().max()
        worst = max(worst, float(ratio.max() / c.static_error_amplification))
    assert worst <= 1
    assert worst > 0.02  # not vacuous
