"""Reading `.subckt` headers in every form people write them."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analog_deq.errors import NetlistError
from analog_deq.netlists import header
from analog_deq.netlists.header import logical_lines, read_header

AWKWARD = """* title
.SUBCKT OpAmp INP
+ inn   out  $ the output
* a comment between
   + VDD vss PARAMS: A0 = 1e4 gbw={2 * {k}}
+ note='1 + 2' ro=50 ; done
.subckt helper a b r=1k
R1 a b {r}
.ends helper
X1 inp out helper
.ends
"""
NAME = st.from_regex(r"[a-z][a-z0-9_]{0,6}", fullmatch=True)
VALUE = st.sampled_from(["1", "1e-6", "{a + b}", "'2 * c'", "{max(1, {x})}", "-3.5u"])


def test_every_feature_at_once() -> None:
    found = read_header(AWKWARD)
    assert found.name == "opamp"
    assert found.pins == ("inp", "inn", "out", "vdd", "vss")
    assert found.params == {"a0": "1e4", "gbw": "{2 * {k}}", "note": "'1 + 2'", "ro": "50"}
    assert found.line == 2


def test_a_nested_subcircuit_is_read_when_named() -> None:
    assert read_header(AWKWARD, "HELPER").pins == ("a", "b")


@given(
    pins=st.lists(NAME, min_size=1, max_size=6, unique=True),
    params=st.dictionaries(NAME, VALUE, max_size=4),
    word=st.sampled_from(["", "params: ", "PARAMS: "]),
    equals=st.sampled_from(["=", " = ", "= ", " ="]),
    gap=st.sampled_from([" ", "\n+ ", "   ", "\n* c\n+", " $ c\n  + "]),
    upper=st.booleans(),
)
def test_any_layout_reads_the_same(
    pins: list[str], params: dict[str, str], word: str, equals: str, gap: str, upper: bool
) -> None:
    fields = [*pins, *([word.strip()] if word and params else []), *(f"{k}{equals}{v}" for k, v in params.items())]
    card = ".subckt cell " + gap.join(fields)
    text = f"{card.upper() if upper else card}\n.ends\n"
    found = read_header(text)
    assert found.pins == tuple(pins)
    assert {k: v.lower() for k, v in found.params.items()} == {k: v.lower() for k, v in params.items()}


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("R1 a b 1\n", "a.cir", "no .subckt"),
        (".subckt\n.ends\n", "a.cir:1", "has no name"),
        (".subckt a\n.ends\n", "a.cir:1", "has no pins"),
        (".subckt a p p\n.ends\n", "a.cir:1", "'p' appears twice"),
        (".subckt a p x=1 X=2\n.ends\n", "a.cir:1", "'X' appears twice"),
        (".subckt a p x=\n.ends\n", "a.cir:1", "'x' has no value"),
        (".subckt a p x={1\n.ends\n", "a.cir:1", "'x' has no value"),
        (".subckt a p x=1 y\n.ends\n", "a.cir:1", "cannot read 'y'"),
        ("\n.subckt a p\nR1 p 0 1\n", "a.cir:2", "has no .ends"),
        (".ends\n", "a.cir:1", "closes no .subckt"),
        ("* c\n+ 1k\n", "a.cir:2", "continues no line"),
        (".subckt a p\n.ends\n.subckt b p\n.ends\n", "a.cir", "several subcircuits"),
    ],
)
def test_a_bad_header_names_file_and_line(text: str, line: str, said: str) -> None:
    with pytest.raises(NetlistError) as caught:
        read_header(text, source="a.cir")
    assert str(caught.value).startswith(line)
    assert said in str(caught.value)


def test_line_numbers_are_those_of_the_first_physical_line() -> None:
    assert [line.number for line in logical_lines("* t\r\nR1 a\r\n+ b 1\r\n\r\nR2 a b 2\r\n")] == [2, 5]


def test_examples() -> None:
    assert doctest.testmod(header).failed == 0
