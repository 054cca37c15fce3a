"""Drift: the power law, its spread, and the shipped phase-change cell's own numbers."""

import numpy as np
import pytest
import torch

from analog_deq.errors import OutOfDomainError
from analog_deq.netlists.library import load_cell
from analog_deq.proxy.drift import DriftDraw, NormalDrift, PcmDrift

F64 = torch.float64


def test_decades_of_time_multiply():
    g = torch.tensor([1e-5, 2e-5], dtype=F64, requires_grad=True)
    draw = DriftDraw(torch.tensor([0.05, 0.1], dtype=F64), 20.0)
    assert torch.allclose(draw.at(g, 20.0), g)
    assert torch.allclose(draw.at(draw.at(g, 200.0), 200.0), draw.at(g, 2000.0), rtol=1e-12)
    assert draw.at(g, 2e3).tolist() == pytest.approx([1e-5 * 100**-0.05, 2e-5 * 100**-0.1])
    draw.at(g, 2e3).sum().backward()
    assert g.grad.tolist() == pytest.approx([100**-0.05, 100**-0.1])


def test_a_draw_is_frozen_and_shared():
    g = torch.full((4, 5), 1e-5, dtype=F64)
    draw = NormalDrift(0.06, 0.02).draw(g, np.random.default_rng(1))
    assert torch.equal(draw.at(g, 3600.0), draw.at(g, 3600.0))
    assert draw.at(g, 3600.0).std() > 0
    with pytest.raises(AttributeError):
        draw.nu = g


def test_the_spread_is_the_one_asked_for():
    g = torch.full((100_000,), 1e-5, dtype=F64)
    nu = NormalDrift(0.08, 0.02).draw(g, np.random.default_rng(2)).nu
    assert nu.mean().item() == pytest.approx(0.08, abs=3e-4)
    assert nu.std().item() == pytest.approx(0.02, rel=0.01)
    assert (NormalDrift(0.01, 0.05).draw(g, np.random.default_rng(2)).nu >= 0).all()


def test_phase_change_cells_follow_the_shipped_cell():
    contract = load_cell("pcm").contract
    a, b, low, high = contract.mismatch.params["dnu"].sigma_log
    for share in (0.02, 0.1, 0.4, 1.0):
        g = torch.full((40_000,), share * 25e-6, dtype=F64)
        nu = PcmDrift().draw(g, np.random.default_rng(3)).nu.numpy()
        sigma = np.clip(a + b * np.log(share), low, high)
        mean = np.clip(0.0244 - 0.0155 * np.log(share), 0.049, 0.1)
        # few exponents are cut at 0: mean and spread of the normal distribution remain
        assert nu.mean() == pytest.approx(mean, rel=0.03)
        assert nu.std() == pytest.approx(sigma, rel=0.05)


def test_a_time_before_the_first_read_is_refused():
    with pytest.raises(OutOfDomainError, match="not a time from 20 s on"):
        DriftDraw(torch.tensor([0.1]), 20.0).at(torch.tensor([1.0]), 1.0)
