"""The tree of blocks over a whole array: up for the reduction, down for its adjoint and for what each cell sees.

A single cell of conductance g, behind one segment of row wire r_w and ahead of one of column wire r_b, with a current
source s beside it, carries i = g' (v_w + v_b - r_w c_w - r_b c_b) + s' in the notation of
:mod:`analog_deq.array.blocks`, where g' = g / (1 + g (r_w + r_b)) and s' = s / (1 + g (r_w + r_b)).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from analog_deq.array.blocks import Join, carry_down, join, lead_down, matrices, merged, pairs, tree

FAR = (2, 3)
"""Places of the far wire ends, c_w and c_b, in a single cell's x; a constant is last."""


@dataclass(frozen=True, slots=True)
class Cells:
    """Single cells (dies, R, C): conductance, segments of wire, and the current source from row to column (or none)."""

    g: Tensor
    r_word: Tensor
    r_bit: Tensor
    source: Tensor | None

    @property
    def share(self) -> Tensor:
        """Share of the voltage over cell and segments that the cell itself sees; 0 at a short."""
        short = torch.isinf(self.g)
        return torch.where(short, 0.0, 1 / (1 + torch.where(short, 0.0, self.g) * (self.r_word + self.r_bit)))

    @property
    def through(self) -> Tensor:
        """Conductance g' of a cell behind its segments, in siemens."""
        short = torch.isinf(self.g)
        return torch.where(short, 1 / (self.r_word + self.r_bit), torch.where(short, 0.0, self.g) * self.share)

    @property
    def u(self) -> Tensor:
        """(1, 1, -r_w, -r_b), of which u'x is the voltage over cell and segments."""
        return torch.stack([torch.ones_like(self.g), torch.ones_like(self.g), -self.r_word, -self.r_bit], -1)

    def blocks(self) -> Tensor:
        """M of every single cell: g' u u' - diag(0, 0, r_w, r_b), beside it s' u."""
        u = self.u
        constant = self.source is not None
        m = matrices(self.g.shape, 4 + constant, 4 + constant, self.g, True)
        torch.mul((self.through[..., None] * u)[..., :, None], u[..., None, :], out=m[..., :4, :4])
        m[..., 2, 2] -= self.r_word
        m[..., 3, 3] -= self.r_bit
        if self.source is not None:
            side = (self.share * self.source)[..., None] * u
            m[..., :4, 4] = side
            m[..., 4, :4] = side
        return m


@dataclass(frozen=True, slots=True)
class Path:
    """What leads down again: the joins, the inner voltages and currents of each, the used entries of a cell's x."""

    used: list[int]
    joins: list[Join]
    inner: list[tuple[Tensor, Tensor]]


def climb(cells: Cells, far_rows: bool, far_columns: bool, keep: bool) -> tuple[Tensor, Path]:
    """M of the array of ``cells``, rows from the last to the first, and the way back (empty unless ``keep``)."""
    rows, columns = cells.g.shape[-2:]
    edge, joins = tree(rows, columns, far_rows, far_columns, cells.source is not None)
    used = [0, 1, *[k for k, alive in zip(FAR, (edge.far_rows, edge.far_columns), strict=True) if alive]]
    used += [4] * edge.constant
    blocks = cells.blocks()
    if len(used) < 4 + edge.constant:
        blocks = blocks[..., used, :][..., :, used]
    inner = []
    for step in joins:
        blocks, volts, currents = join(*pairs(blocks, step), step)
        if keep:
            inner.append((volts, currents))
    return blocks[:, 0, 0], Path(used, joins, inner)


def descend(path: Path, x: Tensor) -> Tensor:
    """x of every single cell (dies, R, C, 4 or 5) from that of the whole array (dies, size)."""
    x = x[:, None, None]
    for step, (volts, currents) in zip(reversed(path.joins), reversed(path.inner), strict=True):
        x = merged(*carry_down(x, volts, currents, step), step)
    whole = x.new_zeros((*x.shape[:-1], max(4, path.used[-1] + 1)))
    whole[..., path.used] = x
    return whole


class Reduction(Function):
    """M of a whole array (dies, size, size) from g, r_word, r_bit and source, (dies, R, C) each; exact adjoint."""

    @staticmethod
    def forward(
        ctx: Any, g: Tensor, r_word: Tensor, r_bit: Tensor, source: Tensor | None, far_rows: bool, far_columns: bool
    ) -> Tensor:
        top, ctx.path = climb(Cells(g, r_word, r_bit, source), far_rows, far_columns, any(ctx.needs_input_grad))
        ctx.constant = source is not None
        ctx.save_for_backward(*[g, r_word, r_bit] + [source] * ctx.constant)
        return top

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, adjoint: Tensor) -> tuple[Tensor | None, ...]:
        path: Path = ctx.path
        bar = (adjoint + adjoint.mT)[:, None, None] / 2
        for step, (volts, currents) in zip(reversed(path.joins), reversed(path.inner), strict=True):
            bar = lead_down(bar, volts, currents, step)
        size = 4 + ctx.constant
        if len(path.used) < size:
            whole = bar.new_zeros((*bar.shape[:-2], size, size))
            index = torch.tensor(path.used)
            whole[..., index[:, None], index] = bar
            bar = whole
        saved = list(ctx.saved_tensors)
        cells = Cells(saved[0], saved[1], saved[2], saved[3] if ctx.constant else None)
        u, share, through = cells.u, cells.share, cells.through
        along = (bar[..., :4, :4] @ u[..., None])[..., 0]
        total = (u * along).sum(-1)
        g_bar = share**2 * total
        wires = [-bar[..., k, k] - through**2 * total - 2 * through * along[..., k] for k in FAR]
        source_bar = None
        if cells.source is not None:
            side = 2 * bar[..., :4, 4]  # M holds s' u twice
            beside = (u * side).sum(-1)
            source_bar = share * beside
            loss = cells.source * share**2 * beside  # d s'/d (g rho) = -s share^2
            g_bar = g_bar - loss * (cells.r_word + cells.r_bit)
            at_cell = torch.where(torch.isinf(cells.g), 0.0, cells.g)
            carried = share * cells.source
            wires = [wire - loss * at_cell - carried * side[..., k] for wire, k in zip(wires, FAR, strict=True)]
        return g_bar, *wires, source_bar, None, None


def edge_index(rows: int, columns: int, far_rows: bool, far_columns: bool, constant: bool) -> Tensor:
    """Places, in the tree's own padded and upside-down x, of [rows, columns, far rows, far columns, constant]."""
    cell, joins = tree(rows, columns, far_rows, far_columns, constant)
    edges = joins[-1].above if joins else cell
    row, column, index, start = torch.arange(rows).flip(0), torch.arange(columns), [], 0
    for width, own in (
        (edges.rows, row), (edges.columns, column), (edges.far_rows, row), (edges.far_columns, column),
        (edges.constant, torch.zeros(1, dtype=torch.long)),
    ):  # fmt: skip
        if width:
            index.append(start + own)
        start += width
    return torch.cat(index)
