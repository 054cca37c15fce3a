"""Feedback matrices kept inside their certificate class while they are trained from a given start.

A network that is fine-tuned starts at what its array holds, and must start there exactly: a certified
parametrisation would first have to be fitted to the matrix. Here the matrix itself is trained, and after each step it
is brought back into the class for the norm weights it started with. Inside the class nothing changes.

With ``M = diag(s) W`` (slope bounds folded in): A scales rows whose ``sum_j |M_ij| eta_j / eta_i`` exceeds ``gamma``;
B shrinks what lies off the diagonal until ``M_ii + sum_j |M_ij| eta_j / eta_i <= gamma``; C lifts the eigenvalues of
the symmetric part of ``L^(1/2) (I - M) L^(-1/2)`` to the margin: the nearest matrix of the class in that metric.
"""

from __future__ import annotations

import torch
from torch import Tensor


def project(w: Tensor, weight_class: str, weights: Tensor, bound: float, max_slope: Tensor | float) -> Tensor:
    """``w`` (N, N) moved into its class; the same values where it already is.

    ``weights`` (N,) are the norm weights of A and B or the diagonal of L of C, ``bound`` the largest gamma or the least
    margin, ``max_slope`` a number or (N,). Any other class has no bound and comes back as it is.

    Example:
        >>> import torch
        >>> project(torch.tensor([[0.0, 1.8], [0.3, 0.0]]), "A", torch.ones(2), 0.9, 1.0).tolist()
        [[0.0, 0.8999999761581421], [0.30000001192092896, 0.0]]
    """
    s = torch.as_tensor(max_slope, dtype=w.dtype).reshape(-1, 1)
    ratio = weights[None, :] / weights[:, None]
    m = s * w
    if weight_class == "A":
        rows = (m.abs() * ratio).sum(1, keepdim=True)
        return w * (bound / rows.clamp(min=bound))
    if weight_class == "B":
        diagonal = m.diagonal().clamp(max=bound)
        off = m - torch.diag(m.diagonal())
        rows = (off.abs() * ratio).sum(1)
        over = rows + m.diagonal() > bound
        share = ((bound - diagonal) / rows.clamp(min=torch.finfo(w.dtype).tiny)).clamp(max=1.0)
        return torch.where(over[:, None], (off * share[:, None] + torch.diag(diagonal)) / s, w)
    if weight_class == "C":
        root = weights.sqrt()
        eye = torch.eye(len(w), dtype=w.dtype)
        a = root[:, None] * (eye - m) / root[None, :]
        value, vector = torch.linalg.eigh(0.5 * (a + a.mT))
        if float(value[0]) >= bound:
            return w
        lifted = a + (vector * (bound - value).clamp(min=0.0)) @ vector.mT
        return (eye - lifted / root[:, None] * root[None, :]) / s
    return w
