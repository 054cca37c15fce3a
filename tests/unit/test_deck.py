"""A deck is deterministic text that promises its plots; what ngspice would misread is refused before it is printed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analog_deq.errors import NetlistError
from analog_deq.netlists.deck import SAVES_PER_LINE, SENTINEL, build_deck, number
from analog_deq.records import Ac, Alter, AlterStep, Command, Dc, ExpectedPlot, Noise, Op, Tran

DIVIDER = ["V1 a 0 1.0", "R1 a b 1e3", "R2 b 0 1e3"]
NOISE = Noise("v(b)", "V1", 10, 1e3, 1e6)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_plain_and_exact(value):
    text = number(value)
    assert float(text) == value
    assert set(text) <= set("0123456789.e+-")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused(value):
    with pytest.raises(NetlistError, match="cannot hold"):
        number(value)
    with pytest.raises(NetlistError, match="cannot hold"):
        build_deck("t", DIVIDER, [Alter((("v1", value),)), Op()], save=["v(b)"])
    with pytest.raises(NetlistError, match="cannot hold"):
        build_deck("t", DIVIDER, [Op()], save=["v(b)"], temperature_celsius=value)


@pytest.mark.parametrize("title", ["a\n.control\nshell touch harm\n.endc\n* ", "a\rb", "a\x0c.control"])
def test_a_title_that_would_begin_another_line_is_refused(title):
    with pytest.raises(NetlistError, match="one line of printable text"):
        build_deck(title, DIVIDER, [Op()], save=["v(b)"])


def test_layout_of_a_deck():
    deck = build_deck(
        "divider", DIVIDER, [Op(), Alter((("v1", 0.5),)), Dc("V1", -1.0, 1.0, 0.5)], save=["v(b)"],
        options={"reltol": 1e-6, "method": "gear", "klu": True}, files=[("cell.cir", "* cell\n")],
        temperature_celsius=85.0,
    )  # fmt: skip
    lines = deck.text.split("\n")
    assert lines[0] == "* divider"  # the first line is a title to ngspice, never an element
    assert lines[1:4] == DIVIDER
    assert ".temp 85.0" in lines
    assert ".options reltol=1e-06 method=gear klu" in lines
    control = lines[lines.index(".control") : lines.index(".endc")]
    assert control[1] == "set filetype=binary"
    assert control[2:] == [
        "save v(b)", "op", "write out.raw", "destroy all", "set appendwrite", "alter v1 dc = 0.5", "dc V1 -1.0 1.0 0.5",
        "write out.raw",
        "destroy all", f"echo {SENTINEL}", "quit 0",
    ]  # fmt: skip
    assert lines[-2:] == [".end", ""]  # ngspice loses a deck whose last line has no end
    assert deck.files == (("cell.cir", "* cell\n"),)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (Op(), ExpectedPlot("Operating Point", 1)),
        (Dc("V1", 0.0, 0.3, 0.1), ExpectedPlot("DC transfer characteristic", 4, 0.3)),
        (Dc("V1", -0.64, 0.64, 1.28 / 160), ExpectedPlot("DC transfer characteristic", 161, 0.64)),
        (Tran(1e-9, 1e-6, 1e-9), ExpectedPlot("Transient Analysis", None, 1e-6)),
        (Ac(20, 1e3, 1e9), ExpectedPlot("AC Analysis", 121, 1e9)),
        (Ac(20, 1e3, 5e9), ExpectedPlot("AC Analysis", None, 5e9)),
    ],
)
def test_every_analysis_promises_its_plot(command, expected):
    assert build_deck("t", DIVIDER, [command], save=["v(b)"]).plots == (expected,)


def test_a_noise_deck_promises_its_spectrum_only():
    deck = build_deck("t", DIVIDER, [NOISE])
    assert deck.plots == (ExpectedPlot("Noise Spectral Density Curves", 31, 1e6),)
    assert "\nsave" not in deck.text  # ngspice 46 refuses noise under a save
    assert "setplot previous\nwrite out.raw onoise_spectrum" in deck.text


@pytest.mark.parametrize(
    ("commands", "keywords", "message"),
    [
        ([NOISE, Op()], {}, "noise analyses only"),
        ([NOISE], {"save": ["v(b)"]}, "saves nothing"),
        ([NOISE], {"options": {"klu": True}}, "no .noise under KLU"),
        ([Op()], {}, "list of vectors to save"),
    ],
)
def test_decks_that_ngspice_would_fail_on_silently_are_refused(commands: list[Command], keywords, message):
    with pytest.raises(NetlistError, match=message):
        build_deck("t", DIVIDER, commands, **keywords)


def test_an_alter_may_stand_in_a_noise_deck():
    assert len(build_deck("t", DIVIDER, [Alter((("v1", 0.5),)), NOISE]).plots) == 1


def test_names_differing_in_case_only_are_duplicates():
    with pytest.raises(NetlistError, match="'r1' appears twice"):
        build_deck("t", [*DIVIDER, "r1 b 0 5.0"], [Op()], save=["v(b)"])
    repeated = ["* R1", ".param a=1", ".param a=2", "+ 3", ""]
    build_deck("t", [*DIVIDER, *repeated], [Op()], save=["v(b)"])


@given(st.integers(min_value=1, max_value=3 * SAVES_PER_LINE))
def test_a_long_save_list_is_split_and_complete(count):
    vectors = [f"v(n{k})" for k in range(count)]
    saves = [
        line for line in build_deck("t", DIVIDER, [Op()], save=vectors).text.split("\n") if line.startswith("save ")
    ]
    assert [name for line in saves for name in line.split()[1:]] == vectors
    assert max(len(line.split()) for line in saves) <= SAVES_PER_LINE + 1


def test_equal_input_gives_an_equal_hash_and_any_change_another():
    base = build_deck("t", DIVIDER, [Op()], save=["v(b)"])
    assert base.sha256 == build_deck("t", DIVIDER, [Op()], save=["v(b)"]).sha256
    others = [
        build_deck("t", DIVIDER, [Op()], save=["v(a)"]),
        build_deck("t", DIVIDER, [Op()], save=["v(b)"], files=[("a.cir", "* a\n")]),
        build_deck("t", DIVIDER, [Op()], save=["v(b)"], bound=10.0),
    ]
    assert len({base.sha256, *(deck.sha256 for deck in others)}) == 4


def test_a_step_of_a_source_starts_from_its_operating_point():
    """The value before t = 0 is the one ngspice's operating point takes; the edge is short beside any time constant."""
    line = next(
        line
        for line in build_deck("t", DIVIDER, [AlterStep((("v1", 0.5, -1.0),)), Op()], save=["v(b)"]).text.splitlines()
        if line.startswith("alter")
    )
    assert line == "alter @v1[pwl] = [ 0 0.5 1e-11 -1.0 ]"
    with pytest.raises(NetlistError, match="cannot hold"):
        build_deck("t", DIVIDER, [AlterStep((("v1", 0.0, math.nan),)), Op()], save=["v(b)"])
