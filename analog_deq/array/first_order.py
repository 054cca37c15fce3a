"""A closed form of the short-circuit transfer, first order in the drops along the wires, inside a proven bound.

Let Z be the resistance between cells along rows and columns, G the cells, and d the largest relative drop: row drop
plus column drop of a cell when all rows are driven alike, max Z G 1. Then K = w' G (1 + Z G)^-1 e, and

    K_iq = g_qi / (1 + row drop + column drop),    sum_q |error_iq| <= d^2 (1 + 1 / (1 - d)) sum_q g_qi,

because Z and G have no negative entry, so the Neumann series of the rest is at most d^2 / (1 - d) of w' G 1 (its two
outer factors Z G give d each), and 1 / (1 + x) differs from 1 - x by at most x^2.
"""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from analog_deq.array.wiring import Segments, Wiring
from analog_deq.errors import OutOfDomainError, SpecError


def first_order_operator(g: Tensor, *, tolerance: float, **wiring: Unpack[Wiring]) -> Tensor:
    """Approximate K (..., C, R) siemens, with gradients, in O(R C): as :func:`analog_deq.array.operator`.

    ``tolerance`` is the most that a column's current may be wrong, as a share of that column's current without wires at
    equal voltages on all rows: for any voltages up to V the error is at most ``tolerance`` V sum_q g_qi.
    OutOfDomainError when the bound does not promise that; SpecError on a short.
    """
    estimate = error_bound(g, **wiring)
    if not estimate <= tolerance:
        raise OutOfDomainError(
            f"first-order drops may be wrong by {estimate:.3g} of a column's current, more than the tolerance of "
            f"{tolerance:.3g}; use analog_deq.array.operator, which is exact"
        )
    return (g / (1 + relative_drops(g, Segments.of(g, wiring)))).mT


def error_bound(g: Tensor, **wiring: Unpack[Wiring]) -> float:
    """Bound on the error of the closed form as a share of a column's current; infinite once drops reach the drive."""
    drop = relative_drops(g, Segments.of(g, wiring)).detach().max().item()
    return drop**2 * (1 + 1 / (1 - drop)) if drop < 1 else float("inf")


def relative_drops(g: Tensor, segments: Segments) -> Tensor:
    """Row drop plus column drop of each cell (..., R, C) per volt on all rows, cells carrying their ideal current."""
    if bool(torch.isinf(g).any()):
        raise SpecError("a short has no first-order current; use analog_deq.array.operator")
    columns = torch.arange(1, g.shape[-1] + 1, dtype=g.dtype, device=g.device)
    rows = torch.arange(g.shape[-2], 0, -1, dtype=g.dtype, device=g.device)
    along = _drops(g, segments.word, segments.source[:, None], segments.far_rows, columns)
    down = _drops(g.flip(-2).mT, segments.bit, segments.sense[:, None], segments.far_columns, rows.flip(0))
    return along + down.mT.flip(-2)


def _drops(g: Tensor, wire: Tensor, end: Tensor, both: bool, place: Tensor) -> Tensor:
    """Drop at each cell of wires along the last axis, fed at their start behind ``end``, or at both ends."""
    after = g.flip(-1).cumsum(-1).flip(-1)  # conductance that a segment feeds
    drop = wire * after.cumsum(-1) + end * after[..., :1]
    if both:
        distance = end + wire * place
        length = 2 * end + wire * (place[-1] + 1)
        drop = drop - distance / length * (distance * g).sum(-1, keepdim=True)
    return drop
