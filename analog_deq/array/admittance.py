"""Terminal admittance and short-circuit transfer of a crossbar, exact for every wire, source and sense resistance."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from analog_deq.array.elimination import Reduction, edge_index
from analog_deq.array.shorts import admittance_without_wires
from analog_deq.array.wiring import Segments, Wiring, refuse_ideal_shorts
from analog_deq.errors import SpecError


def terminal_admittance(g: Tensor, **wiring: Unpack[Wiring]) -> Tensor:
    """Currents into the terminals per volt at each, (..., R + C, R + C) siemens: R row sources, then C column senses.

    ``g`` (..., R, C) siemens, float64, is any conductance from 0 (open) to infinity (short). A row runs source -
    ``r_source_ohm`` - ``r_word_ohm`` - cell 0 - ``r_word_ohm`` - cell 1 ...; a column runs from row 0 to the last
    row, then ``r_bit_ohm`` - ``r_sense_ohm`` - sense terminal. With ``both_word_ends`` a row's last cell is followed by
    one more ``r_word_ohm`` and ``r_source_ohm`` to the same terminal, with ``both_bit_ends`` a column's first cell is
    preceded by its own. ``r_word_ohm`` and ``r_bit_ohm`` are numbers, ``r_source_ohm`` a number or (R,),
    ``r_sense_ohm`` a number or (C,), all 0 unless given.

    Exact to round-off, and so are the gradients to ``g`` and to every resistance that is a tensor; the method is in
    :mod:`analog_deq.array.blocks`. SpecError on what no circuit has: negative or missing values, wrong shapes, two
    ideal sources joined by a short.

    >>> import torch
    >>> g = torch.tensor([[1e-3, 0.0], [0.0, 1e-3]], dtype=torch.float64)
    >>> y = terminal_admittance(g, r_word_ohm=250.0, r_bit_ohm=250.0)
    >>> round(1 / y[0, 2].item(), 9)  # from row 0 to column 0: the cell of 1 kohm, one word and two bit segments
    -1750.0
    """
    rows, columns = g.shape[-2:] if g.dim() >= 2 else (0, 0)
    segments = Segments.of(g, wiring)
    if segments.ideal:
        return admittance_without_wires(g, segments.source, segments.sense)
    y = close_far_ends(reduce_array_of(g, segments), rows + columns, segments)
    sign = torch.ones(rows + columns, dtype=g.dtype, device=g.device)
    sign[rows:] = -1.0
    return (sign[:, None] * y * sign).reshape(*g.shape[:-2], rows + columns, rows + columns)


def operator(g: Tensor, **wiring: Unpack[Wiring]) -> Tensor:
    """Short-circuit transfer K (..., C, R) siemens: current out of each column at 0 V per volt at each row source.

    Arguments, gradients and errors are those of :func:`terminal_admittance`. Entries are accurate relative to the
    largest of their column to a few 1e-15, whatever the wires.

    >>> import torch
    >>> operator(torch.tensor([[1e-3, 2e-3]], dtype=torch.float64)).tolist()
    [[0.001], [0.002]]
    """
    rows = g.shape[-2] if g.dim() >= 2 else 0
    return -terminal_admittance(g, **wiring)[..., rows:, :rows]


def column_currents(g: Tensor, volts: Tensor, **wiring: Unpack[Wiring]) -> Tensor:
    """Currents (..., B, C) in amperes out of the columns, held at 0 V, for ``volts`` (..., B, R) at the row sources.

    >>> import torch
    >>> g = torch.tensor([[1e-3, 2e-3], [3e-3, 0.0]], dtype=torch.float64)
    >>> [round(i, 12) for i in column_currents(g, torch.tensor([1.0, -1.0], dtype=torch.float64)).tolist()]
    [-0.002, 0.002]
    """
    if g.dim() < 2 or volts.shape[-1] != g.shape[-2]:
        raise SpecError(f"volts {tuple(volts.shape)} have not one entry for each row of conductances {tuple(g.shape)}")
    transfer = operator(g, **wiring)
    if volts.dim() == 1:
        return (transfer @ volts[..., None])[..., 0]
    return volts @ transfer.mT


def reduce_array_of(g: Tensor, segments: Segments, source: Tensor | None = None) -> Tensor:
    """M (dies, size, size) of :mod:`analog_deq.array.blocks` of a whole array, dies flattened.

    Order [rows, columns, far rows, far columns, constant], of which the last three are there if asked for: far ends by
    ``segments``, the constant by ``source`` (..., R, C), amperes from row to column beside each cell.
    """
    rows, columns = g.shape[-2:]
    r_word, r_bit = segments.before_cells()
    refuse_ideal_shorts(g, r_word + r_bit)
    flat = g.reshape(-1, rows, columns)
    cells = [turned(t, flat) for t in (flat, r_word, r_bit)]
    beside = None if source is None else turned(source.reshape(-1, rows, columns), flat)
    whole = Reduction.apply(*cells, beside, segments.far_rows, segments.far_columns)
    index = edge_index(rows, columns, segments.far_rows, segments.far_columns, source is not None)
    return whole[:, index][:, :, index]


def turned(value: Tensor, like: Tensor) -> Tensor:
    """``value`` (..., R, C) in the tree's order: rows from the last, nearest the sense, to the first."""
    return value.expand(like.shape).flip(-2).contiguous()


def close_far_ends(m: Tensor, near: int, segments: Segments) -> Tensor:
    """M without its far ends: a drop D = Z c + N' v across a wire is what the far terminal's resistance takes."""
    rho = segments.beyond() if segments.far_rows or segments.far_columns else None
    if rho is None:
        return m
    ends = near + len(rho)
    inner = torch.diag(rho) - m[:, near:ends, near:ends]
    kept = [*range(near), *range(ends, m.shape[-1])]
    across = m[:, near:ends][:, :, kept]
    return m[:, kept][:, :, kept] + across.mT @ torch.linalg.solve(inner, across)
