"""The screen refuses every attack and every silent trap that was ever measured, wherever it stands."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from analog_deq.errors import NetlistError
from analog_deq.netlists import screen
from analog_deq.netlists.header import read_header
from analog_deq.netlists.includes import read_netlist
from analog_deq.netlists.screen import screen_netlist
from analog_deq.resources import shipped

GOOD = """* cell
.subckt cell in out vdd vss gain=10
* comment
.param half={gain/2}
.func twice(x) {2*x}
R1 in mid 1k noisy=0
+ tc1=0
E1 out 0 mid 0 {twice(half)}
.subckt helper a b v=1
R1 a b {v}
Rm a b rmod L=1u W=1u
.model rmod r(rsh=100)
.ends helper
X1 mid out helper v=3
M1 out in vss vss n W=1u L=1u
.model n nmos level=1 vto=0.4
S1 out mid in 0 sw1
.model sw1 sw vt=1
Bx out 0 I=1e-3*tanh(v(mid)) ; slew
.ends cell
"""
HOSTILE = [
    ".control", ".endc", "shell touch x", "*#shell touch x", "* # shell touch x", "*ng_script", ".exec touch x",
    "`touch x`", "R9 out 0 {`id`}", "write x.raw", "echo hi > x", "source x", "load x.raw", "set x=1", "quit",
    "codemodel x.cm", "wrdata x v(out)", "system ls", ".tran 1n 1u", ".op", ".ac dec 10 1 1e6", ".dc v1 0 1 0.1",
    ".noise v(out) v1 dec 1 1 10", ".end", ".options reltol=1", ".temp 50", ".ic v(out)=1", ".nodeset v(out)=1",
    ".save all", ".print tran v(out)", ".measure tran x max v(out)", ".global vdd", ".lib 'x.lib' tt",
    ".include /etc/passwd", ".include ../x.cir", ".include a/../../x.cir", ".include ~/x.cir", ".include $home/x",
    ".inc x.cir", ".if (1)", ".spiceinit", ".param a=agauss(1,2,3)", "R9 out 0 {gauss(1k, 0.1, 3)}",
    "R9 out 0 {aunif (1k, 10)}", ".param b={unif(1, 2)}", ".param c = {limit(1, 2)}", ".func f(x) {agauss(x,1,3)}",
    "B9 out 0 V=agauss(0,1,1)", "V9 out 0 dc 0 trnoise(1 1n 0 0)", "V9 out 0 dc 0 trrandom(1 1n 0 1)",
    "V9 out 0 external", 'V9 out 0 pwl file="x.txt"', "A1 in out gainblock", ".model g gain(gain=2)",
    '.model fs filesource(file="x")', ".model o osdi_thing a=1", "N1 in out osdimodel", "U1 in out x", "O1 a b c d l",
    "Y1 a b c", "P1 a b c", "Z1 a b c z", "E9 out 0 poly(1) in 0 0 1", "E9 out 0 in 0 laplace={1}", "R9 out 0",
    "R9 out 0 ; 1k", "R9 out 0 $ 1k", "R9 out 0 0", "R9 out 0 0.0k", "R9 out 0 -5", "R9 out 0 r=0", "R9 out 0 {0}",
    "R9 out 0 'nan'", "R9 out 0 nomodel", "R9 out 0 {1/inf}", "C9 out 0 nan", "R9 out 0 1e999", "V9 out",
    "M9 out in", "R9 out 0 1k\\", "# note", "R9 out 0 1k\x0b.control",
    "R9 out 0 1k\r.control", "R9 out 0 1kΩ", "\u00a0* note", "\ufeff* note",
]  # fmt: skip
CASE = st.sampled_from([str, str.upper, str.lower, str.swapcase, str.title])


def refused(text: str) -> str:
    with pytest.raises(NetlistError) as caught:
        screen_netlist(text, "cell.cir")
    return str(caught.value)


def test_a_good_cell_passes() -> None:
    screen_netlist(GOOD, "cell.cir")
    screen_netlist(GOOD.replace("\n", "\r\n"), "cell.cir")


@pytest.mark.parametrize("path", sorted(shipped("netlists/cells").glob("*.cir")), ids=lambda p: p.stem)
def test_shipped_cells_pass(path: Path) -> None:
    assert read_header(read_netlist(path, path.parent, path.with_suffix(".toml"), path.stem)).name == path.stem


@pytest.mark.parametrize("line", HOSTILE)
def test_each_attack_is_refused_inside_the_cell(line: str) -> None:
    message = refused(GOOD.replace("* comment\n", f"{line}\n"))
    assert message.startswith("cell.cir:3: ")
    assert ";" in message, "the mend is missing"


@given(
    line=st.sampled_from(HOSTILE),
    case=CASE,
    indent=st.sampled_from(["", " ", "\t", "    \t"]),
    place=st.integers(0, GOOD.count("\n")),
    split=st.booleans(),
)
@example(line="V9 out", case=str, indent="", place=6, split=False)  # the continuation that follows is not its value
def test_no_place_case_indent_or_continuation_hides_one(
    line: str, case: object, indent: str, place: int, split: bool
) -> None:
    hostile = indent + case(line)  # type: ignore[operator]
    if split and " " in line and line[0] not in "*$#":
        hostile = hostile[: len(indent)] + hostile[len(indent) :].replace(" ", f"\n{indent}+ ", 1)
    lines = GOOD.split("\n")
    refused("\n".join([*lines[:place], hostile, *lines[place:]]))


@pytest.mark.parametrize(
    ("line", "mend"),
    [
        ("R9 out 0 1M", "1Meg"), ("R9 out 0 2MOhm", "2Meg"), ("C9 out 0 1F", "write 1 for farads"),
        ("C9 out 0 1farad", "1f for femto"), ("X2 mid out helper v=3M", "3m for milli"), (".param q=4M", "4Meg"),
        ("B9 out 0 V=v(mid)*1M", "1Meg"),
    ],
)  # fmt: skip
def test_suffixes_ngspice_reads_otherwise_are_refused(line: str, mend: str) -> None:
    assert mend in refused(GOOD.replace("* comment", line))


@pytest.mark.parametrize(
    "line",
    [
        "R9 out 0 4k7", "V9 out 0 1_000", "R9 out 0 0x10", "C9 out 0 1,5", "I9 out 0 2A", "L9 out 0 3mils",
        "V9 out 0 1.2.3", "E9 out 0 mid 0 4k7", "R9 out 0 {2*4k7}", ".param z=4k7", "X2 mid out helper v=4k7",
        ".model z d is=1a", "M9 out in vss vss n w=1u l=180nn", "V9 out 0 pwl(0 0 1x 1)", "B9 out 0 v={1kelvin}",
        "R9 out 0 {1", "R9 out 0 '1", "B9 out 0 v=(1", "C9 out 0 1% ", "C9 out 0 1@",
    ],
)  # fmt: skip
def test_numbers_ngspice_reads_otherwise_than_they_look_are_refused(line: str) -> None:
    assert refused(GOOD.replace("* comment", line)).startswith("cell.cir:3: ")


@pytest.mark.parametrize(
    "line",
    [
        "Q9 out in 0 2N2222", "D9 out 2a 1N4148", "R9 1M 2k 1k", "E9 1a 0 2a 0 10", "E9 1a 0 vol='v(2a)*1e3'",
        "X9 1a 2k 3M 74HC04", "M9 1a 2a 3a 4a 5M w=1u l=1u", "B9 out 0 v=v(1a,2k7)*i(v1)", "V9 1a 0 pwl(0,0 1n,1)",
        ".model 1N4148 d(is=2.5n rs=.6 tt=4n cjo=4p)", ".model n8 nmos level=8 version=3.3.0", "C9 out 0 10pF $ load",
        "R9 out 0 3kohm //load", "V9 out 0 sin(0 1 1megHz)", ".param z='1e-3*half' y={2+3}",
    ],
)  # fmt: skip
def test_names_that_look_like_numbers_pass(line: str) -> None:
    screen_netlist(GOOD.replace("* comment", line), "cell.cir")


@pytest.mark.parametrize("line", ["R9 out 0 1MEG", "R9 out 0 1meg", "C9 out 0 10uF", "R9 out 0 1m", "R9 out 0 {r}"])
def test_plain_suffixes_pass(line: str) -> None:
    screen_netlist(GOOD.replace("* comment", line), "cell.cir")


@pytest.mark.parametrize("line", ["R9 a b 1k", ".model n nmos level=1", ".param x=1", "V1 vdd 0 1"])
def test_nothing_stands_outside_the_subcircuit(line: str) -> None:
    assert "outside the .subckt" in refused(f"{line}\n{GOOD}")
    assert "outside the .subckt" in refused(f"{GOOD}{line}\n")


def test_two_top_subcircuits_are_refused() -> None:
    assert "second top-level" in refused(GOOD + GOOD)


BESIDE = """.param ra=2k
.model n2 nmos level=1
.func half(x) {x/2}
.subckt load a b
R1 a b {half(ra)}
.ends
"""


@pytest.mark.parametrize("text", [BESIDE + GOOD, GOOD + BESIDE])
def test_helpers_beside_a_named_cell_pass(text: str) -> None:
    screen_netlist(text, "cell.cir", "Cell")
    refused(text)
    for line in ("X1 a b load", "V1 a 0 1", "R1 a 0 1k"):
        with pytest.raises(NetlistError, match=r"outside the \.subckt"):
            screen_netlist(f"{text}{line}\n", "cell.cir", "cell")


@pytest.mark.parametrize(
    ("card", "mend"),
    [
        (".global vcc", "make it a pin"), (".options gmin=1", "are the deck's"), (".temp 50", "are the deck's"),
        (".tran 1n 1u", "analyses are the deck's"), (".save all", "is the deck's"),
        (".measure tran a max v(b)", "deck's"),
        (".end", "has its own"), (".control", "control language"), (".macro a b", "write .subckt"),
        (".if (x)", "conditional expression"), (".lib tt", "writes its files in"), (".endl", "keep .lib sections"),
        (".incfoo x.cir", "allowed are .ends .func"),
    ],
)  # fmt: skip
def test_a_refused_card_comes_with_its_mend(card: str, mend: str) -> None:
    assert mend in refused(GOOD.replace("* comment", card))


def test_an_empty_file_is_refused() -> None:
    assert "no .subckt" in refused("")


@given(st.text(max_size=200))
def test_any_text_passes_or_gives_our_error(text: str) -> None:
    said = "cell.cir"
    try:
        screen_netlist(text, "cell.cir")
    except NetlistError as error:
        said = str(error)
    assert said.startswith("cell.cir")


def test_examples() -> None:
    assert doctest.testmod(screen).failed == 0
