"""Cells that bend, I = G v0 sinh(V / v0), read through wires: Newton on the reduced network.

Each step replaces every cell by its tangent, a conductance G cosh(V / v0) with a current source beside it, reduces that
array exactly, and takes the cells' voltages from the way back down. From the linear array's voltages, which are too
large, Newton falls to the solution and then converges quadratically.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import Unpack

import torch
from torch import Tensor

from analog_deq.array.admittance import close_far_ends, reduce_array_of, turned
from analog_deq.array.elimination import Cells, climb, descend, edge_index
from analog_deq.array.wiring import Segments, Wiring, refuse_ideal_shorts
from analog_deq.errors import EquilibriumError, SpecError

STEPS = 60
ENOUGH = 1e-9
"""Newton stops once a step moves no cell by more than this share of the drive; the error left is about its square."""
MOST_BEND = 200.0
"""Largest drive in units of v0: exp of more is no read voltage of any device."""
CELLS_AT_ONCE = 2**17
"""Cells whose elimination is kept at a time, about 2 kB each; inputs are taken in turns beyond."""


@dataclass(frozen=True, slots=True)
class SinhRead:
    """Column currents (B, C) in amperes, cell voltages (B, R, C), and the largest move of each Newton step in volts."""

    currents: Tensor
    cell_volts: Tensor
    moves: tuple[float, ...]


def sinh_read(g: Tensor, volts: Tensor, *, v0: Tensor | float, **wiring: Unpack[Wiring]) -> SinhRead:
    """Read of cells ``g`` (R, C) that carry G v0 sinh(V / v0), for ``volts`` (B, R), columns held at 0 V.

    ``v0`` is a voltage or (R, C). Gradients of the currents to ``g``, ``volts``, ``v0`` and resistances are those of
    the solution (implicit function theorem). SpecError on infinite conductances, or a drive beyond 200 v0;
    EquilibriumError when Newton has not converged in 60 steps.
    """
    segments = Segments.of(g, wiring)
    v0 = torch.as_tensor(v0, dtype=g.dtype, device=g.device)
    if g.dim() != 2 or bool(torch.isinf(g).any()):
        raise SpecError("a sinh read needs one array (rows, columns) of finite conductances")
    if volts.dim() != 2 or volts.shape[1] != g.shape[0]:
        raise SpecError(f"volts {tuple(volts.shape)} are not (inputs, rows) for conductances {tuple(g.shape)}")
    drive = volts.detach().abs().max().item()
    least = v0.detach().min().item()
    if not least > 0 or drive > MOST_BEND * least:
        raise SpecError(f"v0 = {least} V at a drive of {drive} V; v0 must be above 1/200 of the drive")
    at_once = max(1, CELLS_AT_ONCE // g.numel())
    with torch.no_grad():
        parts = [_newton(g, part, v0, segments, drive) for part in volts.split(at_once)]
    at_cell = torch.cat([part[0] for part in parts])
    moves = tuple(max(step) for step in zip_longest(*(part[1] for part in parts), fillvalue=0.0))
    currents = torch.cat(
        [_tangent(g, v, v0, d, segments) for v, d in zip(volts.split(at_once), at_cell.split(at_once), strict=True)]
    )
    return SinhRead(currents, at_cell, moves)


def _newton(g: Tensor, volts: Tensor, v0: Tensor, segments: Segments, drive: float) -> tuple[Tensor, list[float]]:
    moves: list[float] = []
    d = cell_volts(g.expand(len(volts), *g.shape), None, volts, segments)
    while not moves or moves[-1] > ENOUGH * drive:
        if len(moves) == STEPS:
            raise EquilibriumError(f"the sinh read moved by {moves[-1]:.3g} V in Newton step {STEPS}")
        slope = g * torch.cosh(d / v0)
        moved = cell_volts(slope, g * v0 * torch.sinh(d / v0) - slope * d, volts, segments)
        moves.append((moved - d).abs().max().item())
        d = moved
    return d, moves


def _tangent(g: Tensor, volts: Tensor, v0: Tensor, d: Tensor, segments: Segments) -> Tensor:
    """Currents at the solution ``d``. The tangents are constants: only the currents of the cells carry gradients."""
    slope = (g * torch.cosh(d / v0)).detach()
    source = g * v0 * torch.sinh(d / v0) - slope * d
    near, rows = sum(g.shape), g.shape[0]
    m = close_far_ends(reduce_array_of(slope, segments, source), near, segments)
    return (m[:, rows:near, :rows] @ volts[..., None])[..., 0] + m[:, rows:near, near]


def cell_volts(g: Tensor, source: Tensor | None, volts: Tensor, segments: Segments) -> Tensor:
    """Voltage of every cell (dies, R, C) of arrays ``g`` with ``source`` amperes beside the cells, ``volts`` (dies, R).

    No gradients. Columns are held at 0 V.
    """
    rows, columns = g.shape[-2:]
    wires = segments.before_cells()
    refuse_ideal_shorts(g, wires[0] + wires[1])
    beside = None if source is None else turned(source, g)
    cells = Cells(turned(g, g), turned(wires[0], g), turned(wires[1], g), beside)
    top, path = climb(cells, segments.far_rows, segments.far_columns, True)
    index = edge_index(rows, columns, segments.far_rows, segments.far_columns, source is not None)
    known = torch.cat([volts, volts.new_zeros(len(volts), columns)], 1)
    constant = volts.new_ones(len(volts), 0 if source is None else 1)
    near = rows + columns
    if segments.far_rows or segments.far_columns:
        m, rho = top[:, index][:, :, index], segments.beyond()
        ends = near + len(rho)
        kept = [*range(near), *range(ends, m.shape[-1])]
        right = m[:, near:ends][:, :, kept] @ torch.cat([known, constant], 1)[..., None]
        far = torch.linalg.solve(torch.diag(rho) - m[:, near:ends, near:ends], right)[..., 0]
        known = torch.cat([known, far], 1)
    x = top.new_zeros(top.shape[:2])
    x[:, index] = torch.cat([known, constant], 1)
    at_cell = descend(path, x)
    across = (cells.u * at_cell[..., :4]).sum(-1)
    if cells.source is not None:
        across = across - (cells.r_word + cells.r_bit) * cells.source
    return (cells.share * across).flip(-2)
