"""What a differential array with fed-back states does to its summing nodes and its drivers, in exact linear terms.

Logical rows are ordered inputs, bias, states; each is a pair of physical rows at +V and -V. Inputs and bias come from
sources behind ``r_dac_ohm``, states from drivers behind ``r_out_ohm``; columns end at N summing nodes. Any cell may
close the loop: the terms are of the passive array with those resistances, for whatever holds the summing nodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from analog_deq.array import row_driven_admittance, signed_pairs
from analog_deq.errors import SpecError
from analog_deq.reduction import PortAdmittance


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
) -> ArrayTerms:
    """Terms of conductances (..., logical rows, N), float64; segments of ``r_line_ohm``. Exact, as is the gradient.

    With ``both_word_ends`` every source feeds its row at both ends.

    SpecError on shapes or conductances that no array has.
    """
    g = signed_pairs(g_pos, g_neg)
    rows, n = g.shape[-2:]
    inputs = g_pos.shape[-2] - n - 1
    if inputs < 0:
        raise SpecError(f"{g_pos.shape[-2]} logical rows cannot hold a bias and {n} states")
    entry = torch.full((rows,), r_dac_ohm, dtype=g.dtype)
    entry[-2 * n :] = r_out_ohm
    y = row_driven_admittance(g, r_line_ohm=r_line_ohm, r_row_ohm=entry, both_word_ends=both_word_ends)
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


def terms_of_ports(reduced: PortAdmittance, r_out_ohm: float) -> ArrayTerms:
    """Terms of an array that comes reduced to its ports (several tiles, say), with drivers of ``r_out_ohm`` added."""
    n, inputs = reduced.states, reduced.y_sources.shape[1] // 2 - 1
    y_ss, y_sz = reduced.y_ports[:n, :n], reduced.y_ports[:n, n:]
    y_zs, y_zz = reduced.y_ports[n:, :n], reduced.y_ports[n:, n:]
    sources = reduced.y_sources[:, 0::2] - reduced.y_sources[:, 1::2]  # per volt of a pair
    through = np.linalg.inv(np.eye(2 * n) + r_out_ohm * y_zz)
    rows, sign = y_zz @ through, np.kron(np.eye(n), [[1.0], [-1.0]])
    into_s, half = y_sz @ through, sign.T / 2
    into = -(sources[:n] - r_out_ohm * into_s @ sources[n:])
    drawn = half @ through @ sources[n:]
    parts = (
        -into_s @ sign, into[:, :inputs], into[:, inputs], y_ss - r_out_ohm * into_s @ y_zs,
        half @ rows @ sign, drawn[:, :inputs], drawn[:, inputs], half @ through @ y_zs, rows,
    )  # fmt: skip
    return ArrayTerms(*(torch.as_tensor(part) for part in parts))
