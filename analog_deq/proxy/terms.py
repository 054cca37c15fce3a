"""What a differential array with fed-back states does to its summing nodes and its drivers, in exact linear terms.

Logical rows are ordered inputs, bias, states; each is a pair of physical rows at +V and -V. Inputs and bias come from
sources behind ``r_dac_ohm``, states from drivers behind ``r_out_ohm``; columns end at N summing nodes. Any cell may
close the loop: the terms are of the passive array with those resistances, for whatever holds the summing nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from analog_deq.array import signed_pairs
from analog_deq.errors import SpecError
from analog_deq.tiling import Tile, layer_admittance


@dataclass(frozen=True, slots=True)
class ArrayTerms:
    """Tensors (..., N, *) in siemens, with gradients to the conductances.

    Out of the columns flows ``into_state @ z + into_input @ x + into_bias - summing @ s`` for source levels z, x, 1 (V)
    and summing voltages s. Half the difference of the currents that a state's two rows draw is ``row_state @ z +
    row_input @ x + row_bias + row_summing @ s``. ``rows`` (..., 2N, 2N) is the admittance between the state rows'
    sources, +V and -V in turn.
    """

    into_state: Tensor
    into_input: Tensor
    into_bias: Tensor
    summing: Tensor
    row_state: Tensor
    row_input: Tensor
    row_bias: Tensor
    row_summing: Tensor
    rows: Tensor


def array_terms(
    g_pos: Tensor,
    g_neg: Tensor,
    *,
    r_line_ohm: float,
    r_dac_ohm: float,
    r_out_ohm: float = 0.0,
    both_word_ends: bool = False,
    tiles: Sequence[Tile] = (),
) -> ArrayTerms:
    """Terms of conductances (..., logical rows, N), float64; segments of ``r_line_ohm``. Exact, as is the gradient.

    With ``both_word_ends`` every source feeds its row at both ends; with ``tiles`` the layer is spread over them.

    SpecError on shapes or conductances that no array has.
    """
    g = signed_pairs(g_pos, g_neg)
    rows, n = g.shape[-2:]
    inputs = g_pos.shape[-2] - n - 1
    if inputs < 0:
        raise SpecError(f"{g_pos.shape[-2]} logical rows cannot hold a bias and {n} states")
    entry = torch.full((rows,), r_dac_ohm, dtype=g.dtype)
    entry[-2 * n :] = r_out_ohm
    y = layer_admittance(g, tiles, r_line_ohm=r_line_ohm, r_row_ohm=entry, both_word_ends=both_word_ends)
    paired = y[..., 0:rows:2] - y[..., 1:rows:2]  # per volt of a pair
    into = -paired[..., rows:, :]
    drawn = (paired[..., rows - 2 * n : rows : 2, :] - paired[..., rows - 2 * n + 1 : rows : 2, :]) / 2
    states = slice(rows - 2 * n, rows)
    from_summing = y[..., states, rows:]
    return ArrayTerms(
        into_state=into[..., inputs + 1 :],
        into_input=into[..., :inputs],
        into_bias=into[..., inputs],
        summing=y[..., rows:, rows:],
        row_state=drawn[..., inputs + 1 :],
        row_input=drawn[..., :inputs],
        row_bias=drawn[..., inputs],
        row_summing=(from_summing[..., 0::2, :] - from_summing[..., 1::2, :]) / 2,
        rows=y[..., states, states],
    )
