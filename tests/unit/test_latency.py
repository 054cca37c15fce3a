"""Settling time as a quantity to train: eigenvalues against finite differences, the bound, a budget that is kept."""

import doctest
import math

import pytest
import torch

from analog_deq.equilibrium import latency
from analog_deq.equilibrium.cell import Tanh
from analog_deq.equilibrium.dynamics import Dynamics, trajectory
from analog_deq.equilibrium.latency import certified_rate, modal_rate, settle_time, settling_penalty
from analog_deq.equilibrium.settle import settling_time
from analog_deq.equilibrium.weights import class_a
from analog_deq.errors import EquilibriumError

torch.set_num_threads(1)
F64 = torch.float64


def circuit(n: int = 6, batch: int = 3, seed: int = 0):
    gen = torch.Generator().manual_seed(seed)
    w = class_a(torch.randn(n, n, generator=gen, dtype=F64), torch.zeros(n, dtype=F64), 0.9)
    slope = 0.3 + 0.7 * torch.rand(batch, n, generator=gen, dtype=F64)
    return w, slope, 0.5 + torch.rand(n, generator=gen, dtype=F64)


@pytest.mark.parametrize("modes", [1, 4])
def test_the_gradient_is_that_of_finite_differences(modes):
    leaves = [x.clone().requires_grad_() for x in circuit()]
    assert torch.autograd.gradcheck(lambda *x: modal_rate(*x, modes=modes), leaves)


def test_the_smooth_rate_is_below_the_true_one_by_at_most_its_share():
    w, slope, tau = circuit(n=12, batch=20)
    true, smooth = modal_rate(w, slope, tau, modes=1), modal_rate(w, slope, tau)
    assert (smooth <= true * (1 + 1e-12)).all()
    assert (smooth >= true * (1 - math.log(4) / 20) - 1e-12).all()
    a = (w * slope[3] - torch.eye(12, dtype=F64)) / tau[:, None]
    assert true[3].item() == pytest.approx(-float(torch.linalg.eigvals(a).real.max()))


def test_a_complex_pair_gives_a_real_gradient():
    w = torch.tensor([[0.0, 2.0], [-2.0, 0.1]], dtype=F64, requires_grad=True)
    one = torch.ones(2, dtype=F64)
    rate = modal_rate(w, one, one, modes=1)
    assert rate.item() == pytest.approx(1 - 0.05)
    assert torch.autograd.gradcheck(lambda x: modal_rate(x, one, one, modes=1), w)


def test_the_certificate_bounds_every_rate():
    for seed in range(20):
        w, slope, tau = circuit(n=8, batch=8, seed=seed)
        assert (modal_rate(w, slope, tau, modes=1) >= certified_rate(0.9, tau) * (1 - 1e-9)).all()
    gamma, tau = torch.tensor(0.6, dtype=F64, requires_grad=True), torch.tensor([1.0, 2.0], dtype=F64)
    assert torch.autograd.gradcheck(lambda g, t: settle_time(certified_rate(g, t), 0.01), (gamma, tau.requires_grad_()))
    assert settle_time(certified_rate(gamma, tau), 0.01).item() == pytest.approx(2 / 0.4 * math.log(100))


def test_time_and_penalty_in_closed_form():
    rate = torch.tensor([2.0, 0.5, -1.0], dtype=F64, requires_grad=True)
    tol = math.exp(-2.0)
    assert settle_time(rate, tol).tolist() == [1.0, 4.0, math.inf]
    assert settling_penalty(rate[:1], 1.0, tol).item() == 0.0
    assert settling_penalty(rate[1:], 1.0, tol).item() == pytest.approx((0.75**2 + 1.5**2) / 2)
    settling_penalty(rate, 1.0, tol).backward()
    assert rate.grad[0] == 0.0
    assert (rate.grad[1:] < 0).all()
    assert torch.isfinite(rate.grad).all()


def test_training_with_the_penalty_settles_within_the_budget():
    """A slow circuit, trained on the penalty alone: the time *integrated* falls from far above the budget to below."""
    gen = torch.Generator().manual_seed(4)
    n, batch, tol = 8, 16, 0.01
    t = (torch.eye(n, dtype=F64) * 2 + 0.1 * torch.randn(n, n, generator=gen, dtype=F64)).requires_grad_()
    u = 0.02 * torch.randn(batch, n, generator=gen, dtype=F64)
    tau = 1e-6 * (1 + 0.3 * torch.rand(n, generator=gen, dtype=F64))

    def solved():
        w = class_a(t, torch.zeros(n, dtype=F64), 0.95)
        z = torch.zeros_like(u)
        for _ in range(1000):
            z = torch.tanh(z @ w.mT + u)
        return w, z

    def measured() -> float:
        w, z = (x.detach() for x in solved())
        path = trajectory(w, u, Tanh(), Dynamics(tau), t_end_s=200e-6, dt_s=1e-7)
        start = float(z.abs().max())
        return float(settling_time(path.h.t_s, path.z.value, z, tol, full_scale=start).max())

    budget = 12e-6
    before = measured()
    optimiser = torch.optim.Adam([t], lr=0.02)
    for _ in range(200):
        w, z = solved()
        loss = settling_penalty(modal_rate(w, 1 - z.detach().square(), tau), budget, tol, spread=2.0)
        if loss.item() == 0.0:
            break
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    after = measured()
    assert before > 2 * budget
    assert after <= budget
    assert after > 0.3 * budget  # the penalty stops at the budget, it does not kill the feedback


def test_malformed_arguments_are_named():
    w, slope, tau = circuit()
    with pytest.raises(EquilibriumError, match="at least 1"):
        modal_rate(w, slope, tau, modes=0)
    with pytest.raises(EquilibriumError, match="not finite"):
        modal_rate(w * math.nan, slope, tau)
    with pytest.raises(EquilibriumError, match="budget_s"):
        settling_penalty(tau, 0.0, 0.1)
    with pytest.raises(EquilibriumError, match=r"tol 1\.5"):
        settle_time(tau, 1.5)


def test_the_examples_run():
    assert doctest.testmod(latency).failed == 0
