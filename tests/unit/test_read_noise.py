"""Read noise as an object: its statistics, no gradient, its own generator beside mismatch and drift."""

import doctest

import numpy as np
import pytest
import torch

from analog_deq.draws import Stream, generator
from analog_deq.equilibrium import read_noise
from analog_deq.equilibrium.cell import System, Tanh
from analog_deq.equilibrium.read_noise import StationaryNoise, torch_generator, white_sources
from analog_deq.equilibrium.solve import equilibrium
from analog_deq.equilibrium.weights import class_a
from analog_deq.equilibrium.white_noise import white_covariance
from analog_deq.proxy import drift
from analog_deq.proxy.drift import NormalDrift

torch.set_num_threads(1)
F64 = torch.float64
N = 6


def system(batch: int = 4, draws: int = 0, seed: int = 0, same: bool = False) -> System:
    gen = torch.Generator().manual_seed(seed)
    w = [
        class_a(torch.randn(N, N, generator=gen, dtype=F64), torch.zeros(N, dtype=F64), 0.9) for _ in range(draws or 1)
    ]
    u = torch.randn(draws or 1, 1 if same else batch, N, generator=gen, dtype=F64).expand(draws or 1, batch, N)
    return System(torch.stack(w), u.contiguous(), Tanh()) if draws else System(w[0], u[0].contiguous(), Tanh())


def noise(seed: int = 1, **more) -> StationaryNoise:
    tau = torch.linspace(1e-6, 2e-6, N, dtype=F64)
    return StationaryNoise(tau, white_sources(4e-10, 1e-10, 1e-5), torch.Generator().manual_seed(seed), **more)


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("draws", [0, 2])
def test_reads_scatter_as_the_covariance_says(draws, mean):
    cell = system(batch=8000, draws=draws, same=True)
    quiet, _ = equilibrium(cell, tol=1e-10)
    read, _ = equilibrium(cell, tol=1e-10, read_noise=noise(mean_slope=mean))
    d = (read - quiet).reshape(draws or 1, 8000, N)
    slope = 1 - quiet.reshape(draws or 1, 8000, N)[:, 0] ** 2
    one = torch.ones(N, dtype=F64)
    w = cell.w.reshape(-1, N, N)
    expected = white_covariance(w, slope, noise().tau_s, 4e-10 * one, 1e-10 * one) + 1e-5 * torch.eye(N, dtype=F64)
    found = d.mT @ d / 8000
    assert (found - expected).norm() < 0.04 * expected.norm()


def test_a_window_quiets_it():
    cell = system()
    slope = Tanh().slope(torch.zeros(4, N, dtype=F64))
    moment, mean = (noise(window_s=t).covariance(cell.w, slope) for t in (0.0, 100e-6))
    assert (mean.diagonal(dim1=-2, dim2=-1) < 0.2 * moment.diagonal(dim1=-2, dim2=-1)).all()


def test_the_gradient_is_that_of_the_quiet_state():
    grads = []
    for source in (None, noise()):
        cell = system()
        w = cell.w.clone().requires_grad_()
        z, _ = equilibrium(System(w, cell.u, cell.act), tol=1e-10, read_noise=source)
        z.sum().backward()
        grads.append(w.grad)
    assert torch.equal(grads[0], grads[1])


def test_reads_follow_their_generator_alone():
    cell = system()
    one, two = (equilibrium(cell, read_noise=noise(seed=3))[0] for _ in range(2))
    assert torch.equal(one, two)
    source = noise(seed=3)
    first, second = (equilibrium(cell, read_noise=source)[0] for _ in range(2))
    assert torch.equal(first, one)
    assert not torch.equal(first, second)


def test_float32_states_stay_so():
    cell = system()
    z, _ = equilibrium(System(cell.w.float(), cell.u.float(), Tanh()), read_noise=noise(mean_slope=True))
    assert z.dtype == torch.float32


def test_mismatch_drift_and_read_noise_have_streams_of_their_own():
    """Drawing one of them, or more of it, moves no other."""
    streams = [Stream.TRAINING, Stream.DRIFT, Stream.READ_NOISE]
    assert len({int(s) for s in Stream}) == len(Stream)
    first = [generator(5, s, 2).standard_normal(4) for s in streams]
    again = [generator(5, s, 2).standard_normal(40)[:4] for s in reversed(streams)][::-1]
    for one, two in zip(first, again, strict=True):
        assert np.array_equal(one, two)
    assert len({float(x[0]) for x in first}) == 3
    g = torch.full((3, 3), 1e-5, dtype=F64)
    before = NormalDrift(0.05, 0.01).draw(g, generator(5, Stream.DRIFT)).nu
    torch.randn(100, generator=torch_generator(generator(5, Stream.READ_NOISE)))
    assert torch.equal(before, NormalDrift(0.05, 0.01).draw(g, generator(5, Stream.DRIFT)).nu)


def test_the_examples_run():
    assert doctest.testmod(read_noise).failed == 0
    assert doctest.testmod(drift).failed == 0
