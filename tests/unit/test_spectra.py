"""Densities with known integrals and corners."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from analog_deq.characterise.measurement import NOT_MODELLED, UNDEFINED
from analog_deq.characterise.measurements.spectra import (
    density_at,
    flicker_corner,
    integrated_rms,
    noise_stop_hz,
    noise_values,
)
from analog_deq.records import OK

F = np.geomspace(1.0, 1e9, 181)


def bench(bandwidth_hz: float = 1e6, *, native: bool = True) -> Any:
    cell = SimpleNamespace(contract=SimpleNamespace(noise=SimpleNamespace(native=native)))
    return cast(Any, SimpleNamespace(cell=cell, bandwidth_hz=bandwidth_hz))


def test_white_and_flicker_noise_are_integrated_exactly() -> None:
    assert integrated_rms(F, np.full_like(F, 4e-9)) == pytest.approx(4e-9 * math.sqrt(1e9 - 1), rel=1e-9)
    assert integrated_rms(F, 1e-6 / np.sqrt(F)) == pytest.approx(1e-6 * math.sqrt(math.log(1e9)), rel=1e-9)
    assert integrated_rms(F, 1e-3 / F) == pytest.approx(1e-3 * math.sqrt(1 - 1e-9), rel=1e-9)


def test_a_pole_is_integrated_to_a_thousandth() -> None:
    pole, density = 1e5, 1e-8
    total = integrated_rms(F, density / np.hypot(1.0, F / pole))
    assert total == pytest.approx(density * math.sqrt(pole * math.pi / 2), rel=5e-4)


def test_a_band_between_the_points_of_the_sweep() -> None:
    white, flicker = np.full_like(F, 4e-9), 1e-6 / np.sqrt(F)
    assert integrated_rms(F, white, 123.0, 4567.0) == pytest.approx(4e-9 * math.sqrt(4567 - 123), rel=1e-9)
    assert integrated_rms(F, flicker, 123.0) == pytest.approx(1e-6 * math.sqrt(math.log(1e9 / 123)), rel=1e-9)
    assert integrated_rms(F, flicker, high_hz=77.0) == pytest.approx(1e-6 * math.sqrt(math.log(77)), rel=1e-9)


def test_a_density_that_vanishes_somewhere_is_no_error() -> None:
    assert integrated_rms(np.array([1.0, 2.0, 4.0]), np.zeros(3)) == 0.0
    assert integrated_rms(np.array([1.0, 2.0, 4.0]), np.array([1.0, 0.0, 0.0])) > 0.0


@pytest.mark.parametrize("corner", [20.0, 3e3, 4e4])
def test_the_corner_of_flicker_noise_is_found_below_the_pole(corner: float) -> None:
    density = 5e-9 * np.sqrt((1 + corner / F) / (1 + (F / 1e7) ** 2))
    found = flicker_corner(F, density, 1e6)
    assert found.status == OK
    assert found.value == pytest.approx(corner, rel=5e-3)


def test_a_corner_that_is_not_there_is_named() -> None:
    white = np.full_like(F, 5e-9)
    assert flicker_corner(F, white, 1e6).status.startswith(NOT_MODELLED)
    assert "1/f noise has not reached" in flicker_corner(F, 1e-6 / np.sqrt(F), 1e6).status
    assert "no sum" in flicker_corner(F, 1e-6 * F, 1e6).status
    assert flicker_corner(F, white, 5.0).status.startswith(UNDEFINED)


def test_values_state_frequency_and_band_and_are_the_density() -> None:
    density = 5e-9 * np.sqrt((1 + 1e3 / F) / (1 + (F / 1e6) ** 2))
    values = {(v.quantity, v.at.split("=")[0], v.at): v for v in noise_values(bench(), F, density)}
    at_1khz = values["noise_density", "f", "f=1kHz"]
    assert at_1khz.value == pytest.approx(5e-9 * math.sqrt(2), rel=1e-4)
    total = values["noise_rms", "band", "band=1Hz..1000*bandwidth"]
    assert total.value == pytest.approx(5e-9 * math.sqrt(1e6 * math.pi / 2), rel=1e-2)
    inside = values["noise_rms", "band", "band=1Hz..bandwidth"]
    assert inside.value == pytest.approx(5e-9 * math.sqrt(1e6 * math.pi / 4), rel=1e-2)
    assert density_at(F, density, 1e5) == pytest.approx(5e-9 * math.sqrt(1.01 / 1.01), rel=1e-3)


@pytest.mark.parametrize(("native", "density"), [(False, 5e-9), (True, 0.0)])
def test_a_noiseless_cell_is_not_modelled(native: bool, density: float) -> None:
    values = noise_values(bench(native=native), F, np.full_like(F, density))
    assert {v.quantity for v in values} == {"noise_density", "noise_rms", "noise_corner"}
    assert all(v.status.startswith(NOT_MODELLED) and math.isnan(v.value) for v in values)


def test_the_band_ends_at_a_whole_decade_past_the_bandwidth() -> None:
    assert noise_stop_hz(bench(3e6)) == pytest.approx(1e10)
    assert noise_stop_hz(bench(1e-2)) == pytest.approx(1e5)
