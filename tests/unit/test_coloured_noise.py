"""Coloured noise: the white limit, a source with a pole of its own, 1/f in closed form, and simulations."""

import doctest
import math

import pytest
import torch

from analog_deq.equilibrium import coloured_noise
from analog_deq.equilibrium.coloured_noise import spectral_covariance, tabulated, white_and_flicker
from analog_deq.equilibrium.noise import linearise, stationary_covariance
from analog_deq.equilibrium.weights import class_a
from analog_deq.equilibrium.white_noise import white_covariance, window_covariance
from analog_deq.errors import EquilibriumError

torch.set_num_threads(1)
F64 = torch.float64


def circuit(n: int = 5, batch: int = 3, seed: int = 0):
    """w, slopes, time constants of about a second, A."""
    gen = torch.Generator().manual_seed(seed)
    w = class_a(torch.randn(n, n, generator=gen, dtype=F64), torch.zeros(n, dtype=F64), 0.9)
    slope = 0.3 + 0.7 * torch.rand(batch, n, generator=gen, dtype=F64)
    tau = 0.5 + torch.rand(n, generator=gen, dtype=F64)
    return w, slope, tau, linearise(w, slope, tau)


def white(value: torch.Tensor):
    return white_and_flicker(value, torch.zeros_like(value))


@pytest.mark.parametrize("window", [0.0, 0.01, 2.0, 50.0])
def test_white_noise_reproduces_the_lyapunov_equation(window):
    w, slope, tau, a = circuit()
    n = 5
    levels = torch.linspace(1, 2, 2 * n, dtype=F64)
    inject = torch.cat([torch.eye(n, dtype=F64), w], -1) / tau[:, None]
    direct = torch.cat([torch.zeros(n, n, dtype=F64), torch.eye(n, dtype=F64)], -1)
    found = spectral_covariance(
        a, inject, torch.diag_embed(slope), direct, white(levels), start_hz=1e-6, stop_hz=1e5, per_decade=20,
        window_s=window, only_loop=window == 0.0,
    )  # fmt: skip
    exact = white_covariance(w, slope, tau, levels[:n], levels[n:], window_s=window)
    assert (found - exact).abs().max() < 1e-3 * exact.abs().max()


def test_the_rule_converges_as_stated():
    """Complex poles of quality 10: the error falls as exp(-27 t) a 10 points, t the damping angle."""
    pole = complex(-1.0, 20.0)
    a = torch.tensor([[pole.real, pole.imag], [-pole.imag, pole.real]], dtype=F64)
    eye = torch.eye(2, dtype=F64)
    exact = stationary_covariance(a, 0.5 * eye)
    angle = math.atan(1 / 20)
    for per_decade in (40, 80, 160):
        c = spectral_covariance(
            a, eye, eye, None, white(torch.ones(2, dtype=F64)), start_hz=1e-4, stop_hz=1e6, per_decade=per_decade
        )
        assert (c - exact).norm() < (3 * math.exp(-2.7 * angle * per_decade) + 1e-4) * exact.norm()


def test_a_source_with_a_pole_of_its_own():
    """OU noise of correlation time theta: exact from the Lyapunov equation of circuit and source together."""
    _, _, tau, a = circuit(batch=1)
    n, theta = 5, 0.8
    a, inject = a[0], torch.diag(1 / tau)
    found = spectral_covariance(
        a, inject, torch.eye(n, dtype=F64), None,
        lambda f: (4.0 / (1 + (2 * math.pi * f * theta) ** 2))[:, None].expand(-1, n),
        start_hz=1e-5, stop_hz=1e4,
    )  # fmt: skip
    both = torch.zeros(2 * n, 2 * n, dtype=F64)
    both[:n, :n], both[:n, n:], both[n:, n:] = a, inject, -torch.eye(n, dtype=F64) / theta
    q = torch.zeros(2 * n, 2 * n, dtype=F64)
    q[n:, n:] = torch.eye(n, dtype=F64) * 2.0 / theta**2
    exact = stationary_covariance(both, q)[:n, :n]
    assert (found - exact).abs().max() < 1e-4 * exact.abs().max()
    # and over a window: by the same augmented system
    mean = spectral_covariance(
        a, inject, torch.eye(n, dtype=F64), None,
        lambda f: (4.0 / (1 + (2 * math.pi * f * theta) ** 2))[:, None].expand(-1, n),
        start_hz=1e-5, stop_hz=1e4, per_decade=20, window_s=3.0,
    )  # fmt: skip
    exact = window_covariance(both, stationary_covariance(both, q), 3.0)[:n, :n]
    assert (mean - exact).abs().max() < 1e-3 * exact.abs().max()


