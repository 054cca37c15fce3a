"""The measured activation in torch: slope is the derivative, mismatch acts as stated, the domain is guarded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import proxy, sigma
from torch import Tensor

from analog_deq.errors import OutOfDomainError
from analog_deq.proxy.activation import TableActivation, numpy_activation


def nominal() -> TableActivation:
    return TableActivation.nominal(proxy().activation)


def varied(n: int = 5, seed: int = 0) -> TableActivation:
    rng = torch.Generator().manual_seed(seed)

    def draw(mean: float, spread: float) -> Tensor:
        return mean + spread * torch.randn(n, generator=rng, dtype=torch.float64)

    return nominal().varied(draw(1.0, 0.05), draw(1.0, 0.05), draw(0.0, 0.1), draw(0.0, 0.02))


def grid(n: int = 1, reach: float = 3.0) -> Tensor:
    return torch.linspace(-reach, reach, 401, dtype=torch.float64)[:, None].expand(401, n)


def test_the_nominal_activation_is_the_table():
    h = grid()
    assert float((nominal().value(h) - torch.as_tensor(sigma(h.numpy()))).abs().max()) < 5e-5  # of full scale
    assert np.array_equal(numpy_activation(proxy().activation, h.numpy()), nominal().value(h).numpy())


@pytest.mark.parametrize("act", [nominal(), varied()], ids=["nominal", "varied"])
def test_slope_equals_finite_differences(act):
    h = grid(5) + 1e-3  # away from the knots, where the second derivative jumps
    step = 1e-5
    difference = (act.value(h + step) - act.value(h - step)) / (2 * step)
    assert float((act.slope(h) - difference).abs().max()) < 1e-8


@pytest.mark.parametrize("act", [nominal(), varied()], ids=["nominal", "varied"])
def test_max_slope_bounds_the_slope_and_is_no_looser_than_half_a_percent(act):
    dense = torch.linspace(-3.9, 3.9, 200001, dtype=torch.float64)[:, None].expand(200001, 5)
    steepest = act.slope(dense).amax(0)
    bound = torch.as_tensor(act.max_slope)
    assert bool((bound >= steepest).all())
    assert bool((bound <= 1.005 * steepest).all())


def test_mismatch_parameters_act_as_stated():
    h = grid(5)
    act = varied()
    expected = act.sat * nominal().value(act.in_scale * h + act.in_offset) + act.out_offset
    assert torch.equal(act.value(h), expected)


def test_autograd_of_the_value_is_the_slope():
    act = varied()
    h = grid(5).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(act.value(h).sum(), h)
    assert torch.allclose(gradient, act.slope(h.detach()), rtol=1e-12, atol=1e-13)


def test_beyond_the_table_the_value_is_held_with_slope_zero_and_marked():
    act = nominal()
    h = torch.tensor([-9.0, 0.0, 9.0], dtype=torch.float64)
    end = act.start + act.step * (len(act.values) - 1)
    assert act.outside(h).tolist() == [True, False, True]
    assert act.slope(h)[[0, 2]].tolist() == [0.0, 0.0]
    assert float(act.value(h)[2]) == float(act.value(torch.tensor(end, dtype=torch.float64)))


def test_leaving_the_calibrated_range_says_by_how_much():
    act = nominal()
    h = torch.zeros(10, 4, dtype=torch.float64)
    act.require_inside(h)
    h[3, 1], h[7, 0] = 4.5, -6.25
    with pytest.raises(OutOfDomainError) as caught:
        act.require_inside(h)
    message = str(caught.value)
    assert "5 % of the pre-activations" in message
    assert "largest |h| = 6.25" in message
    assert "[-3." in message or "[-4." in message
    act.require_inside(h, share=0.05)
    with pytest.raises(OutOfDomainError, match="4 % allowed"):
        act.require_inside(h, share=0.04)


def test_an_input_offset_moves_the_range():
    shifted = nominal().varied(*(torch.tensor(v, dtype=torch.float64) for v in (1.0, 1.0, 1.0, 0.0)))
    h = torch.tensor([3.5], dtype=torch.float64)
    assert not bool(nominal().outside(h))
    assert bool(shifted.outside(h))
