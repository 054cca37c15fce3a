"""SI numbers at the edges: SPICE suffixes are read as ngspice reads them, doubtful ones are refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analog_deq.errors import SpecError
from analog_deq.units import engineering, parse_spice_number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4.7k", 4.7e3),
        ("2Meg", 2e6),
        ("2MEG", 2e6),
        ("3m", 3e-3),
        ("10u", 10e-6),
        ("1.5e-3k", 1.5),
        ("-2n", -2e-9),
        ("+3p", 3e-12),
        ("7f", 7e-15),
        ("1T", 1e12),
        ("1G", 1e9),
        (" 5 ", 5.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("10uF", 10e-6),
        ("3kohm", 3e3),
        ("0.9V", 0.9),
        ("20ns", 20e-9),
        ("5megHz", 5e6),
        ("1e-6", 1e-6),
        ("10ohm", 10.0),
    ],
)
def test_suffixes_are_read_as_ngspice_reads_them(text, value):
    assert parse_spice_number(text) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(
    "text", ["1M", "5MHz", "2Mohm", "1F", "2.2Farad", "", "k", "1e", "1 k", "1,5", "0x10", "nan", "inf", "3q", "--1"]
)
def test_what_a_person_may_have_meant_otherwise_is_refused(text):
    with pytest.raises(SpecError, match="r_feedback") as caught:
        parse_spice_number(text, where="r_feedback")
    assert repr(text) in str(caught.value)


def test_the_message_offers_both_readings_of_capital_m():
    with pytest.raises(SpecError, match=r"2Meg for mega or 2m for milli"):
        parse_spice_number("2M")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_plain_float_reads_back_exactly(value):
    assert parse_spice_number(repr(value)) == value


SCALE = {"f": 1e-15, "p": 1e-12, "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


@given(st.floats(min_value=1e-15, max_value=9.99e14), st.booleans(), st.integers(min_value=3, max_value=9))
def test_engineering_notation_says_the_value_to_its_digits(magnitude, negative, digits):
    value = -magnitude if negative else magnitude
    mantissa, suffix = engineering(value, "s", digits).split()
    assert suffix.endswith("s")
    read = float(mantissa) * SCALE[suffix[:-1]]
    assert math.isclose(read, value, rel_tol=0.51 * 10.0 ** (1 - digits))
    assert 1 <= abs(float(mantissa)) < 1000


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (2e-7, "s", "200 ns"),
        (12.5e-12, "F", "12.5 pF"),
        (999.99e-9, "s", "1 us"),
        (0.0, "V", "0 V"),
        (1234.5, "%", "1234 %"),
        (None, "s", "-"),
        (math.nan, "s", "nan s"),
        (math.inf, "", "inf"),
        (-3e-3, "V", "-3 mV"),
        (0.25, "", "0.25"),
    ],
)
def test_engineering_examples(value, unit, text):
    assert engineering(value, unit) == text


def test_rates_take_no_prefix() -> None:
    assert engineering(694600.0, "1/s") == "6.946e+05 1/s"
