"""The header reader, the call rules and the nesting against ngspice itself: it decides what a netlist means.

Many subcircuits go into one deck. Inside each, a source holds the pin called ``name`` at a voltage of its own, so the
node it is found on shows the pin's position; and one source per parameter shows the value the parameter has.
"""

from __future__ import annotations

import ast
import functools
import itertools
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from analog_deq.errors import NetlistError, SpecError
from analog_deq.netlists.deck import build_deck
from analog_deq.netlists.header import read_header
from analog_deq.netlists.nest import nest
from analog_deq.netlists.screen import screen_netlist
from analog_deq.records import Op
from analog_deq.spice.runner import run_deck
from analog_deq.spice.simulator import Simulator
from analog_deq.units import parse_spice_number

pytestmark = pytest.mark.spice
# A failure names its text, and each step of a search for a smaller one would cost a simulation: no shrinking.
SLOW = settings(
    max_examples=5, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.reuse, Phase.generate]
)
NOT_NAMES = {
    "abs", "ceil", "cos", "exp", "floor", "int", "ln", "log", "max", "min", "nint", "pow", "pwr", "sgn", "sin", "sqr",
    "sqrt", "tan", "cosh", "sinh", "tanh", "acos", "asin", "atan", "var", "vec", "pwl", "ac",  # refused aloud
    "time", "temper", "hertz", "pi", "e",  # taken silently: our reader refuses them
}  # fmt: skip
OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}


def volts(simulator: Simulator, folder: Path, lines: list[str], nodes: list[str]) -> dict[str, float]:
    deck = build_deck("headers", lines, [Op()], save=[f"v({node})" for node in nodes], bound=1e30)
    plot = run_deck(deck, simulator=simulator, folder=folder).plots[0]
    return {node: float(plot[f"v({node})"][0]) for node in nodes}


def value_of(written: str, names: Mapping[str, Callable[[], float]]) -> float:
    """What a value means: a number, or an expression in ``names``."""

    def walk(node: ast.expr) -> float:
        match node:
            case ast.Constant(float() | int() as value):
                return float(value)
            case ast.Name(name):
                return names[name.lower()]()
            case ast.BinOp(left, op, right):
                return float(OPERATORS[type(op)](walk(left), walk(right)))
        raise ValueError(ast.dump(node))

    inner = written.strip("{}' ")
    try:
        return parse_spice_number(inner)
    except SpecError:
        return walk(ast.parse(inner, mode="eval").body)


def environment(params: Mapping[str, str]) -> dict[str, Callable[[], float]]:
    """Parameters that may stand in each other's expressions."""
    names: dict[str, Callable[[], float]] = {}
    names |= {name: functools.partial(value_of, written, names) for name, written in params.items()}
    return names


# --- headers in any layout ------------------------------------------------------------------------------------------

PIN = st.from_regex(r"[a-z0-9_][a-z0-9_+.\-]{0,5}", fullmatch=True).filter(lambda x: x not in {"0", "gnd", "ac", "dc"})
NAME = st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True).filter(lambda x: x not in NOT_NAMES)
NUMBER = st.sampled_from(["1", "2.5", "1k", "3meg", "-4.5u", "1e-6", "+7", "10nF", "0.18um", ".5", "2MEG", "1.5e3k"])
BLANK = st.sampled_from([" ", "  ", "\t", " \t "])
BREAK = st.sampled_from(
    [
        "\n+ ", "\n+", "\n  + ", "\n* note\n+ ", " ; note\n+ ", " $ note\n+ ", " $note, x=1\n+ ", " // a=2\n+ ",
        "\n\n+\t", "\n$ note\n+ ", " ; don't\n\t+ ", "\r\n+ ",
    ]
)  # fmt: skip
GAP = st.one_of(BLANK, BLANK, BREAK)


@dataclass(frozen=True)
class Written:
    """A header as generated (its name is a placeholder ``@``), and what was put in."""

    text: str
    pins: tuple[str, ...]
    params: dict[str, str]


