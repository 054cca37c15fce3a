"""Reading `.subckt` headers in every form people write them."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analog_deq.errors import NetlistError
from analog_deq.netlists import header, lines
from analog_deq.netlists.header import logical_lines, read_header
from analog_deq.netlists.lines import RESERVED, strip_comment

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
NAME = st.from_regex(r"[a-z_][a-z0-9_]{0,6}", fullmatch=True).filter(lambda x: x not in RESERVED)
PIN = st.from_regex(r"[a-z0-9_][a-z0-9_+.\-\[\]<>!:]{0,6}", fullmatch=True).filter(lambda x: x not in {"0", "gnd"})
VALUE = st.sampled_from(
    ["1", "1e-6", "{a + b}", "'2 * c'", "{max(1, {x})}", "-3.5u", "2*k", "max(1,2)", "{a==b ? 1 : 2}", "(1+2)", "k"]
)
BREAKS = [
    " ", "\n+ ", "   ", "\t", "\n* c\n+", " $ c\n  + ", " $c, x=1\n+ ", " ; don't\n+", " // {c\n\t+", "\n\n+ ",
    "\n$ c\n+ ", "\r\n+ ", "\n* ' {\n\n*\n+ ",
]  # fmt: skip


def test_every_feature_at_once() -> None:
    found = read_header(AWKWARD)
    assert found.name == "opamp"
    assert found.pins == ("inp", "inn", "out", "vdd", "vss")
    assert found.params == {"a0": "1e4", "gbw": "{2 * {k}}", "note": "'1 + 2'", "ro": "50"}
    assert found.line == 2


def test_a_nested_subcircuit_is_read_when_named() -> None:
    assert read_header(AWKWARD, "HELPER").pins == ("a", "b")


@given(
    pins=st.lists(PIN, min_size=1, max_size=6, unique=True),
    params=st.dictionaries(NAME, VALUE, max_size=4),
    word=st.sampled_from(["", "params: ", "PARAMS: "]),
    equals=st.sampled_from(["=", " = ", "= ", " ="]),
    gap=st.sampled_from(BREAKS),
    upper=st.booleans(),
    brackets=st.sampled_from(["{}", "({})", "( {} )"]),
)
def test_any_layout_reads_the_same(
    pins: list[str], params: dict[str, str], word: str, equals: str, gap: str, upper: bool, brackets: str
) -> None:
    fields = [
        brackets.format(gap.join(pins)),
        *([word.strip()] if word and params else []),
        *(f"{k}{equals}{v}" for k, v in params.items()),
    ]
    card = ".subckt cell" + gap + gap.join(fields)
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
        (".subckt a p\n; c\n+ q\n.ends\n", "a.cir:3", "continues the ';' comment"),
        (".subckt a p\n; c\n\n+ q\n.ends\n", "a.cir:4", "continues the ';' comment"),
        (".subckt a p gnd\n.ends\n", "a.cir:1", "the pin 'gnd', which ngspice wires to ground"),
        (".subckt a p 0\n.ends\n", "a.cir:1", "the pin '0', which ngspice wires to ground"),
        (".subckt a p,q\n.ends\n", "a.cir:1", "a comma among its pins"),
        (".subckt a p {q}\n.ends\n", "a.cir:1", "'{q}' among its pins"),
        (".subckt a(p q)\n.ends\n", "a.cir:1", "has no name"),
        (".subckt a p r = 2 * 3\n.ends\n", "a.cir:1", "cannot read '* 3'"),
        (".subckt a p r=1,s=2\n.ends\n", "a.cir:1", "'1,s=2', which ngspice cuts short"),
        (".subckt a p r=max(1, 2)\n.ends\n", "a.cir:1", "which ngspice cuts short"),
        (".subckt a p r=-s\n.ends\n", "a.cir:1", "which ngspice cuts short"),
        ('.subckt a p r="1 + 2"\n.ends\n', "a.cir:1", "in double quotes"),
        (".subckt a p r= s=2\n.ends\n", "a.cir:1", "'s=2', which ngspice cuts short"),
        (".subckt a p pi=3\n.ends\n", "a.cir:1", "'pi' has a meaning of its own"),
        (".subckt a p r=1\n.param R=2\n.ends\n", "a.cir:2", "drops the default of the header"),
        (".subckt a p\n.ends b\n", "a.cir:2", "stands at the end of .subckt a"),
        (".subckt a p\n" * 33 + ".ends\n" * 33, "a.cir:33", "33 subcircuits deep"),
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


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        ("R1 a b 1k ; x", "R1 a b 1k"), ("R1 a b 1k;x", "R1 a b 1k"), ("R1 a b 1k $x", "R1 a b 1k"),
        ("R1 a b 1k,$x", "R1 a b 1k,"), ("R1 a b 1k\t$ x", "R1 a b 1k"), ("R1 a b 1k//x", "R1 a b 1k"),
        ("R1 a$b c 1k", "R1 a$b c 1k"), ("R1 a b '1;2'", "R1 a b '1;2'"), ("R1 a b '1 $ 2' ; x", "R1 a b '1 $ 2'"),
        ("; x", ""), ("$ x", ""), ("* x", ""), ("  * x", ""), ("//x", ""), ("", ""), ("+ ; x", "+"),
    ],
)  # fmt: skip
def test_comments_are_those_of_ngspice(raw: str, kept: str) -> None:
    assert strip_comment(raw) == kept


def test_examples() -> None:
    assert doctest.testmod(header).failed == 0
    assert doctest.testmod(lines).failed == 0
