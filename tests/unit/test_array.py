"""The exact array against nodal analysis of every cell and segment, by hand, and by the laws of a passive network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers import Nodal
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from analog_deq.array import terminal_admittance
from analog_deq.array.nodal import nodal_admittance
from analog_deq.errors import SpecError
from analog_deq.reduction import physical_conductances, reduce_array

wires = st.one_of(st.just(0.0), st.floats(0.1, 50.0))
sizes = st.tuples(st.integers(1, 7), st.integers(1, 7))


def conductances(rows: int, columns: int, seed: int, open_share: float = 0.0, short_share: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    g = np.exp(rng.uniform(np.log(1e-6), np.log(1e-3), (rows, columns)))
    g[rng.random(g.shape) < open_share] = 0.0
    g[rng.random(g.shape) < short_share] = np.inf
    return g


def tensor(value: Any) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64)


def admittance(g: np.ndarray, **wiring: Any) -> np.ndarray:
    return terminal_admittance(tensor(g), **wiring).numpy()


def close(found: np.ndarray, expected: np.ndarray, relative: float = 1e-10) -> bool:
    return bool(np.abs(found - expected).max() <= relative * np.abs(expected).max())


@settings(max_examples=60, deadline=None)
@given(sizes, wires, wires, wires, wires, st.booleans(), st.booleans(), st.sampled_from([0.0, 0.3]), st.integers(0, 99))
def test_every_entry_equals_the_nodal_analysis(size, word, bit, source, sense, both_word, both_bit, opened, seed):
    wiring = {
        "r_word_ohm": word, "r_bit_ohm": bit, "r_source_ohm": source, "r_sense_ohm": sense,
        "both_word_ends": both_word, "both_bit_ends": both_bit,
    }  # fmt: skip
    g = conductances(*size, seed, opened, 0.2 if word or bit or (source and sense) else 0.0)
    expected = nodal_admittance(g, **wiring)
    largest = np.abs(expected).max()
    # nodal analysis adds a wire's conductance to a cell's; with every cell open nothing is there to be lost
    lost = max((1e-15 / (r * largest) for r in (word, bit, source, sense) if r and largest), default=0.0)
    assert close(admittance(g, **wiring), expected, 1e-10 + lost)


@settings(max_examples=25, deadline=None)
@given(sizes, wires, wires, st.booleans(), st.integers(0, 99))
def test_laws_of_a_passive_network(size, word, bit, both, seed):
    y = admittance(conductances(*size, seed, 0.1), r_word_ohm=word, r_bit_ohm=bit, both_word_ends=both)
    small = 1e-13 * np.abs(y).max()
    assert np.abs(y - y.T).max() <= small  # reciprocity
    assert np.abs(y.sum(axis=1)).max() <= 10 * small  # no element goes to ground
    assert np.linalg.eigvalsh((y + y.T) / 2).min() >= -small  # it delivers no power
    assert (y - np.diag(np.diag(y))).max() <= small


def test_a_tiny_wire_costs_no_digits():
    """1 nohm beside cells of 1 uS to 1 mS: first order in r, where nodal analysis has no digit left."""
    g = conductances(5, 6, 3)
    without = admittance(g)
    near, far = ((admittance(g, r_word_ohm=r, r_bit_ohm=r)[:5, 5:] / without[:5, 5:] - 1) / r for r in (1e-6, 1e-5))
    assert np.abs(near - far).max() <= 1e-5 * np.abs(far).max()


def test_rows_columns_and_signs_of_two_cells_by_hand():
    """Row 0 to column 2 of 1 kohm behind three word segments and two bit segments; row 1 to column 0 of 2 kohm."""
    g = np.array([[0.0, 0.0, 1e-3], [5e-4, 0.0, 0.0]])
    y = admittance(g, r_word_ohm=10.0, r_bit_ohm=100.0, r_source_ohm=tensor([1.0, 2.0]), r_sense_ohm=4.0)
    paths = {(0, 2): 1e3 + 3 * 10 + 2 * 100 + 1 + 4, (1, 0): 2e3 + 10 + 100 + 2 + 4}
    expected = np.zeros((5, 5))
    for (row, column), ohm in paths.items():
        for a, b, sign in ((row, row, 1), (row, 2 + column, -1), (2 + column, row, -1), (2 + column, 2 + column, 1)):
            expected[a, b] = sign / ohm
    assert np.abs(y - expected).max() <= 1e-18


def test_both_ends_feed_a_row_through_equal_ways():
    """One row, two cells: the far source sits one segment beyond cell 1."""
    g1, g2, r, rs = 1e-3, 2e-3, 50.0, 20.0
    y = admittance(np.array([[g1, g2]]), r_word_ohm=r, r_source_ohm=rs, both_word_ends=True)
    network = Nodal(iter([("w", "a", 1 / (r + rs)), ("a", "b", 1 / r), ("b", "w", 1 / (r + rs)), ("a", "s0", g1),
                          ("b", "s1", g2)]))  # fmt: skip
    currents = network.currents({"w": 1.0, "s0": 0.0, "s1": 0.0})
    assert y[:, 0] == pytest.approx([currents["w"], currents["s0"], currents["s1"]], rel=1e-13)


def test_shorts_without_wires_merge_nodes():
    """Row 0 shorted to both columns, senses behind 3 ohm each, source behind 10: one floating node."""
    y = admittance(np.array([[np.inf, np.inf]]), r_source_ohm=10.0, r_sense_ohm=3.0)
    assert y[0, 0] == pytest.approx(1 / 11.5, rel=1e-14)
    assert y[0, 1] == pytest.approx(-0.5 / 11.5, rel=1e-14)
    held = admittance(np.array([[np.inf, 1e-3], [1e-3, 1e-3]]), r_sense_ohm=5.0)
    assert held[0, 2] == pytest.approx(-1 / 5, rel=1e-2)


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("wiring", [(30.0, 20.0, 5.0, 7.0), (0.01, 40.0, 0.0, 3.0)])
def test_gradients_to_cells_and_every_resistance(wiring, both):
    word, bit, source, sense = (tensor(r).clone() for r in wiring)
    inputs = [
        tensor(np.stack([conductances(3, 5, 1) * 10, conductances(3, 5, 2) * 10])), word, bit,
        source + torch.arange(1.0, 4, dtype=torch.float64), sense + torch.arange(1.0, 6, dtype=torch.float64),
    ]  # fmt: skip

    def run(g: Tensor, w: Tensor, b: Tensor, s: Tensor, t: Tensor) -> Tensor:
        ends = {"both_word_ends": both, "both_bit_ends": both}
        return 1e3 * terminal_admittance(g, r_word_ohm=w, r_bit_ohm=b, r_source_ohm=s, r_sense_ohm=t, **ends)

    leaves = [value.requires_grad_() for value in inputs]
    assert gradcheck(run, leaves, eps=1e-6, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("word", "bit"), [(0.0, 0.0), (0.0, 3.0), (4.0, 2.0)])
def test_gradients_at_open_and_shorted_cells(word, bit):
    """dY/dg = drop drop' (Tellegen): an open cell has a drop, a short has none; resistances of 0 included."""
    g = tensor([[0.0, 2e-4, 1e-4], [3e-4, 1e-4, 0.0]]).requires_grad_()
    resistance = [tensor(r).clone().requires_grad_() for r in (word, bit)]
    y = terminal_admittance(g, r_word_ohm=resistance[0], r_bit_ohm=resistance[1], r_source_ohm=9.0)
    y[0, 3].backward()
    step = 1e-9

    def at(cell: float, more: float, more_bit: float) -> float:
        moved = g.detach().clone()
        moved[0, 0] += cell
        return float(
            terminal_admittance(moved, r_word_ohm=word + more, r_bit_ohm=bit + more_bit, r_source_ohm=9.0)[0, 3]
        )

    assert g.grad[0, 0].item() == pytest.approx((at(step, 0, 0) - at(0, 0, 0)) / step, rel=1e-4)
    assert resistance[0].grad.item() == pytest.approx((at(0, 1e-4, 0) - at(0, 0, 0)) / 1e-4, rel=1e-3)
    assert resistance[1].grad.item() == pytest.approx((at(0, 0, 1e-4) - at(0, 0, 0)) / 1e-4, rel=1e-3)
    if word:
        shorted = tensor([[np.inf, 2e-4], [1e-4, 1e-4]]).requires_grad_()
        terminal_admittance(shorted, r_word_ohm=word, r_bit_ohm=bit).sum().backward()
        assert shorted.grad[0, 0] == 0
        assert torch.isfinite(shorted.grad).all()


