"""The array without wires: rows and columns are single nodes, and cells of infinite conductance join them."""

from __future__ import annotations

import torch
from torch import Tensor

from analog_deq.errors import SpecError


def admittance_without_wires(g: Tensor, source: Tensor, sense: Tensor) -> Tensor:
    """Terminal admittance (..., R + C, R + C) of cells ``g`` (..., R, C) behind ``source`` (R,), ``sense`` (C,) ohm."""
    if bool(torch.isinf(g).any()):
        flat = g.reshape(-1, *g.shape[-2:])
        each = [_with_shorts(die, torch.cat([source, sense])) for die in flat]
        return torch.stack(each).reshape(*g.shape[:-2], *each[0].shape)
    total = g.sum(-1)
    share = 1 / (1 + source * total)  # of a row's voltage that its cells see while the columns are at 0 V
    rows = torch.diag_embed(total * share)
    between = -share[..., None] * g
    columns = torch.diag_embed(g.sum(-2)) - g.mT @ ((source * share)[..., None] * g)
    if bool((sense > 0).any()):
        eye = torch.eye(g.shape[-1], dtype=g.dtype, device=g.device)
        loaded = torch.linalg.inv(eye + sense[:, None] * columns)
        rows = rows - between @ (loaded * sense) @ between.mT
        between = between @ loaded
        columns = columns @ loaded
    return torch.cat([torch.cat([rows, between], -1), torch.cat([between.mT, columns], -1)], -2)


def _with_shorts(g: Tensor, series: Tensor) -> Tensor:
    """Terminal admittance of one die by merging the nodes that shorts join, then eliminating what floats."""
    rows, columns = g.shape
    terminals = rows + columns
    group = list(range(terminals))

    def root(k: int) -> int:
        while group[k] != k:
            k = group[k]
        return k

    shorts = torch.isinf(g)
    for q, i in torch.nonzero(shorts).tolist():
        group[root(rows + i)] = root(q)
    ideal = [bool(r == 0) for r in series]
    node: dict[int, int] = {}  # of each group: its ideal terminal, or a floating node of its own
    for k in range(terminals):
        if ideal[k]:
            if root(k) in node:
                raise SpecError(
                    f"shorted cells join {_name(node[root(k)], rows)} to {_name(k, rows)} with no resistance in "
                    "between; give the cells, the wires or the sources a resistance"
                )
            node[root(k)] = k
    size = terminals
    for k in range(terminals):
        if root(k) not in node:
            node[root(k)] = size
            size += 1
    place = [node[root(k)] for k in range(terminals)]
    incidence = torch.zeros(terminals, size, dtype=g.dtype, device=g.device)
    incidence[range(terminals), place] = 1.0
    cells = torch.where(shorts, 0.0, g)
    laplacian = torch.diag(torch.cat([cells.sum(1), cells.sum(0)]))
    zero_rows, zero_columns = cells.new_zeros(rows, rows), cells.new_zeros(columns, columns)
    laplacian = laplacian - torch.cat([torch.cat([zero_rows, cells], 1), torch.cat([cells.T, zero_columns], 1)])
    whole = incidence.T @ laplacian @ incidence
    far = [k for k in range(terminals) if not ideal[k]]
    ends = torch.zeros(len(far), size, dtype=g.dtype, device=g.device)
    ends[range(len(far)), far] = 1.0
    ends[range(len(far)), [place[k] for k in far]] = -1.0
    whole = whole + ends.T @ (ends / series[far][:, None])
    held, floating = whole[:terminals, :terminals], whole[terminals:, terminals:]
    if size == terminals:
        return held
    across = whole[terminals:, :terminals]
    return held - across.T @ torch.linalg.solve(floating, across)


def _name(terminal: int, rows: int) -> str:
    return f"row source {terminal}" if terminal < rows else f"column sense {terminal - rows}"
