"""Terminals behind resistances, rows fed from both ends: against nodal analysis, its limits, and its gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import Nodal, array_resistors, conductances, port_order

from analog_deq.array import behind, row_driven_admittance, signed_pairs, terminal_admittance

R_DAC, STATES = 10.0, 3


def pairs(seed: int = 0) -> torch.Tensor:
    return signed_pairs(*(torch.as_tensor(g) for g in conductances(5, STATES, seed=seed, low=1e-4, high=1e-2)))


def entries(g: torch.Tensor) -> torch.Tensor:
    r = torch.zeros(g.shape[-2], dtype=torch.float64)
    r[: -2 * STATES] = R_DAC
    return r


@pytest.mark.parametrize("r_line", [0.0, 30.0])
def test_one_driver_feeds_both_ends_of_its_row(r_line):
    g = pairs()
    g_pos, g_neg = g[0::2].numpy(), g[1::2].numpy()
    found = row_driven_admittance(g, r_line_ohm=r_line, r_row_ohm=entries(g), both_word_ends=True)
    names = port_order(STATES, 4)
    terminals = names[3 * STATES :] + names[STATES : 3 * STATES] + names[:STATES]
    network = Nodal(array_resistors(g_pos, g_neg, r_line, R_DAC, True))
    for k, driven in enumerate(terminals):
        expected = network.currents({**dict.fromkeys(names, 0.0), driven: 1.0})
        assert found[:, k].numpy() == pytest.approx([expected[name] for name in terminals], rel=1e-10, abs=1e-14)


def test_a_series_resistance_is_the_arrays_own_source_resistance():
    g = pairs(1)
    r = torch.linspace(0.0, 50.0, len(g), dtype=torch.float64)
    found = behind(terminal_admittance(g, r_word_ohm=3.0, r_bit_ohm=3.0), r)
    expected = terminal_admittance(g, r_word_ohm=3.0, r_bit_ohm=3.0, r_source_ohm=r)
    assert torch.allclose(found, expected, rtol=1e-11, atol=1e-16)
    assert torch.equal(row_driven_admittance(g, r_line_ohm=3.0, r_row_ohm=r), expected)


def test_the_far_cell_of_a_long_row_is_as_near_as_the_first():
    """One row of equal cells, columns at 0 V: fed from both ends its currents are a mirror image, and larger."""
    g = torch.full((1, 9), 1e-3, dtype=torch.float64)
    one, both = (
        -row_driven_admittance(g, r_line_ohm=20.0, r_row_ohm=torch.zeros(1, dtype=torch.float64), both_word_ends=b)[
            0, 1:
        ]
        for b in (False, True)
    )
    assert torch.allclose(both, both.flip(0), rtol=1e-12)
    assert bool((both > one).all())
    assert float(one[0] / one[-1]) > 1.5 > float(both.max() / both.min())


def test_gradients_are_those_of_finite_differences():
    g = pairs(2)[None].repeat(2, 1, 1).requires_grad_()
    r = entries(g)

    def of(c: torch.Tensor) -> torch.Tensor:
        return 1e3 * row_driven_admittance(1e-3 * c, r_line_ohm=30.0, r_row_ohm=r, both_word_ends=True)

    scaled = (1e3 * g).detach().requires_grad_()
    assert torch.autograd.gradcheck(of, (scaled,), eps=1e-6, atol=1e-8, fast_mode=True)
    assert np.isfinite(of(scaled).detach().numpy()).all()
