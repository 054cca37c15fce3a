"""A designer's file becomes one subcircuit; what would be global beside it moves inside, and clashes are refused."""

from __future__ import annotations

import doctest

import pytest

from analog_deq.errors import NetlistError
from analog_deq.netlists import calls, nest
from analog_deq.netlists.header import read_header, read_scopes
from analog_deq.netlists.screen import screen_netlist

FILE = """* a designer's file
.param wp=2u
+ wn={wp/2}
.model nch nmos level=1
.subckt pair g1 g2 t
M1 a g1 t t nch w={wn} l=1u
M2 a g2 t t nch w={wn} l=1u
.ends pair
.subckt unused a b
R1 a b 1k
.ends
.subckt Amp inp inn out bias=1u ; the cell
X1 inp inn
+ t pair $ input
X2 out t tail i={bias}
.subckt tail a b i=1
I1 a b {i}
.ends tail
.ends Amp
* the end
"""


def nested(text: str = FILE) -> str:
    return nest.nest(text, "amp", "a.cir")


def test_all_that_the_cell_needs_moves_inside_and_the_rest_goes() -> None:
    assert [line for line in nested().split("\n") if line] == [
        "* a designer's file",
        ".subckt Amp inp inn out bias=1u ; the cell",
        "X1 inp inn t amp__pair",
        "X2 out t amp__tail i={bias}",
        ".subckt amp__tail a b i=1",
        "I1 a b {i}",
        ".ends",
        ".subckt amp__pair g1 g2 t",
        "M1 a g1 t t nch w={wn} l=1u",
        "M2 a g2 t t nch w={wn} l=1u",
        ".ends",
        ".param wp=2u",
        "+ wn={wp/2}",
        ".model nch nmos level=1",
        ".ends Amp",
        "* the end",
    ]


def test_the_result_is_a_cell_by_itself_and_keeps_the_numbers_of_its_lines() -> None:
    screen_netlist(nested(), "a.cir")
    assert read_header(nested()) == read_header(FILE, "amp")
    assert nested().split("\n").index("X2 out t amp__tail i={bias}") == FILE.split("\n").index("X2 out t tail i={bias}")


def test_a_file_that_is_one_subcircuit_comes_back_as_it_is() -> None:
    text = "* note\n\n.subckt amp a b\nR1 a b 1k ; note\n.ends\n"
    assert nested(text) == text


def test_nesting_twice_changes_only_names() -> None:
    again = nested(nested())
    assert [s.header.name for s in read_scopes(again).walk()] == ["", "amp", "amp__amp__tail", "amp__amp__pair"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("bias=1u", "wp=1u", "a.cir:2: '.param wp=2u + wn={wp/2}' defines 'wp', as .subckt amp does"),
        ("X1 inp inn", ".param wn=1\nX1 inp inn", "defines 'wn'"),
        ("X1 inp inn", ".model nch nmos level=1\nX1 inp inn", "defines 'nch'"),
        (".subckt tail a b i=1", ".subckt pair a b i=1", "a.cir:5: '.subckt pair g1 g2 t' is defined inside"),
        (".subckt Amp", ".subckt Amp2", "no '.subckt amp' at the top of this file; it has pair, unused, amp2"),
    ],
)
def test_what_would_overrule_the_cells_own_is_refused(old: str, new: str, said: str) -> None:
    with pytest.raises(NetlistError) as caught:
        nested(FILE.replace(old, new).replace("ends Amp", "ends").replace(".ends tail", ".ends"))
    assert said in str(caught.value)


CALLS = """.subckt cell a b x=3 y=5
{line}
.subckt sub p q r=1 s=1
R1 p q {{r*s*t}}
.param t=2
.ends
.ends
"""


@pytest.mark.parametrize(
    "line",
    [
        "X1 a b sub", "X1 a b sub r={x} s={y}", "X1 (a b) sub params: r = '2*x'", "X1 a b sub r={2*r}",
        "X1 a b sub m=2", "X1 a b sub t=4", "X1 a b sub r={r} s={2*r}",
        "X1 a b sub s=s r='s'", "X1 a b foreign r={s} z=1",
    ],
)  # fmt: skip
def test_an_instance_that_fits_passes(line: str) -> None:
    screen_netlist(CALLS.format(line=line), "a.cir")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("X1 a b sub z=1", r"sets 'z', which 'sub' has not \(it has r, s, t\)"),
        ("X1 a sub", "connects 1 nodes to 'sub', which has the 2 pins p q"),
        ("X1 a b 0 sub", "connects 3 nodes"),
        ("X1 a b sub r={s} s={r}", "uses 's' for 'r'"),
        ("X1 a b sub r={2*s}", "or pass s={s} unchanged too"),
        ("X1 a b sub r = 1 + 2", "which ngspice cuts short|cannot read '[+] 2'"),
        ("X1 a b sub r=1,s=2", "cuts short"),
        ("X1 a b sub r=max(1, 2)", "cuts short"),
        ('X1 a b sub r="1 + 2"', "double quotes"),
        ("X1 a b sub r=-s", "cuts short"),
        ("X1 a b cell", "calls 'cell', which is being built"),
        ("X1 a b one\n.subckt one a b\nX1 a b two\n.ends\n.subckt two a b\nX1 a b one\n.ends", "is being built"),
        (".param w=1\n.param w=2", "defines .param 'w' again"),
        (".param x=1", "sets 'x', a parameter of .subckt cell"),
        (".param w = 1 + 2", "cannot read '[+] 2'"),
        (".param f(u)={2*u}", "cannot read"),
        (".model d1 d\n.model D1 d", "defines .model 'd1' again"),
        (".func f(u) {u}\n.func F(u) {2*u}", "defines .func 'f' again"),
        (".subckt sub a b\nR1 a b 1\n.ends", "defines .subckt 'sub' again"),
        ("X1 (a b)sub", "is no instance"),
        ("X1 a,b sub", "loses nodes"),
    ],
)
def test_names_and_calls_ngspice_reads_otherwise_are_refused(line: str, said: str) -> None:
    with pytest.raises(NetlistError, match=said):
        screen_netlist(CALLS.format(line=line), "a.cir")


def test_examples() -> None:
    assert doctest.testmod(nest).failed == 0
    assert doctest.testmod(calls).failed == 0
