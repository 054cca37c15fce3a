"""Settling: the one-pole formula, the last exit, and the end that agrees with the equilibrium."""

import math

import pytest
import torch

from analog_deq.equilibrium.cell import System, Tanh
from analog_deq.equilibrium.settle import integrate, settling_time
from analog_deq.equilibrium.solve import equilibrium
from analog_deq.equilibrium.weights import class_a
from analog_deq.errors import EquilibriumError

torch.set_num_threads(1)
F64 = torch.float64


@pytest.mark.parametrize("tol", [0.1, 0.01, 4e-3])
def test_one_pole_settles_after_minus_tau_ln_tol(tol):
    tau = torch.tensor([1e-6, 3e-6], dtype=F64)
    u = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=F64)
    t, h = integrate(torch.zeros(2, 2, dtype=F64), u, Tanh(), tau, t_end_s=30e-6, dt_s=5e-9)
    measured = settling_time(t, h, u, tol)
    exact = torch.tensor([1e-6, 3e-6, 3e-6], dtype=F64) * -math.log(tol)
    assert ((measured - exact).abs() / exact).max() < 1e-5


def test_trajectory_is_the_exponential_and_ends_where_asked():
    t, h = integrate(torch.zeros(1, 1), torch.ones(1, 1), Tanh(), torch.ones(1), t_end_s=1.03, dt_s=0.05)
    assert t[-1] == pytest.approx(1.03)
    assert torch.allclose(h[:, 0, 0].double(), 1 - torch.exp(-t), atol=1e-6)


def test_runge_kutta_has_order_four():
    w, u, tau = torch.tensor([[-2.0]], dtype=F64), torch.ones(1, 1, dtype=F64), torch.ones(1, dtype=F64)
    ends = [integrate(w, u, Tanh(), tau, t_end_s=1.0, dt_s=dt)[1][-1].item() for dt in (0.1, 0.05, 0.001)]
    assert 12 < abs(ends[0] - ends[2]) / abs(ends[1] - ends[2]) < 20


@pytest.mark.parametrize("draws", [False, True])
def test_the_end_is_the_equilibrium_whatever_the_time_constants(draws):
    gen = torch.Generator().manual_seed(4)
    shape = (2, 3, 6) if draws else (3, 6)
    w = class_a(torch.randn(6, 6, generator=gen, dtype=F64), torch.zeros(6, dtype=F64), 0.9)
    w = torch.stack([w, -w]) if draws else w
    u = torch.randn(shape, generator=gen, dtype=F64)
    z, _ = equilibrium(System(w, u, Tanh()), tol=1e-12)
    for _ in range(2):
        tau = 1e-6 * (1 + torch.rand(6, generator=gen, dtype=F64))
        t, h = integrate(w, u, Tanh(), tau, t_end_s=4e-4, dt_s=5e-7)
        assert (torch.tanh(h[-1]) - z).abs().max() < 1e-10
        settled = settling_time(t, torch.tanh(h), z, 4e-3)
        assert settled.shape == shape[:-1]
        assert (settled > 0).all()


def test_start_from_a_given_state():
    u = torch.zeros(1, 1)
    _, h = integrate(torch.zeros(1, 1), u, Tanh(), torch.ones(1), t_end_s=1.0, dt_s=0.05, h0=torch.ones(1, 1))
    assert h[0].item() == 1.0
    assert h[-1].item() == pytest.approx(math.exp(-1), abs=1e-6)


def wave(*values: float) -> tuple[torch.Tensor, torch.Tensor]:
    z = torch.tensor(values, dtype=F64)[:, None, None]
    return torch.arange(len(values), dtype=F64), z


def test_the_last_exit_counts_and_the_crossing_is_interpolated():
    t, z = wave(10.0, 0.0, 0.5, 3.0, 0.0, 0.0)
    assert settling_time(t, z, torch.zeros(1, 1), 1.0).item() == pytest.approx(3 + 2 / 3)
    t, z = wave(2.0, -0.5, 0.0)
    assert settling_time(t, z, torch.zeros(1, 1), 1.0).item() == pytest.approx(1 / 2.5)
    t, z = wave(-4.0, 0.0, 0.0)
    assert settling_time(t, z, torch.zeros(1, 1), 0.5, full_scale=2.0).item() == pytest.approx(0.75)


def test_a_sample_that_never_leaves_the_band_settles_at_once():
    t, z = wave(0.5, -0.5, 0.5)
    assert settling_time(t + 3, z, torch.zeros(1, 1), 1.0).item() == 3.0


def test_the_slowest_node_decides():
    t = torch.linspace(0, 20, 20001, dtype=F64)
    z = torch.stack([torch.exp(-t), torch.exp(-t / 2)], -1)[:, None]
    assert settling_time(t, z, torch.zeros(1, 2), 0.01).item() == pytest.approx(2 * math.log(100), rel=1e-6)


def test_a_sample_that_does_not_settle_is_an_error_or_inf_never_nan():
    t, _ = wave(0.0, 0.0, 0.0)
    z = torch.tensor([[2.0, 0.0, 0.0], [2.0, 0.5, 1.5], [2.0, 2.0, 2.0]], dtype=F64).T[..., None]
    with pytest.raises(EquilibriumError, match=r"2 of 3 samples do not settle within 2 s; sample 1 ends 1.5"):
        settling_time(t, z, torch.zeros(3, 1), 1.0)
    got = settling_time(t, z, torch.zeros(3, 1), 1.0, on_fail="mask")
    assert got.tolist() == [0.5, math.inf, math.inf]


def test_malformed_arguments_are_named():
    t, z = wave(1.0, 0.0, 0.0)
    with pytest.raises(EquilibriumError, match="needs t"):
        settling_time(t, z, torch.zeros(2, 1), 0.1)
    with pytest.raises(EquilibriumError, match="must be positive"):
        settling_time(t, z, torch.zeros(1, 1), 0.0)
    with pytest.raises(EquilibriumError, match="not finite"):
        settling_time(t, z * math.nan, torch.zeros(1, 1), 0.1)
    one = torch.ones(1, 1)
    with pytest.raises(EquilibriumError, match="smallest tau_s"):
        integrate(one, one, Tanh(), torch.ones(1), t_end_s=1.0, dt_s=1.5)
    with pytest.raises(EquilibriumError, match="integrate needs"):
        integrate(one, torch.ones(1, 2), Tanh(), torch.ones(1), t_end_s=1.0, dt_s=0.1)
