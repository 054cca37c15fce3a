"""How far a matrix is from one that equilibrium propagation may be run on: symmetric up to a scaling of its rows.

A circuit programmed with a symmetric matrix shows ``W = A S`` with ``A = diag(a)`` near 1: each op-amp's finite gain
and each driver's load scale a row or a column. The adjoint of such a cell is still a response of the cell itself,
because ``(D^-1 - A S)^T = A^-1 (D^-1 - A S) A`` for any diagonal ``D``: ``(D^-1 - W^T)^-1 g = A^-1 (D^-1 - W)^-1 A g``.
"""

from __future__ import annotations

import torch
from torch import Tensor


def row_scaling(w: Tensor) -> tuple[Tensor, float]:
    """``a`` (..., N) with ``W / a`` as symmetric as can be, geometric mean 1, and the asymmetry that is left.

    ``a`` is the least-squares solution of ``log a_i - log a_j = log(W_ij / W_ji)``, pairs weighted by ``|W_ij
    W_ji|``. The asymmetry is ``max |S - S^T| / max |S|`` of ``S = W / a``; pairs of opposite sign keep it large.

    Args:
        w: (N, N) or (D, N, N).

    Example:
        >>> import torch
        >>> s = torch.tensor([[0.0, 1.0], [1.0, 0.5]], dtype=torch.float64)
        >>> a, left = row_scaling(torch.tensor([[1.0], [1.21]]) * s)
        >>> [round(x, 3) for x in a.tolist()], left < 1e-12
        ([0.909, 1.1], True)
    """
    product = w * w.mT
    usable = product > 0
    weight = torch.where(usable, product, torch.zeros_like(w))
    ratio = torch.where(usable, (w / torch.where(usable, w.mT, torch.ones_like(w))).clamp(min=1e-300).log(), 0.0)
    n = w.shape[-1]
    laplacian = torch.diag_embed(weight.sum(-1)) - weight
    scale = laplacian.diagonal(dim1=-2, dim2=-1).amax(-1).clamp(min=torch.finfo(w.dtype).tiny)[..., None, None]
    # the mean of log a is free, and nodes without partners are: a small pull to 0 decides both
    held = laplacian / scale + torch.ones_like(w) / n + 1e-12 * torch.eye(n, dtype=w.dtype, device=w.device)
    log_a = torch.linalg.solve(held, (weight * ratio).sum(-1, keepdim=True) / scale).squeeze(-1)
    a = torch.exp(log_a - log_a.mean(-1, keepdim=True))
    s = w / a.unsqueeze(-1)
    largest = s.abs().amax().clamp(min=torch.finfo(w.dtype).tiny)
    return a, float((s - s.mT).abs().amax() / largest)