@st.composite
def headers(draw: st.DrawFn) -> Written:
    pins = draw(st.lists(PIN, min_size=1, max_size=5, unique=True))
    params: dict[str, str] = {}
    for name in draw(st.lists(NAME, max_size=4, unique=True)):
        form = draw(st.sampled_from(["{}", "{{{}}}", "'{}'", "{{ {} }}"]))
        value = draw(NUMBER)
        if form != "{}" and params and draw(st.booleans()):
            value = f"{draw(st.sampled_from(list(params)))} {draw(st.sampled_from('+-*'))} 3"
        params[name] = form.format(value)
    if draw(st.booleans()):
        pin_text = "".join(draw(GAP) + pin for pin in pins)
    else:
        pin_text = f" ({draw(st.sampled_from([' ', '']))}{draw(BLANK).join(pins)})"
    word = draw(st.sampled_from(["", " params:", " PARAMS: "])) if params else ""
    text = f".subckt{draw(BLANK)}@{pin_text}{word}"
    for name in draw(st.permutations(list(params))):
        text += f"{draw(GAP)}{name}{draw(st.sampled_from(['=', ' = ', '= ', ' =']))}{params[name]}"
    case = draw(st.sampled_from([str.lower, str.upper, str.swapcase]))
    # A scale factor keeps its case: the reader refuses a capital M or F.
    return Written("".join(c if c in "mMfF" else case(c) for c in text), tuple(pins), params)


@SLOW
@given(written=st.lists(headers(), min_size=40, max_size=60))
def test_pins_and_defaults_are_where_the_reader_says(
    simulator: Simulator, tmp_path_factory: pytest.TempPathFactory, written: list[Written]
) -> None:
    lines: list[str] = []
    expected: dict[str, tuple[float, str]] = {}
    for k, one in enumerate(written):
        text = one.text.replace("@", f"q{k}")
        found = read_header(f"{text}\n.ends\n")
        assert (found.name, found.pins, found.params.keys()) == (f"q{k}", one.pins, one.params.keys()), text
        lines += text.replace("\r\n", "\n").split("\n")
        lines += [f"V{i} {pin} 0 {i + 1}" for i, pin in enumerate(one.pins)]
        lines += [f"Vp{i} inner__{i} 0 {{{name}}}" for i, name in enumerate(one.params)]
        lines += [".ends", f"X{k} {' '.join(f'n{k}_{j}' for j in range(len(found.pins)))} q{k}"]
        for j, pin in enumerate(found.pins):
            expected[f"n{k}_{j}"] = one.pins.index(pin) + 1.0, text
        names = environment(found.params)
        for i, name in enumerate(one.params):
            expected[f"x{k}.inner__{i}"] = names[name](), text
    measured = volts(simulator, tmp_path_factory.mktemp("h"), lines, list(expected))
    for node, (value, text) in expected.items():
        assert measured[node] == pytest.approx(value, rel=1e-9, abs=1e-15), (node, text)


@pytest.mark.parametrize(
    ("header", "first", "second"),
    [
        ("a r = 2 * 3 s=1", 2, 1),
        ('a r="1 + 2" s=1', 1, 1),
        ("a r=1 foo s=2", 1, 2),
        ("a r=1 s=2 r=3", 3, 2),
        ("a r=1 s=1\n.param r=9", 9, 1),
        ("a r=1\n+ ; note\n+ s=2\n; note\n+ junk=1", 1, 2),
        ("gnd r=1 s=2", 1, 2),
        ("0 r=1 s=2", 1, 2),
    ],
)
def test_what_ngspice_takes_otherwise_than_written_is_refused(
    simulator: Simulator, tmp_path: Path, header: str, first: float, second: float
) -> None:
    text = f".subckt q {header}"
    lines = [*text.split("\n"), "V1 y 0 {r}", "V2 z 0 {s}", ".ends", "Vn n 0 5", "X1 n q"]
    measured = volts(simulator, tmp_path, lines, ["x1.y", "x1.z"])
    assert list(measured.values()) == pytest.approx([first, second])  # accepted without a word
    with pytest.raises(NetlistError):
        read_header(f"{text}\n.ends\n")


def test_a_pin_called_gnd_is_ground_whatever_it_is_connected_to(simulator: Simulator, tmp_path: Path) -> None:
    lines = [".subckt q a gnd", "R1 a gnd 2", ".ends", "I1 0 n 1", "Vg g 0 100", "X1 n g q"]
    assert volts(simulator, tmp_path, lines, ["n"])["n"] == pytest.approx(2.0)  # not 102
    with pytest.raises(NetlistError, match="'gnd', which ngspice wires to ground"):
        read_header(".subckt q a gnd\n.ends\n")


