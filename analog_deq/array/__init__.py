"""Exact physics of a resistive crossbar: wires, drivers, selectors, stuck cells and non-linear cells, with gradients.

Rows are word lines, columns bit lines. A row runs from its source through the source's resistance and one wire segment
to cell 0, a segment to cell 1, and so on; a column runs from its first row down to its last, then through one segment
and the sense resistance to its sense terminal. A cell joins its row to its column. Everything is torch float64, batched
over leading dimensions (dies), and reads no simulator.
"""

from analog_deq.array.admittance import terminal_admittance

__all__ = ["terminal_admittance"]
