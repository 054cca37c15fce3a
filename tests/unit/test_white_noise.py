"""White noise as it is read: closed forms of one pole, and a simulated circuit, at one moment and over windows."""

import doctest
import math

import pytest
import torch

from analog_deq.equilibrium import white_noise
from analog_deq.equilibrium.cell import Tanh
from analog_deq.equilibrium.noise import linearise, stationary_covariance
from analog_deq.equilibrium.weights import class_a
from analog_deq.equilibrium.white_noise import phi2, white_covariance, window_covariance
from analog_deq.errors import EquilibriumError

torch.set_num_threads(1)
F64 = torch.float64
BOLTZMANN, KELVIN = 1.380649e-23, 300.15


@pytest.mark.parametrize("x", [0.0, -1e-9, -1e-3, -0.5, -3.0, -50.0, -1e6])
def test_phi2_of_a_number(x):
    exact = sum(x**k / math.factorial(k + 2) for k in range(6)) if abs(x) < 1e-2 else (math.expm1(x) - x) / x**2
    assert phi2(torch.tensor([[x]], dtype=F64)).item() == pytest.approx(exact, rel=1e-11)


def test_phi2_of_a_matrix_with_fast_and_slow_modes():
    """Eigenvalues from -1e-7 to -1e4 in one matrix, where differences of exponentials would lose every digit."""
    gen = torch.Generator().manual_seed(0)
    v = torch.eye(4, dtype=F64) + 0.3 * torch.randn(4, 4, generator=gen, dtype=F64)
    values = torch.tensor([-1e-7, -1e-2, -1.0, -1e4], dtype=F64)
    exact = [(0.5 + x / 6) if abs(x) < 1e-6 else (math.expm1(x) - x) / x**2 for x in values.tolist()]
    x = v @ torch.diag(values) @ torch.linalg.inv(v)
    reference = v @ torch.diag(torch.tensor(exact, dtype=F64)) @ torch.linalg.inv(v)
    assert (phi2(x) - reference).abs().max() < 1e-7
    assert torch.autograd.gradcheck(phi2, (0.7 * torch.randn(2, 3, 3, generator=gen, dtype=F64)).requires_grad_())


@pytest.mark.parametrize("share", [1e-6, 0.1, 1.0, 10.0, 1e4])
def test_the_mean_of_one_pole(share):
    """Var of the mean of an OU process over x tau: ``2 (x - 1 + exp(-x)) / x^2`` of its variance."""
    tau, x = 2e-7, share
    a, c = torch.tensor([[-1 / tau]], dtype=F64), torch.tensor([[3.0]], dtype=F64)
    exact = 3.0 * (1 - x / 3 if x < 1e-3 else 2 * (x + math.expm1(-x)) / x**2)
    assert window_covariance(a, c, x * tau).item() == pytest.approx(exact, rel=1e-9)


def test_a_resistor_and_a_capacitor():
    """sqrt(kT/C) at one moment, whatever R; 4kTR in a band of 1 / (2 T) when averaged over many RC."""
    for r, c in ((10e3, 20e-12), (1e6, 1e-15)):
        tau, density = torch.tensor([r * c], dtype=F64), torch.tensor([4 * BOLTZMANN * KELVIN * r], dtype=F64)
        zero, one = torch.zeros(1, 1, dtype=F64), torch.ones(1, dtype=F64)
        moment = white_covariance(zero, one, tau, density, torch.zeros(1, dtype=F64)).item()
        assert math.sqrt(moment) == pytest.approx(math.sqrt(BOLTZMANN * KELVIN / c), rel=1e-12)
        window = 1e4 * r * c
        mean = white_covariance(zero, one, tau, density, torch.zeros(1, dtype=F64), window_s=window).item()
        assert mean == pytest.approx(4 * BOLTZMANN * KELVIN * r / (2 * window), rel=2e-4)


def test_noise_behind_the_activation_is_correlated_with_its_way_round_the_loop():
    """One node: y = n / (1 - g) at low frequency, so a long mean has the density over (1 - g)^2."""
    g, s = 0.6, torch.tensor([2.0], dtype=F64)
    w, one, none = torch.tensor([[g]], dtype=F64), torch.ones(1, dtype=F64), torch.zeros(1, dtype=F64)
    long = white_covariance(w, one, one, none, s, window_s=1e6).item()
    assert long == pytest.approx(2.0 / (2e6 * (1 - g) ** 2), rel=1e-4)
    # |1 + g / (1 - g + jw)|^2 - 1 = (2 g (1 - g) + g^2) / ((1 - g)^2 + w^2), integrated over f
    moment = white_covariance(w, one, one, none, s).item()
    assert moment == pytest.approx(2.0 * (2 * g * (1 - g) + g * g) / (4 * (1 - g)), rel=1e-12)


