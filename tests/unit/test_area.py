"""Parts of a circuit, counted through its subcircuits."""

from __future__ import annotations

from analog_deq.mappings.area import count_elements
from analog_deq.netlists.deck import build_deck
from analog_deq.records import Op

CELL = """.subckt inner a b
M1 a b 0 0 nch
R1 a b 1k
.ends
.subckt outer a b
X1 a b inner
X2 b a inner
C1 a b 2p
B1 a 0 V=v(b)
.ends
"""


def counted(lines, files=()):
    return count_elements(build_deck("test", lines, [Op()], save=["v(a)"], files=files))


def test_elements_are_counted_through_nested_subcircuits():
    lines = [".include cell.cir", "V1 a 0 1.0", "Xa a b outer", "Xb b c outer", "R9 c 0 10.0", "C9 c 0 3e-12"]
    found = counted(lines, files=(("cell.cir", CELL),))
    assert found["transistors"] == 4
    assert found["resistors"] == 5
    assert found["capacitors"] == 3
    assert found["behavioural sources"] == 2
    assert abs(found["capacitance_f"] - 7e-12) < 1e-20


def test_sources_that_drive_a_bench_are_no_parts():
    assert counted(["V1 a 0 1.0", "I1 a 0 1.0"]) == {}


def test_a_capacitor_given_by_an_expression_counts_without_a_value():
    found = counted([".param x=1", "V1 a 0 1.0", "C1 a 0 {x*1p}"])
    assert found["capacitors"] == 1
    assert found["capacitance_f"] == 0.0
