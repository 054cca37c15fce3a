"""One block of a crossbar seen from its edges, and two neighbouring blocks joined into one.

A block of a rows and b columns is entered by row wires on its left and left by column wires at its bottom. Given there
are the voltages ``v_w`` of the row wires at the left edge and ``v_b``, minus those of the column wires at the bottom,
and the currents ``c_w`` that leave the row wires at the right edge and ``c_b`` that enter the column wires at the top.
What the cells add is linear in x = [v_w, v_b, c_w, c_b] and derives from one symmetric matrix M:

    d(x' M x / 2)/dv = J, what the wires carry more at the given voltages than at the given currents (A),
    d(x' M x / 2)/dc = -D, minus the drop of each wire across the block (V).

Current sources beside the cells enter through one more entry of x that is always 1 and that every block shares.

A block without cells and wire has M = 0. For small wire resistances M is the ideal array plus a small term, so nothing
cancels, and resistances of exactly 0, cells of 0 and of infinite conductance need no special case. Joining two blocks
eliminates s voltages and s currents between them, a linear system whose matrix 1 + Y Z has no eigenvalue below 1.

Joined two by two, blocks form a tree (nested dissection, George 1973): n^3 operations and n^2 log n memory for n rows
and columns. Because the inner voltages and currents are a stationary point, the adjoint of a child is T Mbar T' with
the child's x = T x of its parent: exact, and as cheap as the way up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Axis = Literal["rows", "columns"]
"""The wires that a join shares: of the rows (blocks side by side) or of the columns (one above the other)."""
FEW = 2
"""Joins over no more wires than this work on many small blocks at once, entry by entry."""
SMALL = 16
"""Blocks joined over fewer wires than this are multiplied whole, zeros included: fewer and larger calls."""


@dataclass(frozen=True, slots=True)
class Edges:
    """Numbers of wires at a block's edges: left, bottom, right, top. The far ones are 0 once nothing reaches them.

    ``constant`` is 1 when x ends in the entry 1 that carries current sources, else 0.
    """

    rows: int
    columns: int
    far_rows: int
    far_columns: int
    constant: int

    @property
    def size(self) -> int:
        return self.rows + self.columns + self.far_rows + self.far_columns + self.constant

    def slices(self, axis: Axis) -> tuple[slice, slice, slice, slice]:
        """(v_s, v_o, c_s, c_o): voltages and currents of the shared wires of ``axis``, and of the others."""
        ends, slices = 0, []
        for width in (self.rows, self.columns, self.far_rows, self.far_columns):
            slices.append(slice(ends, ends + width))
            ends += width
        v_w, v_b, c_w, c_b = slices
        return (v_w, v_b, c_w, c_b) if axis == "rows" else (v_b, v_w, c_b, c_w)

    def joined(self, axis: Axis, open_end: bool) -> Edges:
        """Edges of two such blocks joined over the wires of ``axis``; with ``open_end`` those wires end here."""
        ends, one = 0 if open_end else 1, self.constant
        if axis == "rows":
            return Edges(self.rows, 2 * self.columns, ends * self.rows, 2 * self.far_columns, one)
        return Edges(2 * self.rows, self.columns, 2 * self.far_rows, ends * self.columns, one)


@dataclass(frozen=True, slots=True)
class Join:
    """One step up the tree: pairs of blocks with edges ``below`` become blocks with edges ``above``."""

    axis: Axis
    below: Edges
    above: Edges
    count: int  # blocks along the axis; an odd number of them gets one more, without cells and wires

    @property
    def few(self) -> bool:
        """Whether so few wires are shared that blocks are small and many."""
        return (self.below.rows if self.axis == "rows" else self.below.columns) <= FEW

    def places(self) -> tuple[list[tuple[slice, slice]], list[tuple[slice, slice]]]:
        """(place above, place below) of the edges that stay, for the first block and for the second."""
        v_s, v_o, c_s, c_o = self.below.slices(self.axis)
        up_v_s, up_v_o, up_c_s, up_c_o = self.above.slices(self.axis)
        first, second = [(up_v_s, v_s)], []
        if up_c_s.stop > up_c_s.start:
            second.append((up_c_s, c_s))
        for up, own in ((up_v_o, v_o), (up_c_o, c_o)):
            width = own.stop - own.start
            if width:
                first.append((slice(up.start, up.start + width), own))
                second.append((slice(up.start + width, up.stop), own))
        if self.below.constant:
            one = (slice(self.above.size - 1, self.above.size), slice(self.below.size - 1, self.below.size))
            first.append(one)
            second.append(one)
        return first, second


def tree(rows: int, columns: int, far_rows: bool, far_columns: bool, constant: bool) -> tuple[Edges, list[Join]]:
    """Edges of a single cell, and the joins from there to the whole array, blocks kept as square as they come."""
    cell = Edges(1, 1, int(columns > 1 or far_rows), int(rows > 1 or far_columns), int(constant))
    edges, joins = cell, []
    while rows > 1 or columns > 1:
        axis: Axis = "rows" if columns > 1 and (edges.columns <= edges.rows or rows == 1) else "columns"
        count = columns if axis == "rows" else rows
        last = count <= 2 and not (far_rows if axis == "rows" else far_columns)
        above = edges.joined(axis, last)
        joins.append(Join(axis, edges, above, count))
        edges = above
        if axis == "rows":
            columns = (columns + 1) // 2
        else:
            rows = (rows + 1) // 2
    return cell, joins


def matrices(batch: Sequence[int], rows: int, columns: int, like: Tensor, entries_first: bool) -> Tensor:
    """Zeros (*batch, rows, columns); with ``entries_first`` the values of an entry lie side by side in memory.

    So lie small blocks, of which there are many: products of them are sums of long vectors.
    """
    if not entries_first:
        return like.new_zeros((*batch, rows, columns))
    return like.new_zeros((rows, columns, *batch)).movedim((0, 1), (-2, -1))


def product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b; for an inner size of up to 2 as a sum of outer products, which keeps the layout in memory."""
    if a.shape[-1] > FEW:
        return a @ b
    total = a[..., :, :1] * b[..., :1, :]
    for k in range(1, a.shape[-1]):
        total = total + a[..., :, k : k + 1] * b[..., k : k + 1, :]
    return total


