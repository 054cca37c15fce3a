"""Weights to programmed conductances and back; converters; and what gradients pass through them."""

from __future__ import annotations

import pytest
import torch
from helpers import design
from hypothesis import given
from hypothesis import strategies as st

from analog_deq.proxy.mapping import ConductanceMapping, quantise


def mapping(levels: int = 64) -> ConductanceMapping:
    d = design(crossbar={"levels": levels})
    return ConductanceMapping.of(d.neuron, d.crossbar)


def weight(m: ConductanceMapping, g_pos: torch.Tensor, g_neg: torch.Tensor) -> torch.Tensor:
    return m.scale_ohm * (g_pos - g_neg)


def test_scale_is_feedback_resistance_times_the_ratio_of_units():
    assert mapping().scale_ohm == pytest.approx(10e3 * 0.2 / 0.16, rel=1e-15)
    assert mapping().w_max == pytest.approx(12.5e3 * 99e-6, rel=1e-12)


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=30))
def test_an_analogue_pair_holds_the_weight_and_keeps_one_device_at_g_min(values):
    m = mapping(levels=0)
    w = torch.tensor(values, dtype=torch.float64)
    g_pos, g_neg = m.program(w)
    assert torch.allclose(weight(m, g_pos, g_neg), w.clamp(-m.w_max, m.w_max), rtol=0, atol=1e-14)
    assert torch.equal(torch.minimum(g_pos, g_neg), torch.full_like(w, m.g_min))
    assert bool((torch.maximum(g_pos, g_neg) <= m.g_max * (1 + 1e-15)).all())


@pytest.mark.parametrize("levels", [2, 3, 16, 64])
def test_only_the_programmable_levels_occur_and_the_nearest_is_taken(levels):
    m = mapping(levels)
    w = torch.linspace(-1.5 * m.w_max, 1.5 * m.w_max, 4001, dtype=torch.float64)
    g_pos, g_neg = m.program(w)
    step = (m.g_max - m.g_min) / (levels - 1)
    for g in (g_pos, g_neg):
        index = (g - m.g_min) / step
        assert torch.allclose(index, index.round(), atol=1e-9)
        assert len(index.round().unique()) == levels
        assert float(g.min()) == pytest.approx(m.g_min, rel=1e-12)
        assert float(g.max()) == pytest.approx(m.g_max, rel=1e-12)
    error = weight(m, g_pos, g_neg) - w.clamp(-m.w_max, m.w_max)
    assert float(error.abs().max()) <= m.scale_ohm * step / 2 * (1 + 1e-9)


def test_gradients_pass_through_the_rounding_and_stop_at_saturation():
    m = mapping(16)
    w = torch.tensor([0.3, -0.7, 2 * m.w_max, -2 * m.w_max], dtype=torch.float64, requires_grad=True)
    weight(m, *m.program(w)).sum().backward()
    assert w.grad is not None
    assert w.grad.tolist() == pytest.approx([1.0, 1.0, 0.0, 0.0], abs=1e-12)


@given(st.integers(2, 12), st.lists(st.floats(-2, 2), min_size=1, max_size=30))
def test_a_converter_rounds_to_its_nearest_code_and_clips(bits, values):
    x = torch.tensor(values, dtype=torch.float64)
    q = quantise(x, bits)
    codes = 2 ** (bits - 1) - 1
    assert torch.allclose(q * codes, (q * codes).round(), atol=1e-9)
    assert float(q.abs().max()) <= 1 + 1e-12
    assert float((q - x.clamp(-1, 1)).abs().max()) <= 0.5 / codes + 1e-12
    assert torch.allclose(quantise(q.detach(), bits), q, atol=1e-12)


def test_zero_and_full_scale_are_codes():
    assert quantise(torch.tensor([0.0, 1.0, -1.0]), 8).tolist() == [0.0, 1.0, -1.0]


def test_a_converter_passes_gradients_straight_through():
    x = torch.tensor([0.1234, -0.9], dtype=torch.float64, requires_grad=True)
    (quantise(x, 4) * torch.tensor([2.0, 3.0])).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [2.0, 3.0]