def test_agrees_with_a_simulated_circuit_at_32_nodes():
    """Euler-Maruyama of the full tanh circuit, 2 inputs x 1200 paths x 8 reads: std within 3 %, n = 9600 a node."""
    gen = torch.Generator().manual_seed(11)
    n, inputs, paths, dt, window, reads = 32, 2, 1200, 0.0125, 1.5, 8
    w = class_a(torch.randn(n, n, generator=gen, dtype=F64), torch.zeros(n, dtype=F64), 0.8)
    u = 0.7 * torch.randn(inputs, 1, n, generator=gen, dtype=F64)
    tau = 0.7 + 0.6 * torch.rand(n, generator=gen, dtype=F64)
    rest = torch.zeros_like(u)
    for _ in range(300):
        rest = torch.tanh(rest) @ w.T + u
    loop = 1e-4 * (0.5 + torch.rand(n, generator=gen, dtype=F64))
    step = (loop / 2 * dt).sqrt() / tau
    h, slope = rest.expand(inputs, paths, n).clone(), Tanh().slope(rest[:, 0])
    count, gap = round(window / dt), round(2.0 / dt)
    moments, means = torch.zeros(inputs, n, n, dtype=F64), torch.zeros(inputs, n, n, dtype=F64)
    z0 = torch.tanh(rest)

    def advance(h):
        noise = torch.randn(h.shape, generator=gen, dtype=F64)
        return h + (torch.tanh(h) @ w.T + u - h) * (dt / tau) + step * noise

    for _ in range(round(8 / dt)):
        h = advance(h)
    for _ in range(reads):
        for _ in range(gap):
            h = advance(h)
        total = torch.zeros_like(h)
        for _ in range(count):
            total += 0.5 * (torch.tanh(h) - z0)
            h = advance(h)
            total += 0.5 * (torch.tanh(h) - z0)
        d, mean = torch.tanh(h) - z0, total / count
        moments += d.mT @ d / paths / reads
        means += mean.mT @ mean / paths / reads
    predicted = white_covariance(w, slope, tau, loop, torch.zeros(n, dtype=F64))
    averaged = white_covariance(w, slope, tau, loop, torch.zeros(n, dtype=F64), window_s=window)
    for found, expected in ((moments, predicted), (means, averaged)):
        ratio = (found.diagonal(dim1=-2, dim2=-1) / expected.diagonal(dim1=-2, dim2=-1)).sqrt()
        assert (ratio - 1).abs().max() < 0.03
        # the correlations too: a sample of n has a covariance whose error has the norm trace / sqrt(n)
        trace = expected.diagonal(dim1=-2, dim2=-1).sum(-1).norm()
        assert (found - expected).norm() < 1.5 * trace / math.sqrt(paths * reads)
    assert (averaged.diagonal(dim1=-2, dim2=-1) < 0.8 * predicted.diagonal(dim1=-2, dim2=-1)).all()


def test_a_covariance_stays_one_after_averaging():
    gen = torch.Generator().manual_seed(3)
    w = class_a(torch.randn(6, 6, generator=gen, dtype=F64), torch.zeros(6, dtype=F64), 0.9)
    a = linearise(w, torch.rand(4, 6, generator=gen, dtype=F64), 1e-6 * (1 + torch.rand(6, generator=gen, dtype=F64)))
    c = stationary_covariance(a, torch.eye(6, dtype=F64))
    for window in (0.0, 1e-9, 1e-6, 1e-3):
        mean = window_covariance(a, c, window)
        assert torch.equal(mean, mean.mT)
        assert (torch.linalg.eigvalsh(mean) > 0).all()
    assert torch.allclose(window_covariance(a, c, 0.0), c)
    with pytest.raises(EquilibriumError, match="read window"):
        window_covariance(a, c, -1.0)


def test_the_examples_run():
    assert doctest.testmod(white_noise).failed == 0