def pairs(blocks: Tensor, step: Join) -> tuple[Tensor, Tensor]:
    """(first, second) of each pair, from blocks (dies, block rows, block columns, n, n)."""
    dim = 2 if step.axis == "rows" else 1
    if step.count % 2:
        shape = list(blocks.shape[:-2])
        shape[dim] += 1
        even = matrices(shape, blocks.shape[-2], blocks.shape[-1], blocks, step.few)
        even.narrow(dim, 0, step.count).copy_(blocks)
        blocks = even
    split = blocks.unflatten(dim, (-1, 2))
    return split.select(dim + 1, 0), split.select(dim + 1, 1)


def join(first: Tensor, second: Tensor, step: Join) -> tuple[Tensor, Tensor, Tensor]:
    """(M above, inner voltages, inner currents), the last two per unit of each entry of x above.

    The inner voltages are those of the second block at the seam, the inner currents those out of the first.
    """
    v_s, _, c_s, _ = step.below.slices(step.axis)
    up_v_s, _, up_c_s, _ = step.above.slices(step.axis)
    of_first, of_second = step.places()
    shared, size = v_s.stop - v_s.start, step.above.size
    eye = torch.eye(shared, dtype=first.dtype, device=first.device)
    kept = up_c_s.stop > up_c_s.start
    batch = first.shape[:-2]
    p, q = (matrices(batch, shared, size, first, step.few) for _ in range(2))
    for up, own in of_second:
        p[..., up] = second[..., v_s, own]
    for up, own in of_first:
        q[..., up] = first[..., c_s, own]
    q[..., up_v_s] += eye
    if kept:
        p[..., up_c_s] += eye
    y, minus_z = second[..., v_s, v_s], first[..., c_s, c_s]
    currents = solved(eye - product(y, minus_z), p + product(y, q))
    volts = q + product(minus_z, currents)
    above = matrices(batch, size, size, first, step.few)
    for child, places in ((first, of_first), (second, of_second)):
        for up_a, own_a in places:
            for up_b, own_b in places:
                above[..., up_a, up_b] += child[..., own_a, own_b]  # both have the constant
    if kept:
        above[..., up_v_s, up_c_s] -= eye
        above[..., up_c_s, up_v_s] -= eye
    if shared < SMALL:
        above += product(p.mT, volts)
        above += product(q.mT, currents)
    else:
        for up, own in of_first:
            above[..., up, :] += first[..., own, c_s] @ currents
        above[..., up_v_s, :] += currents
        for up, own in of_second:
            above[..., up, :] += second[..., own, v_s] @ volts
        if kept:
            above[..., up_c_s, :] += volts
    return above, volts, currents


