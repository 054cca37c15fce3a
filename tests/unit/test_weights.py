"""Class A parameters: the promises hold for a thousand random draws, not for a chosen example."""

import pytest
import torch

from analog_deq.equilibrium.cell import System, Tanh
from analog_deq.equilibrium.solve import equilibrium
from analog_deq.equilibrium.weights import class_a
from analog_deq.errors import EquilibriumError

torch.set_num_threads(1)
N, DRAWS, GAMMA = 8, 1000, 0.9


@pytest.fixture(scope="module")
def drawn() -> tuple[torch.Tensor, torch.Tensor, torch.Generator]:
    """Matrices (1000, 8, 8) and their eta (1000, 8), of parameters spread over two decades."""
    gen = torch.Generator().manual_seed(11)
    scale = 10 ** (2 * torch.rand(DRAWS, 1, 1, generator=gen, dtype=torch.float64) - 1)
    t = scale * torch.randn(DRAWS, N, N, generator=gen, dtype=torch.float64)
    log_eta = torch.randn(DRAWS, N, generator=gen, dtype=torch.float64)
    w = torch.stack([class_a(a, b, GAMMA) for a, b in zip(t, log_eta, strict=True)])
    return w, log_eta.exp(), gen


def test_every_row_is_within_the_bound(drawn):
    w, eta, _ = drawn
    rows = (w.abs() @ eta[..., None])[..., 0] / eta
    assert rows.max() <= GAMMA * (1 + 1e-12)


def test_every_start_reaches_the_same_equilibrium(drawn):
    w, _, gen = drawn
    u = torch.randn(DRAWS, 3, N, generator=gen, dtype=torch.float64)
    starts = [2 * torch.rand(u.shape, generator=gen, dtype=torch.float64) - 1 for _ in range(2)]
    a, b = (equilibrium(System(w, u, Tanh()), z0=z0, tol=1e-12, max_iterations=2000)[0] for z0 in starts)
    assert (a - b).abs().max() < 1e-9


def test_stable_for_any_time_constants(drawn):
    w, _, gen = drawn
    for _ in range(6):
        tau = 10 ** (3 * torch.rand(DRAWS, N, generator=gen, dtype=torch.float64))
        slope = torch.rand(DRAWS, N, generator=gen, dtype=torch.float64)
        a = (w * slope[:, None, :] - torch.eye(N, dtype=torch.float64)) / tau[..., None]
        largest = torch.linalg.eigvals(a).real.amax(-1)
        assert (largest <= -(1 - GAMMA) / tau.amax(-1) * (1 - 1e-9)).all()


def test_stable_with_a_random_lag_on_every_path(drawn):
    w, _, gen = drawn
    w = w[:120]
    tau = 10 ** (3 * torch.rand(120, N, generator=gen, dtype=torch.float64))
    lag = 10 ** (3 * torch.rand(120, N, N, generator=gen, dtype=torch.float64))
    # states: h (N), then y_ij (N*N): tau_i h_i' = -h_i + sum_j W_ij y_ij, lag_ij y_ij' = -y_ij + D_j h_j
    slope = torch.rand(120, N, generator=gen, dtype=torch.float64)
    a = torch.zeros(120, N + N * N, N + N * N, dtype=torch.float64)
    for i in range(N):
        a[:, i, i] = -1 / tau[:, i]
        for j in range(N):
            k = N + N * i + j
            a[:, i, k] = w[:, i, j] / tau[:, i]
            a[:, k, k] = -1 / lag[:, i, j]
            a[:, k, j] = slope[:, j] / lag[:, i, j]
    assert torch.linalg.eigvals(a).real.max() < 0


def test_slope_bounds_fold_into_the_rows():
    t, slope = torch.randn(4, 4, dtype=torch.float64) * 3, torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64)
    w = class_a(t, torch.zeros(4, dtype=torch.float64), 0.9, max_slope=slope)
    assert ((w.abs().sum(1) * slope) <= 0.9 + 1e-12).all()


def test_small_parameters_pass_unchanged_and_gradients_are_right():
    t = 0.05 * torch.randn(4, 4, dtype=torch.float64)
    assert torch.equal(class_a(t, torch.zeros(4, dtype=torch.float64), 0.9), 0.9 * (t / 0.9))
    gen = torch.Generator().manual_seed(0)
    big = torch.randn(4, 4, generator=gen, dtype=torch.float64).requires_grad_()
    log_eta = torch.randn(4, generator=gen, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: class_a(a, b, 0.9), (big, log_eta))


@pytest.mark.parametrize(
    ("t", "log_eta", "gamma", "slope", "words"),
    [
        (torch.zeros(2, 3), torch.zeros(2), 0.9, 1.0, "one log weight per row"),
        (torch.zeros(2, 2), torch.zeros(2), 1.0, 1.0, "0 < gamma < 1"),
        (torch.zeros(2, 2), torch.zeros(2), 0.9, 0.0, "max_slope must be positive"),
    ],
)
def test_wrong_arguments_are_named(t, log_eta, gamma, slope, words):
    with pytest.raises(EquilibriumError, match=words):
        class_a(t, log_eta, gamma, slope)
