"""The tree of blocks over a whole array: up for the reduction, down for its adjoint.

A single cell of conductance g behind one segment of row wire r_w and ahead of one of column wire r_b carries
i = g' (v_w + v_b - r_w c_w - r_b c_b), g' = 1 / (1/g + r_w + r_b), in the notation of
:mod:`analog_deq.array.blocks`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from analog_deq.array.blocks import Join, join, lead_down, merged, pairs, tree

FAR = (2, 3)
"""Places of the far wire ends, c_w and c_b, in a single cell's x."""


def seen(g: Tensor, series: Tensor) -> Tensor:
    """Conductance (S) of cells ``g`` in series with ``series`` ohm; g may be infinite where there is a series."""
    return torch.where(torch.isinf(g), 1 / series, g / (1 + torch.where(torch.isinf(g), 0.0, g) * series))


def leaves(g: Tensor, r_word: Tensor, r_bit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(M, g', u) of every single cell, M = g' u u' - diag(0, 0, r_w, r_b), u = (1, 1, -r_w, -r_b)."""
    through = seen(g, r_word + r_bit)
    u = torch.stack([torch.ones_like(g), torch.ones_like(g), -r_word, -r_bit], -1)
    blocks = through[..., None, None] * u[..., :, None] * u[..., None, :]
    blocks[..., 2, 2] -= r_word
    blocks[..., 3, 3] -= r_bit
    return blocks, through, u


def keep_open(rows: int, columns: int, far_rows: bool, far_columns: bool) -> list[int]:
    """Entries of a single cell's x that its tree uses: an array of one column has no far end of rows to speak of."""
    dropped = {2} if columns == 1 and not far_rows else set()
    dropped |= {3} if rows == 1 and not far_columns else set()
    return [k for k in range(4) if k not in dropped]


class Reduction(Function):
    """M of a whole array (dies, size, size) from g, r_word, r_bit, each (dies, R, C), with the exact adjoint.

    Rows and columns come padded to multiples of the blocks, rows from the last to the first; see :func:`reduce_blocks`.
    """

    @staticmethod
    def forward(ctx: Any, g: Tensor, r_word: Tensor, r_bit: Tensor, far_rows: bool, far_columns: bool) -> Tensor:
        rows, columns = g.shape[-2:]
        blocks, through, u = leaves(g, r_word, r_bit)
        used = keep_open(rows, columns, far_rows, far_columns)
        if len(used) < 4:
            blocks = blocks[..., used, :][..., :, used]
        ctx.joins = tree(rows, columns, far_rows, far_columns)
        ctx.used, ctx.inner, ctx.counts = used, [], []
        for step in ctx.joins:
            ctx.counts.append(blocks.shape[2 if step.axis == "rows" else 1])
            blocks, volts, currents = join(*pairs(blocks, step), step)
            if any(ctx.needs_input_grad):
                ctx.inner.append((volts, currents))
        ctx.save_for_backward(g, through, u)
        return blocks[:, 0, 0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, adjoint: Tensor) -> tuple[Tensor | None, ...]:
        g, through, u = ctx.saved_tensors
        bar = (adjoint + adjoint.mT)[:, None, None] / 2
        for step, (volts, currents), count in zip(
            reversed(ctx.joins), reversed(ctx.inner), reversed(ctx.counts), strict=True
        ):
            bar = merged(*lead_down(bar, volts, currents, step), step, count)
        if len(ctx.used) < 4:
            whole = bar.new_zeros((*bar.shape[:-2], 4, 4))
            index = torch.tensor(ctx.used)
            whole[..., index[:, None], index] = bar
            bar = whole
        along = (bar @ u[..., None])[..., 0]
        total = (u * along).sum(-1)
        share = torch.where(torch.isinf(g), 0.0, 1 / (1 - g * (u[..., 2] + u[..., 3])))  # of a cell in its volts
        g_bar = total * share**2
        word, bit = (-bar[..., k, k] - through**2 * total - 2 * through * along[..., k] for k in FAR)
        return g_bar, word, bit, None, None


def reduce_blocks(g: Tensor, r_word: Tensor, r_bit: Tensor, *, far_rows: bool, far_columns: bool) -> Tensor:
    """M of an array (dies, R, C): order [rows, columns, far rows, far columns], far ends if asked for.

    ``r_word`` and ``r_bit`` (dies, R, C) are the segments before and below each cell. Only the first R, C of each group
    of the tree's own, padded, edges come back.
    """
    dies, rows, columns = g.shape
    flat = [t.expand(dies, rows, columns).flip(-2).contiguous() for t in (g, r_word, r_bit)]
    whole = Reduction.apply(*flat, far_rows, far_columns)
    joins: list[Join] = tree(rows, columns, far_rows, far_columns)
    edges = joins[-1].above if joins else None
    padded_rows, padded_columns = (edges.rows, edges.columns) if edges else (1, 1)
    starts = [(0, padded_rows, rows, True), (padded_rows, padded_columns, columns, False)]
    if far_rows:
        starts.append((padded_rows + padded_columns, padded_rows, rows, True))
    if far_columns:
        starts.append((padded_rows + padded_columns + (padded_rows if far_rows else 0), padded_columns, columns, False))
    index = torch.cat(
        [torch.arange(s, s + n).flip(0) if turned else torch.arange(s, s + n) for s, _, n, turned in starts]
    )
    return whole[:, index][:, :, index]
