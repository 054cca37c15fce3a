"""Readers of a waveform: exact on cubics, right on exponentials, differentiable, honest about what never settles."""

import doctest
import math

import pytest
import torch

from analog_deq.equilibrium import readout
from analog_deq.equilibrium.cell import Tanh
from analog_deq.equilibrium.dynamics import Dynamics, Waveform, trajectory
from analog_deq.equilibrium.readout import read_at, read_in_band, read_quiet, read_window
from analog_deq.errors import EquilibriumError

torch.set_num_threads(1)
F64 = torch.float64


def cubic() -> Waveform:
    t = torch.linspace(0, 2, 7, dtype=F64)
    x = t[:, None, None]
    return Waveform(t, torch.cat([x**3 - x, 2 - x**2], -1), torch.cat([3 * x**2 - 1, -2 * x], -1))


def decays(*tau: float, end: float = 12.0, dt: float = 0.01) -> Waveform:
    """One sample a time constant, two nodes that fall at the same rate from 1 and from -0.5."""
    t = torch.arange(0, end, dt, dtype=F64)
    fall = torch.exp(-t[:, None] / torch.tensor(tau, dtype=F64))[..., None] * torch.tensor([1.0, -0.5], dtype=F64)
    return Waveform(t, fall, -fall / torch.tensor(tau, dtype=F64)[:, None])


@pytest.mark.parametrize("t", [0.0, 0.05, 1.0, 1.9, 2.0])
def test_a_cubic_is_read_exactly(t):
    got = read_at(cubic(), t)
    assert got.value[0].tolist() == pytest.approx([t**3 - t, 2 - t**2], abs=1e-12)
    assert got.t_s.tolist() == [t]


@pytest.mark.parametrize(("start", "window"), [(0.0, 2.0), (0.1, 0.05), (0.3, 1.234), (1.0, 1.0)])
def test_the_mean_of_a_cubic_is_exact(start, window):
    end = start + window
    got = read_window(cubic(), start, window)
    exact = [(end**4 - start**4) / 4 - (end**2 - start**2) / 2, 2 * window - (end**3 - start**3) / 3]
    assert got.value[0].tolist() == pytest.approx([value / window for value in exact], abs=1e-12)
    assert got.t_s.item() == pytest.approx(end)


def test_a_short_window_is_a_moment():
    wave = decays(1.0)
    assert torch.allclose(read_window(wave, 0.7, 1e-6).value, read_at(wave, 0.7).value, atol=1e-6)


def test_a_detector_on_rates_fires_at_the_closed_form():
    wave = decays(1.0, 2.0)
    got = read_quiet(wave, 0.02)
    # |rate| = exp(-t / tau) / tau of the larger node
    exact = [-tau * math.log(0.02 * tau) for tau in (1.0, 2.0)]
    assert got.t_s.tolist() == pytest.approx(exact, abs=1e-4)
    assert got.value[:, 0].tolist() == pytest.approx([0.02, 0.04], rel=1e-4)
    held = read_quiet(wave, 0.02, hold_s=0.5)
    assert held.t_s.tolist() == pytest.approx([t + 0.5 for t in exact], abs=1e-4)
    assert held.value[0, 0].item() == pytest.approx(0.02 * math.exp(-0.5), rel=1e-4)


def test_a_detector_on_a_band_fires_at_minus_tau_ln_band():
    got = read_in_band(decays(1.0, 2.0), torch.zeros(2, 2, dtype=F64), 0.01)
    assert got.t_s.tolist() == pytest.approx([math.log(100), 2 * math.log(100)], abs=1e-4)
    assert got.value.abs().amax(-1).tolist() == pytest.approx([0.01, 0.01], rel=1e-4)


def test_a_hold_sees_through_ringing():
    t = torch.arange(0, 20, 0.01, dtype=F64)
    ring = torch.exp(-0.3 * t) * torch.cos(2 * t)
    rate = torch.exp(-0.3 * t) * (-0.3 * torch.cos(2 * t) - 2 * torch.sin(2 * t))
    wave = Waveform(t, ring[:, None, None], rate[:, None, None])
    early = read_in_band(wave, torch.zeros(1, 1, dtype=F64), 0.05)
    held = read_in_band(wave, torch.zeros(1, 1, dtype=F64), 0.05, hold_s=2.0)
    outside = t[ring.abs() > 0.05][-1].item()
    assert early.t_s.item() < 1.0
    assert held.t_s.item() == pytest.approx(outside + 2.0, abs=0.02)


def test_quiet_from_the_start_fires_after_the_hold():
    wave = Waveform(torch.arange(4, dtype=F64), torch.ones(4, 1, 1, dtype=F64), torch.zeros(4, 1, 1, dtype=F64))
    assert read_quiet(wave, 1e-3).t_s.item() == 0.0
    assert read_quiet(wave, 1e-3, hold_s=1.5).t_s.item() == 1.5


def test_what_never_fires_is_an_error_or_inf_with_the_last_value():
    wave = decays(1.0, 50.0)
    with pytest.raises(EquilibriumError, match=r"1 of 2 samples never fire within 12 s"):
        read_quiet(wave, 1e-3)
    got = read_quiet(wave, 1e-3, on_fail="mask")
    assert got.t_s[1].item() == math.inf
    assert torch.equal(got.value[1], wave.value[-1, 1])


@pytest.mark.parametrize("draws", [False, True])
def test_gradients_of_every_reader(draws):
    gen = torch.Generator().manual_seed(1)
    lead = (2,) if draws else ()
    w = (0.3 * torch.randn(*lead, 2, 2, generator=gen, dtype=F64)).requires_grad_()
    u = torch.randn(*lead, 2, 2, generator=gen, dtype=F64).requires_grad_()
    tau = torch.tensor([1.0, 1.5], dtype=F64, requires_grad=True)

    def read(w, u, tau):
        wave = trajectory(w, u, Tanh(), Dynamics(tau), t_end_s=4.0, dt_s=0.25).z
        return read_at(wave, 1.1).value, read_window(wave, 0.9, 1.3).value

    assert torch.autograd.gradcheck(read, (w, u, tau))
    wave = trajectory(w, u, Tanh(), Dynamics(tau), t_end_s=12.0, dt_s=0.25).z
    got = read_quiet(wave, 0.05)
    assert not got.t_s.requires_grad
    # at the time it fired, the state's gradient is that of a read at this fixed time
    index = (0,) * u.dim()
    at = read_at(wave, float(got.t_s[index[:-1]])).value[index]
    assert got.value[index].item() == pytest.approx(at.item(), abs=1e-12)
    ours = torch.autograd.grad(got.value[index], w, retain_graph=True)[0]
    assert torch.allclose(ours, torch.autograd.grad(at, w)[0], atol=1e-12)
    assert ours.abs().max() > 0


def test_times_outside_are_refused():
    wave = decays(1.0)
    for call in (lambda: read_at(wave, 12.5), lambda: read_window(wave, 11.5, 1.0)):
        with pytest.raises(EquilibriumError, match="lies outside the waveform"):
            call()
    with pytest.raises(EquilibriumError, match="must be positive"):
        read_window(wave, 1.0, 0.0)
    with pytest.raises(EquilibriumError, match="must be positive"):
        read_quiet(wave, 0.0)
    with pytest.raises(EquilibriumError, match="like one point"):
        read_in_band(wave, torch.zeros(2, 2, dtype=F64), 0.1)
    with pytest.raises(EquilibriumError, match="on_fail"):
        read_quiet(wave, 1.0, on_fail="warn")


def test_the_examples_run():
    assert doctest.testmod(readout).failed == 0
