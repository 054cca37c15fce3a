"""The number parser against ngspice itself: equal wherever it accepts, in every place a number can stand."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from analog_deq.errors import SpecError
from analog_deq.netlists.deck import build_deck
from analog_deq.records import Op
from analog_deq.spice.runner import run_deck
from analog_deq.spice.simulator import Simulator
from analog_deq.units import parse_spice_number

pytestmark = pytest.mark.spice

PLACES = {
    "value": "V{k} v{k} 0 {text}",
    "parameter": ".param q{k}={text}\nV{k}p p{k} 0 {{q{k}}}",
    "expression": "V{k}e e{k} 0 {{{text}}}",
    "quotes": "V{k}q q{k} 0 '{text}'",
    "default": ".subckt d{k} a r={text}\nV1 a 0 {{r}}\n.ends\nX{k}d d{k} d{k}",
    "instance": "X{k}x x{k} sub r={text}",
    "source": "B{k} b{k} 0 v={text}",
}
NODES = ("v", "p", "e", "q", "d", "x", "b")
MANTISSA = st.one_of(
    st.from_regex(r"[0-9]{1,4}(\.[0-9]{0,6})?", fullmatch=True), st.from_regex(r"\.[0-9]{1,6}", fullmatch=True)
)
EXPONENT = st.one_of(st.just(""), st.from_regex(r"[eE][+-]?(1?[0-9]|20)", fullmatch=True))
TAIL = st.one_of(
    st.text("tgkmunpfaTGKMUNPFAeEilLohmsSvVzZxd", max_size=3),
    st.tuples(
        st.sampled_from(
            ["", "t", "g", "meg", "MEG", "Meg", "k", "K", "m", "u", "U", "n", "p", "f", "a", "mil", "M", "F"]
        ),
        st.sampled_from(["", "ohm", "Ohms", "F", "f", "H", "Hz", "V", "s", "sec", "m", "A", "farad", "watt", "5", "k"]),
    ).map("".join),
)
LITERAL = st.builds("{}{}{}".format, MANTISSA, EXPONENT, TAIL).filter(
    lambda text: not re.search(r"[eE][+-]?\d{3}", text)
)


def read_by_ngspice(
    simulator: Simulator, folder: Path, texts: list[str], places: dict[str, str] = PLACES
) -> np.ndarray:
    """Value of each text (row) in each place (column)."""
    lines = [".subckt sub a r=1", "V1 a 0 {r}", ".ends"]
    for k, text in enumerate(texts):
        lines += [line for form in places.values() for line in form.format(k=k, text=text).split("\n")]
    used = [node for node, place in zip(NODES, PLACES, strict=True) if place in places]
    names = [f"v({node}{k})" for k in range(len(texts)) for node in used]
    deck = build_deck("numbers", lines, [Op()], save=names, bound=1e40)
    plot = run_deck(deck, simulator=simulator, folder=folder).plots[0]
    return np.array([plot[name][0] for name in names]).reshape(len(texts), len(used))


# A failure names its text, and each step of a search for a smaller one would cost a simulation: no shrinking.
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.reuse, Phase.generate])
@given(texts=st.lists(LITERAL, min_size=80, max_size=120, unique=True))
def test_what_the_parser_accepts_ngspice_reads_alike_everywhere(
    simulator: Simulator, tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    accepted: dict[str, float] = {}
    for text in texts:
        with contextlib.suppress(SpecError):
            accepted[text] = parse_spice_number(text)
    measured = read_by_ngspice(simulator, tmp_path_factory.mktemp("n"), list(accepted))
    for (text, value), row in zip(accepted.items(), measured, strict=True):
        np.testing.assert_allclose(row, value, rtol=1e-12, err_msg=text)


COMMON = (
    "1 -1 +1 4.7k 4.7K 2meg 2MEG 2Meg 2MegOhm 10kohm 10kOhms 100ohm 1.5u 1.5U 10uF 100nF 2.2pF 3pf 7f 7fF 1e-6 1E-6 "
    "1e3k 1.5e-3k 5V 5mV 5mv 20ns 20us 3s 3sec 1kHz 1megHz 1GHz 1g 1T 1.h 10nH 2mA 5uA .5 5. .5k 1e+3 1um 0.18um 2W "
    "3mW 0 0k 0.0 00012 1e-15 1e12 1.k 12.5pF 3.3v 1n 1p 1m"
)


def test_every_number_people_write_is_accepted_and_right(simulator: Simulator, tmp_path: Path) -> None:
    values = np.array([parse_spice_number(text) for text in COMMON.split()])
    measured = read_by_ngspice(simulator, tmp_path, COMMON.split())
    np.testing.assert_allclose(measured, np.repeat(values[:, None], len(PLACES), axis=1), rtol=1e-12)


@pytest.mark.parametrize(
    ("text", "meant", "value", "expression"),
    [
        ("1M", 1e6, 1e-3, 1e-3),
        ("5MHz", 5e6, 5e-3, 5e-3),
        ("1F", 1.0, 1e-15, 1e-15),
        ("1farad", 1.0, 1e-15, 1e-15),
        ("1mil", 25.4e-6, 25.4e-6, 1e-3),
        ("3mils", 76.2e-6, 76.2e-6, 3e-3),
        ("3kelvin", 3.0, 3e3, 3e3),
        ("2tesla", 2.0, 2e12, 2e12),
        ("7meter", 7.0, 7e-3, 7e-3),
        ("4k7", 4700.0, 4e3, None),
        ("1.5u5", 1.55e-6, 1.5e-6, None),
        ("1R5", 1.5, 1.0, None),
        ("1_000", 1000.0, 1.0, None),
        ("1e3e2", 1e5, 1e3, None),
        ("50%", 0.5, 50.0, None),
        ("0x10", 16.0, 0.0, 16.0),
        ("1#3", 1.3, 1.0, 1.0),
    ],
)
def test_what_ngspice_reads_otherwise_than_meant_is_refused(
    simulator: Simulator, tmp_path: Path, text: str, meant: float, value: float, expression: float | None
) -> None:
    # The left column is what makes the refusal worth its nuisance: ngspice takes the number, and takes it wrongly.
    places = ("value", "expression") if expression is not None else ("value",)
    measured = read_by_ngspice(simulator, tmp_path, [text], {place: PLACES[place] for place in places})[0]
    np.testing.assert_allclose(measured, [value, expression][: len(places)], rtol=1e-12)
    assert not np.allclose(measured, meant, rtol=1e-9, atol=0)
    with pytest.raises(SpecError):
        parse_spice_number(text)


def test_ampere_depends_on_the_version(simulator: Simulator, tmp_path: Path) -> None:
    measured = read_by_ngspice(simulator, tmp_path, ["2A"])
    np.testing.assert_allclose(measured, 2e-18 if float(simulator.version) >= 44 else 2.0, rtol=1e-12)
    with pytest.raises(SpecError, match="atto"):
        parse_spice_number("2A")
