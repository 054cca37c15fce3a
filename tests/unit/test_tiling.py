"""Tiles, convolutions as arrays, and digital partial sums."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import design
from torch.nn.functional import conv2d

from analog_deq.errors import NetlistError, SpecError
from analog_deq.netlists.crossbar import CrossbarParameters, flat_lines, lumped_capacitors
from analog_deq.netlists.neuron import load_cells
from analog_deq.reduction import reduce_array
from analog_deq.spec import Cells
from analog_deq.tiling import Converter, Tile, cut, partial_sums, patches, reduce_tiles, unrolled, unrolled_mask

ROWS, COLUMNS = 9, 4  # 4 inputs, bias, 4 states


def conductances(seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).uniform(1e-6, 1e-4, (2, ROWS, COLUMNS))


# --- tiles ----------------------------------------------------------------------------------------------------------


def test_tiles_cover_the_layer_once_and_are_of_one_size():
    tiles = cut(10, 7, 4, 3)
    covered = np.zeros((10, 7), dtype=int)
    for tile in tiles:
        covered[tile.rows, tile.columns] += 1
        assert tile.end_row - tile.first_row in (3, 4)
        assert tile.end_column - tile.first_column in (2, 3)
    assert (covered == 1).all()
    assert sum(tile.cells for tile in tiles) == 70


def test_tiles_shrink_to_what_is_used_and_empty_ones_go():
    used = np.zeros((8, 8), dtype=bool)
    used[1, 2] = used[2, 1] = True
    assert cut(8, 8, 4, 4, used) == (Tile(1, 3, 1, 3),)


def test_tiles_no_layer_has_are_refused():
    g_pos, g_neg = conductances()
    with pytest.raises(SpecError, match="two tiles hold the device at row 1, column 0"):
        reduce_tiles(g_pos, g_neg, (Tile(0, 9, 0, 4), Tile(1, 2, 0, 1)), r_line_ohm=1.0, r_dac_ohm=10.0)
    with pytest.raises(SpecError, match="not a rectangle inside 9 x 4"):
        reduce_tiles(g_pos, g_neg, (Tile(0, 10, 0, 4),), r_line_ohm=1.0, r_dac_ohm=10.0)
    with pytest.raises(SpecError, match="column 3 is in no tile"):
        reduce_tiles(g_pos, g_neg, (Tile(0, 9, 0, 3),), r_line_ohm=1.0, r_dac_ohm=10.0)
    with pytest.raises(SpecError, match="at least 1"):
        cut(8, 8, 0, 4)


@pytest.mark.parametrize(("r_line", "both_ends"), [(0.0, False), (3.0, False), (3.0, True)])
def test_one_tile_is_the_untiled_array(r_line, both_ends):
    g_pos, g_neg = conductances()
    wires = {"r_line_ohm": r_line, "r_dac_ohm": 10.0, "both_word_ends": both_ends}
    tiled = reduce_tiles(g_pos, g_neg, (Tile(0, ROWS, 0, COLUMNS),), **wires)
    whole = reduce_array(g_pos, g_neg, **wires)
    for name in ("y_ports", "y_sources", "y_drive"):
        assert getattr(tiled, name) == pytest.approx(getattr(whole, name), rel=1e-11, abs=1e-18)


def test_without_wires_cutting_changes_nothing():
    g_pos, g_neg = conductances()
    tiled = reduce_tiles(g_pos, g_neg, cut(ROWS, COLUMNS, 3, 2), r_line_ohm=0.0, r_dac_ohm=10.0)
    whole = reduce_array(g_pos, g_neg, r_line_ohm=0.0, r_dac_ohm=10.0)
    assert tiled.y_ports == pytest.approx(whole.y_ports, rel=1e-11, abs=1e-18)
    assert tiled.y_sources == pytest.approx(whole.y_sources, rel=1e-11, abs=1e-18)


def test_shorter_wires_lose_less():
    """Cutting brings the transfer nearer to that of the array without wires, and all of it by less than it was off."""
    g_pos, g_neg = conductances()
    ideal, whole = (reduce_array(g_pos, g_neg, r_line_ohm=r, r_dac_ohm=10.0).y_sources[:COLUMNS] for r in (0.0, 20.0))
    tiled = reduce_tiles(g_pos, g_neg, cut(ROWS, COLUMNS, 3, 2), r_line_ohm=20.0, r_dac_ohm=10.0).y_sources[:COLUMNS]
    assert np.abs(tiled - ideal).max() < 0.6 * np.abs(whole - ideal).max()
    assert np.abs(tiled - ideal).max() > 1e-9


# --- convolutions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("c_out", "c_in", "size", "height", "width"), [(2, 3, 3, 4, 5), (1, 1, 5, 3, 6), (2, 2, 1, 3, 2)]
)
def test_both_forms_of_a_convolution_are_torchs(c_out, c_in, size, height, width):
    rng = np.random.default_rng(1)
    kernel, maps = rng.standard_normal((c_out, c_in, size, size)), rng.standard_normal((2, c_in, height, width))
    right = conv2d(torch.as_tensor(maps), torch.as_tensor(kernel), padding=size // 2).numpy().reshape(2, -1)
    assert maps.reshape(2, -1) @ unrolled(kernel, height, width).T == pytest.approx(right, abs=1e-12)
    by_patch = patches(maps, size) @ kernel.reshape(c_out, -1).T  # (images, positions, C_out)
    assert np.swapaxes(by_patch, 1, 2).reshape(2, -1) == pytest.approx(right, abs=1e-12)


def test_an_unrolled_convolution_needs_few_devices():
    kernel = np.zeros((1, 1, 3, 3))  # a weight may be 0 and still has its pair of devices
    used = unrolled_mask(kernel, 8, 8)
    assert used.sum() == 22 * 22  # 3 neighbours each way but at the two edges, in both directions
    assert sum(tile.cells for tile in cut(64, 64, 16, 16, used)) < 0.65 * 64 * 64


def test_kernels_without_a_middle_are_refused():
    with pytest.raises(SpecError, match="odd k"):
        unrolled(np.ones((1, 1, 2, 2)), 4, 4)
    with pytest.raises(SpecError, match="no middle"):
        patches(np.ones((1, 4, 4)), 2)


# --- digital partial sums -------------------------------------------------------------------------------------------


def test_digital_sums_are_off_by_the_rounding_of_each_converter_and_no_more():
    g_pos, g_neg = conductances()
    volts = np.random.default_rng(3).uniform(-0.2, 0.2, (50, ROWS))
    tiles = cut(ROWS, COLUMNS, 3, 4)
    adc, dac = Converter(10, 60e-6), Converter(10, 120e-6)
    found = partial_sums(g_pos, g_neg, tiles, volts, r_line_ohm=2.0, r_dac_ohm=10.0, adc=adc, dac=dac)
    error = found.digital - found.exact
    assert found.clipped == 0
    assert np.abs(error).max() <= len(tiles) * adc.step_a / 2 + dac.step_a / 2
    expected = np.sqrt((len(tiles) * adc.step_a**2 + dac.step_a**2) / 12)
    assert np.sqrt(np.mean(error**2)) == pytest.approx(expected, rel=0.2)


def test_exact_sums_are_the_column_currents_of_the_tiles():
    g_pos, g_neg = conductances()
    volts = np.array([[0.1, -0.2, 0.05, 0.0, 0.2, -0.1, 0.1, 0.15, -0.05]])
    wide = Converter(24, 1e-3)
    found = partial_sums(
        g_pos, g_neg, cut(ROWS, COLUMNS, 3, 2), volts, r_line_ohm=0.0, r_dac_ohm=1e-6, adc=wide, dac=wide
    )
    assert found.exact == pytest.approx(volts @ (g_pos - g_neg), rel=1e-8)
    assert found.digital == pytest.approx(found.exact, abs=1e-9)


def test_a_converter_clips_and_says_so():
    g_pos, g_neg = conductances()
    small = Converter(8, 1e-7)
    found = partial_sums(
        g_pos,
        g_neg,
        cut(ROWS, COLUMNS, 9, 4),
        np.full((1, ROWS), 0.2),
        r_line_ohm=0.0,
        r_dac_ohm=10.0,
        adc=small,
        dac=small,
    )
    assert found.clipped > 0
    assert np.abs(found.digital).max() == pytest.approx(small.range_a)


# --- capacitance ----------------------------------------------------------------------------------------------------


def test_a_row_and_a_column_hold_what_their_wires_and_cells_do():
    g_pos, g_neg = conductances()
    tiles = cut(ROWS, COLUMNS, 5, 2)
    array = CrossbarParameters(g_pos, g_neg, 2.0, 10.0, tiles=tiles, c_wire_f=2e-15, c_cell_f=1e-15)
    held = {line.split()[1]: float(line.split()[3]) for line in lumped_capacitors(array, 1e-7)}
    assert held["s0"] == pytest.approx(2 * ROWS * 3e-15)
    assert held["zn3"] == pytest.approx(COLUMNS * 3e-15)
    assert len(held) == 3 * COLUMNS
    flat = flat_lines(array, load_cells(Cells()).synapse)
    assert sum(line.startswith(("Cw", "Cv")) for line in flat) == 2 * 2 * ROWS * COLUMNS
    assert sum(line.startswith("Cx") for line in flat) == 2 * ROWS * COLUMNS


def test_wires_too_slow_for_the_ports_are_refused_until_tiles_are_small_enough():
    g_pos, g_neg = conductances()
    slow = {"c_wire_f": 25e-15, "c_cell_f": 0.0}
    with pytest.raises(NetlistError, match="use the flat deck"):
        lumped_capacitors(CrossbarParameters(g_pos, g_neg, 50.0, 10.0, **slow), 50e-9)
    assert lumped_capacitors(
        CrossbarParameters(g_pos, g_neg, 50.0, 10.0, tiles=cut(ROWS, COLUMNS, 5, 4), **slow), 50e-9
    )


def test_calibration_does_not_ask_for_the_arrays_capacitance():
    crossbar = {"g_min_siemens": 1e-6, "g_max_siemens": 1e-4}
    plain, loaded = (design(crossbar={**crossbar, "c_wire_f": c}) for c in (0.0, 1e-15))
    assert plain.hardware() == loaded.hardware()