@pytest.mark.parametrize("name", ["time", "temper", "hertz", "pi", "e"])
def test_a_parameter_that_ngspice_has_a_meaning_for_is_refused(simulator: Simulator, tmp_path: Path, name: str) -> None:
    lines = [f".subckt q a {name}=3", f"B1 a 0 v={name}*2+1+0*v(b)", "R1 b 0 1", ".ends", "X1 n q"]
    assert volts(simulator, tmp_path, lines, ["n"])["n"] != pytest.approx(7.0)
    with pytest.raises(NetlistError, match="a meaning of its own"):
        read_header(f".subckt q a {name}=3\n.ends\n")


# --- calls ----------------------------------------------------------------------------------------------------------

ACTUALS = (None, "x", "y", "z", "2*x", "y+z", "z*z")


@pytest.mark.parametrize("order", list(itertools.permutations("xyz")), ids="".join)
def test_every_call_that_passes_gives_the_callers_values(
    simulator: Simulator, tmp_path: Path, order: tuple[str, ...]
) -> None:
    default = {order[0]: "1", order[1]: "20", order[2]: f"{order[1]}*2"}
    header = " ".join(f"{name}={{{default[name]}}}" for name in order)
    sub = [f".subckt sub a b c {header}", "V1 a 0 {x}", "V2 b 0 {y}", "V3 c 0 {z}", ".ends"]
    caller = {"x": lambda: 300.0, "y": lambda: 4e3, "z": lambda: 5e4}
    lines: list[str] = []
    expected: dict[str, tuple[float, str]] = {}
    refused = 0
    for k, values in enumerate(itertools.product(ACTUALS, repeat=3)):
        passed = {name: value for name, value in zip("xyz", values, strict=True) if value}
        call = f"X1 a b c sub {' '.join(f'{name}={{{value}}}' for name, value in passed.items())}"
        cell = [f".subckt q{k} a b c x=300 y=4000 z=50000", call, *sub, ".ends"]
        try:
            screen_netlist("\n".join(cell) + "\n", "a.cir")
        except NetlistError:
            refused += 1
            continue
        inner = environment(default)
        inner |= {name: functools.partial(value_of, value, caller) for name, value in passed.items()}
        lines += [*cell, f"X{k} a{k} b{k} c{k} q{k}"]
        expected |= {f"{node}{k}": (inner[name](), call) for node, name in zip("abc", "xyz", strict=True)}
    assert refused > 50
    assert len(expected) > 3 * 50
    measured = volts(simulator, tmp_path, lines, list(expected))
    for node, (value, call) in expected.items():
        assert measured[node] == pytest.approx(value, rel=1e-9), (node, call, sub[0])


def test_swapped_parameters_get_one_value_in_ngspice(simulator: Simulator, tmp_path: Path) -> None:
    cell = [".subckt q a b x=3 y=5", "X1 a b sub x={y} y={x}", ".subckt sub a b x=1 y=1", "V1 a 0 {x}", "V2 b 0 {y}"]
    lines = [*cell, ".ends", ".ends", "X1 a b q"]
    assert volts(simulator, tmp_path, lines, ["a", "b"]) == {"a": 5.0, "b": 5.0}  # the caller says 5 and 3
    with pytest.raises(NetlistError, match="ngspice takes that one"):
        screen_netlist("\n".join(lines[:-1]) + "\n", "a.cir")


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        (["X1 a sub k=2 kk=7"], 2.0),
        (["X1 a sub k = 1 + 6"], 1.0),
        ([".param w = 1 + 2", "X1 a sub k={w}"], 1.0),
        (["X1 a sub k={w}", ".param w=4", ".param w=5"], 5.0),
        (["X1 a sub k={f(1)}", ".func f(u) {u}", ".func f(u) {2*u}"], 2.0),
    ],
)
def test_calls_ngspice_takes_otherwise_than_written_are_refused(
    simulator: Simulator, tmp_path: Path, lines: list[str], value: float
) -> None:
    cell = [".subckt q a", ".subckt sub a k=1", "V1 a 0 {k}", ".ends", *lines, ".ends"]
    assert volts(simulator, tmp_path, [*cell, "X1 n q"], ["n"])["n"] == value
    with pytest.raises(NetlistError):
        screen_netlist("\n".join(cell) + "\n", "a.cir")


