"""Blocks: dies that are the same alone and in a crowd, partitions that cover everything once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analog_deq.characterise.blocks import (
    DIE,
    Block,
    die_normals,
    die_seed,
    make_copy,
    parameter_steps,
    partition,
    prepare,
    sensitivity_variants,
)
from analog_deq.characterise.corners import typical_corner
from analog_deq.characterise.measurement import CellBench
from analog_deq.characterise.registry import measurements_of
from analog_deq.netlists.library import load_cell

OPAMP = load_cell("opamp_2stage")
CORNER = typical_corner(OPAMP)
(OPEN_LOOP,) = measurements_of("opamp", ("open_loop",))


@given(first=st.integers(0, 50), count=st.integers(1, 200))
def test_a_partition_covers_every_die_once_in_order(first: int, count: int) -> None:
    variants = [(DIE, first + k) for k in range(count)]
    blocks = partition(OPEN_LOOP, CORNER, variants, 1e6)
    assert [v for b in blocks for v in b.variants] == variants
    assert all(len(b.variants) <= OPEN_LOOP.copies for b in blocks)
    assert [b.span for b in blocks] == [(b.variants[0][1], b.variants[-1][1]) for b in blocks]


@given(count=st.integers(2, 40))
def test_halves_keep_every_member_and_know_their_span(count: int) -> None:
    block = Block(OPEN_LOOP, CORNER, tuple((DIE, k) for k in range(count)), first=0)
    early, late = block.halves()
    assert early.variants + late.variants == block.variants
    assert late.span == (late.variants[0][1], count - 1)


def test_a_die_is_the_same_alone_and_differs_from_its_neighbours() -> None:
    assert die_normals(OPAMP, 7, 12) == die_normals(OPAMP, 7, 12)
    assert die_normals(OPAMP, 7, 12) != die_normals(OPAMP, 7, 13)
    assert die_normals(OPAMP, 7, 12) != die_normals(OPAMP, 8, 12)
    assert len({die_seed(7, k) for k in range(1000)}) == 1000


def test_the_draws_are_standard_normal() -> None:
    values = np.array([die_normals(OPAMP, 3, k)["vos"] for k in range(4000)])
    assert abs(values.mean()) < 4 / np.sqrt(4000)
    assert values.std() == pytest.approx(1.0, abs=0.05)


def test_a_copy_of_a_die_has_sigma_times_its_draw() -> None:
    copy = make_copy(OPAMP, "0", DIE, 5, seed=1)
    bench = CellBench(OPAMP, CORNER, (copy,))
    assert bench.params(copy) == {"vos": pytest.approx(1e-3 * die_normals(OPAMP, 1, 5)["vos"])}


def test_a_spread_that_follows_the_state_is_taken_at_the_state() -> None:
    cell = load_cell("rram_hfox")
    copy = make_copy(cell, "0", DIE, 5, seed=1)
    bench = CellBench(cell, typical_corner(cell), (copy,))
    normal = die_normals(cell, 1, 5)["dg"]
    for g in (4e-6, 20e-6, 40e-6):
        assert bench.params(copy, g=g)["dg"] == pytest.approx(normal * float(cell.sigma("dg", g)), rel=1e-12)
    assert bench.params(copy, g=10e-6)["dg"] != pytest.approx(bench.params(copy, g=40e-6)["dg"], rel=0.1)


def test_sensitivity_moves_each_parameter_both_ways_from_the_corners_value() -> None:
    slow = OPAMP.at("ss")
    steps = parameter_steps(slow)
    assert steps["vos"] == 1e-3
    assert [name for name, _ in sensitivity_variants(slow)] == [f"{k}{s}" for k in steps for s in "+-"]
    up, down = (make_copy(slow, "0", f"dvtn{s}", -1, 0).overrides["dvtn"] for s in "+-") if "dvtn" in steps else (1, -1)
    assert up > down
    center = slow.corner.params.get("kn", 1.0)
    assert make_copy(slow, "0", "kn+", -1, 0).overrides["kn"] == pytest.approx(center * 1.01)


def test_the_deck_of_a_block_is_the_same_text_every_time() -> None:
    block = Block(OPEN_LOOP, CORNER, tuple((DIE, k) for k in range(4)), first=0)
    first, again = prepare(OPAMP, block, 3), prepare(OPAMP, block, 3)
    assert first.deck == again.deck
    assert prepare(OPAMP, block, 4).deck.sha256 != first.deck.sha256