def test_agrees_with_a_simulation_of_filtered_noise():
    """The same source made by filtering white noise, step by step, 4000 paths x 10 reads: std within 3 %."""
    _, _, tau, a = circuit(batch=1)
    a, n, theta, dt, gen = a[0], 5, 0.8, 0.02, torch.Generator().manual_seed(6)
    found = spectral_covariance(
        a, torch.diag(1 / tau), torch.eye(n, dtype=F64), None,
        lambda f: (4.0 / (1 + (2 * math.pi * f * theta) ** 2))[:, None].expand(-1, n),
        start_hz=1e-5, stop_hz=1e4,
    )  # fmt: skip
    x = torch.zeros(4000, n, dtype=F64)
    source = math.sqrt(1 / theta) * torch.randn(x.shape, generator=gen, dtype=F64)
    keep, kick = math.exp(-dt / theta), math.sqrt(-math.expm1(-2 * dt / theta) / theta)
    total = torch.zeros(n, n, dtype=F64)
    for k in range(3000):
        following = keep * source + kick * torch.randn(x.shape, generator=gen, dtype=F64)
        x = x + dt * (x @ a.T + 0.5 * (source + following) / tau)
        source = following
        if k >= 1000 and k % 200 == 199:
            total += x.T @ x / 4000 / 10
    ratio = (total.diagonal() / found.diagonal()).sqrt()
    assert (ratio - 1).abs().max() < 0.03


def test_flicker_behind_one_pole_is_a_logarithm():
    start, tau = 1e3, 2e-7
    c = spectral_covariance(
        torch.tensor([[-1 / tau]], dtype=F64), torch.tensor([[1 / tau]], dtype=F64), torch.ones(1, 1, dtype=F64), None,
        white_and_flicker(torch.zeros(1, dtype=F64), torch.ones(1, dtype=F64)), start_hz=start, stop_hz=1e10,
    )  # fmt: skip
    assert c.item() == pytest.approx(0.5 * math.log1p(1 / (2 * math.pi * start * tau) ** 2), rel=1e-4)


def test_a_measured_table_is_interpolated_and_kept_to():
    f = torch.logspace(-5, 5, 101, dtype=F64)
    a, one = -torch.ones(1, 1, dtype=F64), torch.ones(1, 1, dtype=F64)
    shape = white_and_flicker(torch.ones(1, dtype=F64), torch.full((1,), 0.1, dtype=F64))
    by_table = spectral_covariance(a, one, one, None, tabulated(f, shape(f)), start_hz=1e-5, stop_hz=1e5)
    by_form = spectral_covariance(a, one, one, None, shape, start_hz=1e-5, stop_hz=1e5)
    assert by_table.item() == pytest.approx(by_form.item(), rel=2e-3)
    with pytest.raises(EquilibriumError, match="is tabulated from 1e-05"):
        spectral_covariance(a, one, one, None, tabulated(f, shape(f)), start_hz=1e-6, stop_hz=1e5)


def test_batches_are_their_members_whatever_the_chunk(monkeypatch):
    _, slope, tau, a = circuit(batch=4)
    arguments = (torch.diag(1 / tau), torch.diag_embed(slope), None, white(torch.ones(5, dtype=F64)))
    together = spectral_covariance(a, *arguments, start_hz=1e-3, stop_hz=1e3)
    monkeypatch.setattr(coloured_noise, "CHUNK", 1)
    for k in range(4):
        alone = spectral_covariance(a[k], arguments[0], arguments[1][k], *arguments[2:], start_hz=1e-3, stop_hz=1e3)
        assert torch.allclose(alone, together[k], rtol=1e-10)
    assert torch.equal(together, together.mT)


def test_float32_is_kept():
    _, _, tau, a = circuit()
    eye = torch.eye(5, dtype=F64)
    exact = spectral_covariance(
        a, torch.diag(1 / tau), eye, eye, white(torch.ones(5, dtype=F64)), start_hz=1e-3, stop_hz=1e3
    )
    found = spectral_covariance(
        a.float(), torch.diag(1 / tau).float(), eye.float(), eye.float(), white(torch.ones(5)), start_hz=1e-3,
        stop_hz=1e3,
    )  # fmt: skip
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), exact, rtol=1e-4)


def test_malformed_arguments_are_named():
    a, one = -torch.ones(1, 1, dtype=F64), torch.ones(1, 1, dtype=F64)
    flat = white(torch.ones(1, dtype=F64))
    with pytest.raises(EquilibriumError, match="must be rising"):
        spectral_covariance(a, one, one, None, flat, start_hz=1.0, stop_hz=0.1)
    with pytest.raises(EquilibriumError, match="negative or not finite"):
        spectral_covariance(a, one, one, None, white(-torch.ones(1, dtype=F64)), start_hz=1.0, stop_hz=10.0)
    with pytest.raises(EquilibriumError, match="positive and increasing"):
        tabulated(torch.tensor([2.0, 1.0]), torch.ones(2, 1))
    with pytest.raises(EquilibriumError, match="all positive"):
        tabulated(torch.tensor([1.0, 2.0]), torch.zeros(2, 1))


def test_the_examples_run():
    assert doctest.testmod(coloured_noise).failed == 0
