"""Stationary noise: against scipy's Lyapunov solver, a simulated circuit, and the one-pole formula."""

import pytest
import torch
from scipy.linalg import solve_continuous_lyapunov

from analog_deq.equilibrium.cell import System, Tanh
from analog_deq.equilibrium.noise import linearise, sample_noise, stationary_covariance
from analog_deq.equilibrium.solve import equilibrium
from analog_deq.equilibrium.weights import class_a
from analog_deq.errors import EquilibriumError

torch.set_num_threads(1)
F64 = torch.float64


def circuit(n: int, batch: int, decades: float, seed: int = 0):
    """A (batch, n, n) of random class A circuits at random slopes, and Q (batch, n, n)."""
    gen = torch.Generator().manual_seed(seed)
    w = class_a(torch.randn(n, n, generator=gen, dtype=F64), torch.randn(n, generator=gen, dtype=F64), 0.95)
    tau = 1e-6 * 10 ** (decades * torch.rand(n, generator=gen, dtype=F64))
    a = linearise(w, torch.rand(batch, n, generator=gen, dtype=F64), tau)
    b = torch.randn(batch, n, n, generator=gen, dtype=F64) * 1e-8 / tau[:, None]
    return a, b @ b.mT


@pytest.mark.parametrize(("n", "decades"), [(1, 0.0), (8, 0.0), (32, 3.0), (8, 6.0)])
def test_agrees_with_scipy(n, decades):
    a, q = circuit(n, 8, decades)
    c = stationary_covariance(a, q)
    for k in range(8):
        reference = torch.from_numpy(solve_continuous_lyapunov(a[k].numpy(), -q[k].numpy()))
        assert (c[k] - reference).norm() <= 1e-9 * reference.norm()
        assert torch.equal(c[k], c[k].T)


def test_one_pole_gives_kt_over_c():
    tau, density = torch.tensor([2e-6], dtype=F64), 5.0
    a = linearise(torch.zeros(1, 1, dtype=F64), torch.ones(1, dtype=F64), tau)
    assert stationary_covariance(a, density / tau[:, None] ** 2).item() == pytest.approx(density / (2 * 2e-6))


def test_float32_and_broadcast_q():
    a, q = circuit(8, 4, 1.0)
    exact = stationary_covariance(a, q[0])
    assert torch.allclose(
        stationary_covariance(a.float(), q[0].float()).double(), exact, rtol=1e-2, atol=1e-4 * exact.max()
    )


def test_gradient_flows_through_the_covariance():
    a, q = circuit(4, 2, 0.5)
    a, q = (a * 1e-6).requires_grad_(), (q / q.abs().max()).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: stationary_covariance(x, y + y.mT), (a, q))


@pytest.mark.parametrize("root", [1e-3, 0.0, 1.0, 50.0])
def test_unstable_circuits_are_refused(root):
    a = torch.diag_embed(torch.tensor([[-1.0, -1.0], [-1.0, root]], dtype=F64))
    with pytest.raises(EquilibriumError, match="matrix 1 of 2 is not Hurwitz"):
        stationary_covariance(a, torch.eye(2, dtype=F64))


def test_oscillator_on_the_edge_is_refused():
    a = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=F64)
    with pytest.raises(EquilibriumError, match="not Hurwitz"):
        stationary_covariance(a, torch.eye(2, dtype=F64))


def test_malformed_arguments_are_named():
    eye = torch.eye(2, dtype=F64)
    with pytest.raises(EquilibriumError, match="of one dtype"):
        stationary_covariance(-eye, eye.float())
    with pytest.raises(EquilibriumError, match="not finite"):
        stationary_covariance(-eye * float("nan"), eye)
    with pytest.raises(EquilibriumError, match="q must be symmetric"):
        stationary_covariance(-eye, torch.tensor([[1.0, 5.0], [0.0, 1.0]], dtype=F64))
    with pytest.raises(EquilibriumError, match="not a covariance"):
        sample_noise(torch.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=F64), torch.Generator())


def test_agrees_with_the_simulated_nonlinear_circuit():
    gen = torch.Generator().manual_seed(5)
    n, paths, dt = 4, 4000, 0.02
    w = class_a(torch.randn(n, n, generator=gen, dtype=F64), torch.zeros(n, dtype=F64), 0.8)
    u = 0.5 * torch.randn(1, n, generator=gen, dtype=F64)
    tau = torch.tensor([1.0, 2.0, 0.5, 1.5], dtype=F64)
    z, _ = equilibrium(System(w, u, Tanh()), tol=1e-13)
    h = (z @ w.T + u).expand(paths, n).clone()
    sigma = 0.02
    c = stationary_covariance(linearise(w, 1 - z[0] ** 2, tau), torch.diag((sigma / tau) ** 2))
    total, count = torch.zeros(n, n, dtype=F64), 0
    for step in range(1500):
        drift = (torch.tanh(h) @ w.T + u - h) / tau
        h = h + drift * dt + sigma / tau * dt**0.5 * torch.randn(h.shape, generator=gen, dtype=F64)
        if step >= 750 and step % 50 == 0:
            d = h - (z @ w.T + u)
            total, count = total + d.T @ d / paths, count + 1
    ratio = (total / count).diagonal().sqrt() / c.diagonal().sqrt()
    assert ((ratio - 1).abs() < 0.03).all()


def test_draws_have_the_covariance_asked_for():
    c = torch.tensor([[4e-12, 1e-12, 0.0], [1e-12, 1e-12, 0.0], [0.0, 0.0, 0.0]], dtype=F64)
    gen = torch.Generator().manual_seed(2)
    x = sample_noise(c.expand(40000, 3, 3), gen)
    assert torch.allclose(x.T @ x / 40000, c, rtol=0.05, atol=5e-14)
    assert not x[:, 2].any()
    together = sample_noise(torch.ones(2, 2, dtype=F64), gen)
    assert (together[0] - together[1]).abs() < 1e-5
    again = sample_noise(torch.ones(2, 2, dtype=F64), torch.Generator().manual_seed(7))
    assert torch.equal(again, sample_noise(torch.ones(2, 2, dtype=F64), torch.Generator().manual_seed(7)))