def solved(a: Tensor, b: Tensor) -> Tensor:
    """a^-1 b; in closed form for up to 2 x 2, which have determinants of at least 1."""
    if a.shape[-1] > FEW:
        return torch.linalg.solve(a, b)
    if a.shape[-1] == 1:
        return b / a
    determinant = a[..., :1, :1] * a[..., 1:, 1:] - a[..., :1, 1:] * a[..., 1:, :1]
    found = torch.empty_like(b)
    found[..., :1, :] = (a[..., 1:, 1:] * b[..., :1, :] - a[..., :1, 1:] * b[..., 1:, :]) / determinant
    found[..., 1:, :] = (a[..., :1, :1] * b[..., 1:, :] - a[..., 1:, :1] * b[..., :1, :]) / determinant
    return found


def lead_down(adjoint: Tensor, volts: Tensor, currents: Tensor, step: Join) -> Tensor:
    """Adjoints T Mbar T' of all children (dies, block rows, block columns, n, n) from their parents', all symmetric."""
    v_s, _, c_s, _ = step.below.slices(step.axis)
    dim = 2 if step.axis == "rows" else 1
    shape = list(adjoint.shape[:-2])
    shape[dim] *= 2
    children = matrices(shape, step.below.size, step.below.size, adjoint, step.few)
    split = children.unflatten(dim, (-1, 2))
    seams = (currents, c_s), (volts, v_s)
    for k, (places, (inner, own_inner)) in enumerate(zip(step.places(), seams, strict=True)):
        child = split.select(dim + 1, k)
        for up_a, own_a in places:
            for up_b, own_b in places:
                child[..., own_a, own_b] = adjoint[..., up_a, up_b]
        across = inner @ adjoint
        for up, own in places:
            child[..., own_inner, own] = across[..., up]
            child[..., own, own_inner] = across[..., up].mT
        child[..., own_inner, own_inner] = across @ inner.mT
    return children.narrow(dim, 0, step.count)


def merged(first: Tensor, second: Tensor, step: Join) -> Tensor:
    """Undoes :func:`pairs` for what each block has (dies, block rows, block columns, n), the padding cut off."""
    dim = 2 if step.axis == "rows" else 1
    return torch.stack([first, second], dim + 1).flatten(dim, dim + 1).narrow(dim, 0, step.count)


def carry_down(x: Tensor, volts: Tensor, currents: Tensor, step: Join) -> tuple[Tensor, Tensor]:
    """The x of both children from their parent's, (dies, block rows, block columns, size) each."""
    v_s, _, c_s, _ = step.below.slices(step.axis)
    results = []
    for places, inner, own_inner in ((step.places()[0], currents, c_s), (step.places()[1], volts, v_s)):
        child = x.new_zeros((*x.shape[:-1], step.below.size))
        for up, own in places:
            child[..., own] = x[..., up]
        child[..., own_inner] = (inner @ x[..., None])[..., 0]
        results.append(child)
    return results[0], results[1]