def test_dies_are_reduced_one_by_one():
    g = np.stack([conductances(5, 3, seed) for seed in range(6)]).reshape(2, 3, 5, 3)
    whole = admittance(g, r_word_ohm=2.0, r_bit_ohm=3.0)
    assert whole.shape == (2, 3, 8, 8)
    assert np.abs(whole[1, 2] - admittance(g[1, 2], r_word_ohm=2.0, r_bit_ohm=3.0)).max() <= 1e-18


def test_the_numpy_reduction_has_the_same_array():
    rng = np.random.default_rng(0)
    g_pos, g_neg = np.exp(rng.uniform(np.log(1e-6), np.log(1e-4), (2, 6, 3)))
    reduced = reduce_array(g_pos, g_neg, r_line_ohm=2.0, r_dac_ohm=10.0)
    rows = physical_conductances(g_pos, g_neg)
    entry = np.where(np.arange(12) < 6, 10.0, 0.0)
    y = admittance(rows, r_word_ohm=2.0, r_bit_ohm=2.0, r_source_ohm=tensor(entry))
    ports = [*range(12, 15), *range(6, 12)]
    assert np.abs(y[np.ix_(ports, ports)] - reduced.y_ports).max() <= 1e-11 * y.max()
    assert np.abs(y[np.ix_(ports, range(6))] - reduced.y_sources).max() <= 1e-11 * y.max()
    assert np.abs(y[:6, :6] - reduced.y_drive).max() <= 1e-11 * y.max()


@pytest.mark.parametrize(
    ("g", "wiring", "message"),
    [
        ([[1e-3, -1e-6]], {}, r"\(0, 1\) is -1e-06"),
        ([[np.nan]], {}, r"\(0, 0\) is nan"),
        ([[1e-3]], {"r_word_ohm": -1.0}, "r_word_ohm = -1.0"),
        ([[1e-3]], {"r_bit_ohm": np.inf}, "r_bit_ohm = inf"),
        ([[1e-3, 1e-3]], {"r_source_ohm": torch.zeros(2)}, "r_source_ohm has shape"),
        ([[1e-3], [np.inf]], {}, "row source 1 to column sense 0"),
        ([[np.inf, np.inf]], {"r_source_ohm": 5.0}, "column sense 0 to column sense 1"),
        ([[np.inf, 1e-3]], {"r_bit_ohm": 0.0, "r_word_ohm": 0.0}, "row source 0 to column sense 0"),
        ([1e-3], {}, "shape"),
    ],
)
def test_what_no_circuit_has_is_refused(g, wiring, message):
    with pytest.raises(SpecError, match=message):
        terminal_admittance(tensor(g), **wiring)


def test_only_double_precision():
    with pytest.raises(SpecError, match="float64"):
        terminal_admittance(torch.ones(2, 2))