# --- nesting --------------------------------------------------------------------------------------------------------


@st.composite
def designs(draw: st.DrawFn) -> tuple[str, str]:
    """(file, lines of a cell): every name is the same in every design, what it means is not."""
    number = lambda: draw(st.sampled_from(["2", "3", "5", "7", "11", "13"]))  # noqa: E731
    r = draw(st.sampled_from(["r={2*base}", "params: r=" + number(), ""]))
    helper = [f".subckt helper a b {r}".rstrip(), f"R1 a m {{{'r' if r else number()}*base}}", "R2 m b rm l=2 w=1"]
    if draw(st.booleans()):
        helper += ["X1 a b other"]
    if draw(st.booleans()):
        helper += [f".model rm r rsh={number()}"]
    helper += [".ends helper"]
    other = [".subckt other p q", f"R1 p q {{f({number()})*base}}", ".ends"]
    beside = [
        [f".param base={number()}"], [f".func f(x) {{{number()}*x+base}}"], [f".model rm r rsh={number()}"],
        helper, other,
        [".subckt spare a b", "X1 a b spare2", ".ends", ".subckt spare2 a b", "R1 a b 1", ".ends"],
    ]  # fmt: skip
    cell = [f".subckt cell a b k={number()}", f"R1 a m {{k*{number()}}}", "X1 m b helper"]
    if r:
        cell[2] += draw(st.sampled_from(["", " r={k}", " params: r = {base+k}"]))
    if draw(st.booleans()):
        cell += ["X2 m b other", "R2 a b rm l=3 w=1"]
    if draw(st.booleans()):
        cell += [".subckt inner a b", f"R1 a b {{{number()}*base}}", ".ends", "X3 a b inner"]
    blocks = draw(st.permutations([*beside, [*cell, ".ends"]]))
    return "\n".join(line for block in blocks for line in block) + "\n", draw(st.sampled_from(["", " k=4", " k={1+2}"]))


@SLOW
@given(files=st.lists(designs(), min_size=6, max_size=8))
def test_cells_of_many_designers_in_one_deck_stay_what_each_is_alone(
    simulator: Simulator, tmp_path_factory: pytest.TempPathFactory, files: list[tuple[str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("d")
    alone, together, nodes = [], [], []
    for k, (text, params) in enumerate(files):
        screen_netlist(text, "a.cir", "cell")
        drive = ["I1 0 n 1", f"X1 n 0 cell{params}"]
        alone.append(volts(simulator, folder, [*text.rstrip("\n").split("\n"), *drive], ["n"])["n"])
        own = nest(text.replace("subckt cell ", f"subckt cell{k} "), f"cell{k}")
        screen_netlist(own, "a.cir")
        together += [*own.rstrip("\n").split("\n"), f"I{k} 0 n{k} 1", f"X{k} n{k} 0 cell{k}{params}"]
        nodes.append(f"n{k}")
    together += [".param base=1000", ".model rm r rsh=1000", ".subckt other p q", "R1 p q 1000", ".ends"]
    measured = volts(simulator, folder, [line for line in together if line], nodes)
    assert list(measured.values()) == pytest.approx(alone, rel=1e-9)


def test_without_nesting_the_first_model_of_a_name_serves_both_cells(simulator: Simulator, tmp_path: Path) -> None:
    files = [f".model rm r rsh={r}\n.subckt cell{k} a b\nR1 a b rm l=1 w=1\n.ends\n" for k, r in enumerate((2, 30))]
    drive = [line for k in range(2) for line in (f"I{k} 0 n{k} 1", f"X{k} n{k} 0 cell{k}")]
    together = "".join(files).split("\n")[:-1]
    assert list(volts(simulator, tmp_path, [*together, *drive], ["n0", "n1"]).values()) == pytest.approx(
        [2, 2], rel=1e-6
    )
    nested = "".join(nest(text, f"cell{k}") for k, text in enumerate(files)).split("\n")
    measured = volts(simulator, tmp_path, [*filter(None, nested), *drive], ["n0", "n1"])
    assert list(measured.values()) == pytest.approx([2, 30], rel=1e-6)
