"""Reads of an array: signs and pairs, faults and selectors, the closed form inside its bound, cells that bend."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from analog_deq.array import (
    column_currents,
    error_bound,
    first_order_operator,
    in_series,
    operator,
    pair_volts,
    signed_pairs,
    sinh_read,
    terminal_admittance,
    with_faults,
)
from analog_deq.errors import OutOfDomainError, SpecError

WIRES = {"r_word_ohm": 4.0, "r_bit_ohm": 9.0, "r_source_ohm": 20.0, "r_sense_ohm": 6.0}


def cells(*shape: int, seed: int = 0, high: float = 1e-3) -> Tensor:
    return torch.as_tensor(np.exp(np.random.default_rng(seed).uniform(np.log(1e-6), np.log(high), shape)))


def drives(*shape: int, seed: int = 1) -> Tensor:
    return torch.as_tensor(np.random.default_rng(seed).uniform(-0.5, 0.5, shape))


def test_negative_weights_by_hand():
    """Weights (+3, -2) mS from input 0, (0, +1) from input 1, as pairs on a base of 1 mS; no wires."""
    base = torch.full((2, 2), 1e-3, dtype=torch.float64)
    weight = torch.tensor([[3e-3, -2e-3], [0.0, 1e-3]], dtype=torch.float64)
    rows = signed_pairs(base + weight.clamp(min=0), base - weight.clamp(max=0))
    assert rows[1].tolist() == pytest.approx([1e-3, 3e-3])  # row 1 carries -V of input 0
    currents = column_currents(rows, pair_volts(torch.tensor([0.5, -0.25], dtype=torch.float64)))
    assert currents.tolist() == pytest.approx([0.5 * 3e-3, -0.5 * 2e-3 - 0.25e-3], rel=1e-14)


def test_the_operator_is_the_admittance_between_rows_and_columns():
    g = cells(5, 3)
    y = terminal_admittance(g, **WIRES)
    assert torch.equal(operator(g, **WIRES), -y[5:, :5])
    volts = drives(4, 5)
    assert torch.allclose(column_currents(g, volts, **WIRES), -volts @ y[5:, :5].T, rtol=1e-14, atol=0)
    dies = cells(2, 5, 3)
    assert column_currents(dies, volts.expand(2, 4, 5), **WIRES).shape == (2, 4, 3)


def test_currents_fall_with_distance_from_source_and_sense():
    """Equal cells: the cell by the source and the sense carries most, the far corner least."""
    k = operator(torch.full((6, 6), 1e-3, dtype=torch.float64), r_word_ohm=3.0, r_bit_ohm=3.0)
    assert (k.diff(dim=1) > 0).all()  # nearer the sense, below
    assert (k.diff(dim=0) < 0).all()  # farther from the source


def test_selectors_and_faults():
    g = cells(4, 3)
    stuck = torch.full((4, 3), torch.nan, dtype=torch.float64)
    stuck[0, 1], stuck[2, 2], stuck[3, 0] = 0.0, torch.inf, 5e-4
    off = torch.ones(4, 3, dtype=torch.bool)
    off[1], off[2, 2] = False, True
    seen = in_series(with_faults(g, selected=off, stuck=stuck), 200.0)
    assert seen[0, 1] == 0
    assert (seen[1] == 0).all()
    assert seen[2, 2].item() == pytest.approx(1 / 200)
    assert seen[3, 0].item() == pytest.approx(1 / 2200)
    assert seen[0, 0].item() == pytest.approx(1 / (200 + 1 / g[0, 0].item()))
    # a row whose cells are all off draws nothing
    assert terminal_admittance(seen, **WIRES)[1].abs().max() <= 1e-18
    with pytest.raises(SpecError, match="selected has shape"):
        with_faults(g, selected=off[:2])
    with pytest.raises(SpecError, match="selector's resistance"):
        in_series(g, -1.0)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9)), st.floats(0, 30), st.floats(0, 30), st.floats(0, 30),
    st.booleans(), st.booleans(), st.integers(0, 99),
)  # fmt: skip
def test_the_closed_form_stays_inside_its_bound(size, word, bit, end, both_word, both_bit, seed):
    g = cells(*size, seed=seed)
    wiring = {
        "r_word_ohm": word, "r_bit_ohm": bit, "r_source_ohm": end, "r_sense_ohm": end / 2,
        "both_word_ends": both_word, "both_bit_ends": both_bit,
    }  # fmt: skip
    bound = error_bound(g, **wiring)
    found = first_order_operator(g, tolerance=max(bound, 1e-12), **wiring)
    worst = ((found - operator(g, **wiring)).abs().sum(1) / g.sum(0)).max().item()
    assert worst <= bound + 1e-12


def test_the_closed_form_is_second_order_and_refused_outside_its_bound():
    g = cells(8, 8)
    errors = [
        (first_order_operator(g, tolerance=1.0, r_word_ohm=r, r_bit_ohm=r) - operator(g, r_word_ohm=r, r_bit_ohm=r))
        .abs().max().item() for r in (0.1, 0.01)
    ]  # fmt: skip
    assert errors[0] / errors[1] == pytest.approx(100, rel=0.05)
    with pytest.raises(OutOfDomainError, match="more than the tolerance of 1e-06"):
        first_order_operator(g, tolerance=1e-6, r_word_ohm=10.0)
    assert error_bound(g, r_word_ohm=1e6) == np.inf
    with pytest.raises(SpecError, match="short"):
        first_order_operator(torch.tensor([[torch.inf]], dtype=torch.float64), tolerance=1.0)


def test_one_bending_cell_by_hand():
    """A cell of G v0 sinh(V / v0) behind 3 + 4 ohm: bisection on its own voltage."""
    g, v0, drive = 2e-3, 0.2, 0.9
    low, high = 0.0, drive
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (low, middle) if middle + 7 * g * v0 * np.sinh(middle / v0) > drive else (middle, high)
    read = sinh_read(
        torch.tensor([[g]], dtype=torch.float64), torch.tensor([[drive]], dtype=torch.float64), v0=v0,
        r_word_ohm=3.0, r_bit_ohm=4.0,
    )  # fmt: skip
    assert read.cell_volts.item() == pytest.approx(low, rel=1e-12)
    assert read.currents.item() == pytest.approx(g * v0 * np.sinh(low / v0), rel=1e-12)


@pytest.mark.parametrize("both", [False, True])
def test_newton_is_quadratic_and_its_solution_carries_the_sinh_current(both):
    g, volts = cells(6, 5), drives(7, 6)
    wiring = {**WIRES, "both_word_ends": both, "both_bit_ends": both}
    read = sinh_read(g, volts, v0=0.1, **wiring)
    falls = [move for move in read.moves if move < 0.02]
    assert len(falls) >= 2
    for before, after in itertools.pairwise(falls):
        assert after <= max(10 * before**2 / 0.1, 1e-13)
    # at the solution, the linear array of the secant conductances has the same voltages and currents
    x = read.cell_volts / 0.1
    secant = g * torch.sinh(x) / x
    again = torch.stack([column_currents(s, v, **wiring) for s, v in zip(secant, volts, strict=True)])
    assert (again - read.currents).abs().max() <= 1e-12 * read.currents.abs().max()
    # and with no bend left it is the linear read
    weak = sinh_read(g, volts, v0=1e4, **wiring).currents
    assert torch.allclose(weak, column_currents(g, volts, **wiring), rtol=1e-7, atol=0)


def test_gradients_of_a_bending_read():
    g, volts = cells(3, 4).requires_grad_(), drives(2, 3).requires_grad_()
    v0, word = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.2, 7.0))

    def run(g: Tensor, volts: Tensor, v0: Tensor, word: Tensor) -> Tensor:
        return 1e3 * sinh_read(g, volts, v0=v0, r_word_ohm=word, r_bit_ohm=2 * word, both_word_ends=True).currents

    assert gradcheck(run, (g, volts, v0, word), eps=1e-6, atol=1e-5, rtol=1e-4)


def test_reads_that_make_no_sense():
    g = cells(3, 2)
    with pytest.raises(SpecError, match="one entry for each row"):
        column_currents(g, drives(2))
    with pytest.raises(SpecError, match="above 1/200 of the drive"):
        sinh_read(g, drives(1, 3), v0=1e-4)
    with pytest.raises(SpecError, match="finite conductances"):
        sinh_read(torch.full((3, 2), torch.inf, dtype=torch.float64), drives(1, 3), v0=0.1)
    with pytest.raises(SpecError, match=r"not \(inputs, rows\)"):
        sinh_read(g, drives(3), v0=0.1)
