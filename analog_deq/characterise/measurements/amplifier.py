"""What the testbenches of amplifiers share: the load, and unity feedback."""

from __future__ import annotations

from analog_deq.characterise.measurement import CellBench, Copy
from analog_deq.netlists.deck import number

DEFAULT_LOAD_F = 1e-12


def load_lines(bench: CellBench, copy: Copy, node: str) -> list[str]:
    """The contract's load at ``node``: ``load`` in farads (1 pF unless stated), ``load_r`` in ohms to mid-supply.

    The load resistor is noiseless: it is the testbench's, not the cell's.
    """
    lines = [f"Cl{copy.tag} {node} 0 {number(bench.condition('load', DEFAULT_LOAD_F))}"]
    if "load_r" in bench.cell.contract.conditions:
        ohm = number(bench.condition("load_r", 0.0))
        middle = number(bench.corner.middle_v)
        lines += [f"Vl{copy.tag} l{copy.tag} 0 {middle}", f"Rl{copy.tag} {node} l{copy.tag} {ohm} noisy=0"]
    return lines
