"""Exact physics of a resistive crossbar: wires, drivers, selectors, stuck cells and non-linear cells, with gradients.

Rows are word lines, columns bit lines. A row runs from its source through the source's resistance and one wire segment
to cell 0, a segment to cell 1, and so on; a column runs from its first row down to its last, then through one segment
and the sense resistance to its sense terminal. A cell joins its row to its column. Everything is torch float64, batched
over leading dimensions (dies), and reads no simulator.
"""

from analog_deq.array.admittance import column_currents, operator, terminal_admittance
from analog_deq.array.devices import in_series, pair_volts, signed_pairs, with_faults
from analog_deq.array.first_order import error_bound, first_order_operator
from analog_deq.array.series import behind, row_driven_admittance
from analog_deq.array.sinh import SinhRead, sinh_read

__all__ = [
    "SinhRead",
    "behind",
    "column_currents",
    "error_bound",
    "first_order_operator",
    "in_series",
    "operator",
    "pair_volts",
    "row_driven_admittance",
    "signed_pairs",
    "sinh_read",
    "terminal_admittance",
    "with_faults",
]
