"""What a circuit is made of: transistors, resistors, capacitors, and what a macromodel hides, counted from its deck.

A stand-in for area where no layout exists. A behavioural source is not a device: a macromodelled op-amp counts as the
sources it is written with, and comparisons must say so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from analog_deq.netlists.calls import callee
from analog_deq.netlists.devices import leading_words, literal
from analog_deq.netlists.header import Scope, read_scopes
from analog_deq.netlists.lines import LogicalLine
from analog_deq.records import Deck

KINDS = {
    "m": "transistors", "q": "transistors", "j": "transistors", "d": "diodes", "r": "resistors", "c": "capacitors",
    "s": "switches", "b": "behavioural sources", "e": "behavioural sources", "f": "behavioural sources",
    "g": "behavioural sources", "h": "behavioural sources",
}  # fmt: skip
"""Element letters that count; independent sources are supplies and stimuli, not parts."""
CAPACITANCE = "capacitance_f"


def count_elements(deck: Deck) -> dict[str, float]:
    """Parts of a deck's circuit by kind, subcircuits expanded, and ``capacitance_f`` of the capacitors of the netlist.

    Only a capacitor whose value is a number adds to the capacitance: one that is an expression inside a macromodel
    stands for a pole, not for a plate.
    """
    circuit = deck.text.split("\n.control", 1)[0].split("\n", 1)[1]
    top = read_scopes(circuit, "deck")
    known = {scope.header.name: scope for scope in top.inner}
    for name, text in deck.files:
        known |= {scope.header.name: scope for scope in read_scopes(text, name).inner}
    return dict(_count(top.lines, known, {}))


def _count(lines: Iterable[LogicalLine], known: dict[str, Scope], done: dict[str, Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for line in lines:
        letter = line.card[0]
        if letter == "x":
            _, name, _ = callee(line)
            if name not in done:
                scope = known[name]
                inner = known | {s.header.name: s for s in scope.inner}
                done[name] = _count(scope.lines, inner, done)
            total.update(done[name])
        elif letter in KINDS:
            total[KINDS[letter]] += 1
            if letter == "c":
                value = literal(leading_words(line.text)[3]) if len(leading_words(line.text)) > 3 else None
                total[CAPACITANCE] += value or 0.0  # type: ignore[assignment]
    return total
