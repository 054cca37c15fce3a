"""Resistances in series with terminals that are already reduced, and rows fed from both ends behind one of them."""

from __future__ import annotations

import torch
from torch import Tensor

from analog_deq.array.admittance import terminal_admittance


def behind(y: Tensor, r_ohm: Tensor) -> Tensor:
    """Admittance ``y`` (..., T, T) with ``r_ohm`` (S,), 0 or more, in series with its first S terminals.

    The terminals' own voltages are u = (1 + R Y_SS)^-1 (v - R Y_S: v'), so that Y' = Y - Y_:S (1 + R Y_SS)^-1 R Y_S:
    exact, and R need not be invertible. Gradients to ``y``; float64.

    >>> import torch
    >>> behind(torch.tensor([[1e-3]], dtype=torch.float64), torch.tensor([1000.0], dtype=torch.float64)).item()
    0.0005
    """
    s = len(r_ohm)
    dropped = r_ohm[:, None] * y[..., :s, :]
    inner = torch.eye(s, dtype=y.dtype, device=y.device) + dropped[..., :s]
    return y - y[..., :s] @ torch.linalg.solve(inner, dropped)


def row_driven_admittance(g: Tensor, *, r_line_ohm: float, r_row_ohm: Tensor, both_word_ends: bool = False) -> Tensor:
    """Currents (..., R + C, R + C) per volt at the row drivers, then at the columns' ends; siemens.

    ``r_line_ohm`` is every wire segment. Each row of ``g`` (..., R, C) has one driver of ``r_row_ohm`` (R,). With
    ``both_word_ends`` its output feeds the row at both ends, through a segment each; what brings it to the far end has
    no resistance. (:func:`terminal_admittance` itself, told the same, has a source behind a resistance of its own at
    either end.) Exact, and so are the gradients.
    """
    if not both_word_ends or r_line_ohm == 0:
        return terminal_admittance(g, r_word_ohm=r_line_ohm, r_bit_ohm=r_line_ohm, r_source_ohm=r_row_ohm)
    return behind(terminal_admittance(g, r_word_ohm=r_line_ohm, r_bit_ohm=r_line_ohm, both_word_ends=True), r_row_ohm)
