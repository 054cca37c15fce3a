"""The array of a node network, differentiable, with the resistances of what drives its rows folded in."""

from __future__ import annotations

import torch
from torch import Tensor

from analog_deq.array import row_driven_admittance
from analog_deq.spec import Crossbar


def folded_admittance(programmed: Tensor, crossbar: Crossbar, r_out_ohm: float) -> Tensor:
    """Currents into the terminals [2K rows, N columns] per volt at each, (2K + N, 2K + N) in siemens.

    ``programmed`` (2, K, N). A row's terminal is its ideal source: the DAC behind ``r_dac_ohm``, or the driver behind
    ``r_out_ohm`` for the last N pairs. Exact; gradients to every conductance.
    """
    _, logical, n = programmed.shape
    g = programmed.transpose(0, 1).reshape(2 * logical, n)
    source = torch.full((len(g),), crossbar.r_dac_ohm, dtype=g.dtype)
    source[-2 * n :] = r_out_ohm
    return row_driven_admittance(
        g, r_line_ohm=crossbar.r_line_ohm, r_row_ohm=source, both_word_ends=crossbar.both_word_ends
    )
