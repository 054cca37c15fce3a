"""Boyle cards without a simulator: closed forms, the limits of a bipolar pair, and contracts that read back."""

from __future__ import annotations

import doctest
import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analog_deq.errors import SpecError
from analog_deq.netlists import boyle
from analog_deq.netlists.boyle import BoyleParameters, boyle_card, write_boyle
from analog_deq.netlists.boyle_design import boyle_elements
from analog_deq.netlists.contract import read_contract

BASE = BoyleParameters()
VT = 1.380649e-23 * 300.15 / 1.602176634e-19


def test_elements_obey_the_closed_forms() -> None:
    p = replace(BASE, gbw_hz=5e6, slew_v_per_s=4e6, f2_hz=20e6, supply_current_a=1e-3, a0=3e4, r_out_ohm=200.0)
    e = boyle_elements(p)
    alpha = e.beta / (e.beta + 1)
    miller = e.c2 * (1 + 1 / e.a2)
    assert e.i_tail == 0.5e-3
    assert alpha * e.i_tail / miller == pytest.approx(4e6)
    assert e.ga / (2 * math.pi * miller) == pytest.approx(5e6)
    assert e.ga == pytest.approx(alpha / (e.r_emitter + VT / 0.25e-3))
    assert e.ga * e.r2 * e.gb * e.ro2 == pytest.approx(3e4)
    assert 1 / (4 * math.pi * e.r_collector * e.c1) == pytest.approx(20e6)
    assert e.ro1 + e.ro2 == pytest.approx(200.0)
    assert e.gb >= 49.9 * e.ga


@pytest.mark.parametrize("margin", [30.0, 45.0, 60.0, 75.0])
def test_a_phase_margin_gives_the_second_pole(margin: float) -> None:
    p = replace(BASE, phase_margin_deg=margin)
    low, high = 1e3, p.gbw_hz
    for _ in range(200):  # the unity crossing of GBW / (j f (1 + j f / f2)), by bisection
        middle = math.sqrt(low * high)
        above = p.gbw_hz / middle / math.hypot(1, middle / p.second_pole_hz) > 1
        low, high = (middle, high) if above else (low, middle)
    assert 90 - math.degrees(math.atan(low / p.second_pole_hz)) == pytest.approx(margin, abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "Amp"}, "op-amp parameter name = 'Amp': must be a small letter"),
        ({"name": "a b"}, "name = 'a b'"),
        ({"a0": 0.0}, "a0 = 0.0: must be a finite number above 0"),
        ({"gbw_hz": -1.0}, "gbw_hz = -1.0"),
        ({"r_out_ohm": math.nan}, "r_out_ohm = nan"),
        ({"offset_v": math.inf}, "offset_v = inf: must be a finite number"),
        ({"offset_sigma_v": -1e-3}, "offset_sigma_v = -0.001: must be at least 0"),
        ({"vss_v": 0.0}, "vss_v = 0.0: must be below 0"),
        ({"f2_hz": 1e9, "phase_margin_deg": 60.0}, "f2_hz = 1000000000.0: must be left out when"),
        ({"phase_margin_deg": 90.0}, "phase_margin_deg = 90.0: must be 20 to 89 degrees"),
        ({"slew_v_per_s": 60e6}, "slew_v_per_s = 60000000.0: must be at least 6.507e+07: a bipolar pair"),
        ({"noise_v_per_rthz": 2.9e-9}, "noise_v_per_rthz = 2.9e-09: must be above 2.96e-09, the pair's own"),
        ({"r_in_ohm": 1e9}, "r_in_ohm = 1000000000.0: must be below 1.59e+08, the pair's own"),
        ({"i_bias_a": 10e-6}, "i_bias_a = 1e-05: must be at most 4.55e-06 A"),
        ({"headroom_v": 0.81}, "headroom_v = 0.81: must be less than the smaller supply less 10 %"),
        ({"a0": 1e9}, "a0 = 1000000000.0: must be at most 3.72e+07, or more supply current"),
    ],
)
def test_figures_no_card_can_have_are_refused_with_the_limit(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as caught:
        boyle_card(replace(BASE, **changes))
    assert said in str(caught.value)


def test_the_limits_named_in_refusals_are_the_limits() -> None:
    for changes in ({"slew_v_per_s": 6.51e7}, {"noise_v_per_rthz": 2.97e-9}, {"r_in_ohm": 1.58e8}, {"a0": 3.7e7}):
        boyle_card(replace(BASE, **changes))


@settings(max_examples=60, deadline=None)
@given(
    a0=st.floats(1, 7), gbw=st.floats(3, 9), slew=st.floats(-1, 1.5), margin=st.floats(20, 89), r_out=st.floats(0, 5),
    current=st.floats(-7, -1), bias=st.floats(-15, -6), offset=st.floats(-0.05, 0.05), sigma=st.floats(0, 0.05),
    noise=st.floats(-9, -6), supply=st.floats(0.5, 40),
)  # fmt: skip
def test_any_figures_give_a_card_that_reads_back_or_one_error(
    a0: float, gbw: float, slew: float, margin: float, r_out: float, current: float, bias: float, offset: float,
    sigma: float, noise: float, supply: float,
) -> None:  # fmt: skip
    p = BoyleParameters(
        name="drawn", a0=10**a0, gbw_hz=10**gbw, slew_v_per_s=10 ** (gbw + slew), phase_margin_deg=margin,
        r_out_ohm=10**r_out, r_in_ohm=1e5, i_bias_a=10**bias, offset_v=offset, offset_sigma_v=sigma,
        supply_current_a=10**current, headroom_v=0.1 * supply, noise_v_per_rthz=10**noise, vdd_v=supply, vss_v=-supply,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        try:
            boyle_card(p)
        except SpecError:
            with pytest.raises(SpecError, match="op-amp parameter"):
                write_boyle(p, Path(folder))
            assert not list(Path(folder).iterdir())
            return
        cell = read_contract(write_boyle(p, Path(folder)))
        assert cell.mismatch_sigmas == ({"vos": sigma} if sigma else {})
        assert cell.contract.conditions["vdd"].typ == pytest.approx(supply, rel=1e-5)


def test_examples() -> None:
    assert doctest.testmod(boyle).failed == 0
