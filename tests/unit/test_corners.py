"""Corners: names that read back, grids that hold what the contract says and nothing else."""

from __future__ import annotations

import itertools

import pytest

from analog_deq.characterise.corners import Corner, full_grid, quick_grid, select_corners, typical_corner
from analog_deq.errors import SpecError
from analog_deq.netlists.library import load_cell

OPAMP = load_cell("opamp_2stage")


def test_a_name_says_process_temperature_and_total_supply() -> None:
    assert Corner("ss", -40.0, 0.81, -0.81).name == "ss_m40C_1p62V"
    assert Corner("tt", 27.0, 1.8, 0.0).name == "tt_27C_1p8V"
    assert Corner("tt", 27.0).name == "tt_27C"


def test_the_full_grid_is_process_by_temperature_by_supply_with_the_typical_corner_first() -> None:
    grid = full_grid(OPAMP)
    assert len(grid) == len({c.name for c in grid}) == 45
    assert grid[0] == typical_corner(OPAMP) == Corner("tt", 27.0, 0.9, -0.9)
    expected = set(itertools.product(("tt", "ff", "ss", "sf", "fs"), (-40.0, 27.0, 125.0), (1.62, 1.8, 1.98)))
    assert {(c.process, c.temperature_celsius, round(c.vdd_v - c.vss_v, 9)) for c in grid} == expected
    assert all(c.middle_v == pytest.approx(0.0) for c in grid)


def test_quick_is_slow_and_fast_hot_and_cold_until_a_full_run_found_the_worst() -> None:
    names = [c.name for c in quick_grid(OPAMP)]
    assert names[0] == "tt_27C_1p8V"
    assert set(names[1:]) == {"ss_m40C_1p8V", "ss_125C_1p8V", "ff_m40C_1p8V", "ff_125C_1p8V"}
    worst = ["sf_m40C_1p62V", "sf_125C_1p62V"]
    assert {c.name for c in quick_grid(OPAMP, worst)} == {"tt_27C_1p8V", *worst}


@pytest.mark.parametrize("name", [c.name for c in full_grid(OPAMP)])
def test_every_corner_is_found_again_by_its_name(name: str) -> None:
    assert [c.name for c in select_corners(OPAMP, name)] == [name]


def test_an_unknown_corner_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SpecError, match=r"no corner 'xx_27C'.*tt_27C_1p8V"):
        select_corners(OPAMP, "tt_27C_1p8V,xx_27C")
    with pytest.raises(SpecError, match="empty"):
        select_corners(OPAMP, ",")


def test_a_cell_without_supply_or_process_has_only_temperatures() -> None:
    assert [c.name for c in full_grid(load_cell("resistor_synapse"))] == ["tt_27C", "tt_m40C", "tt_125C"]
