"""What sits in a cell besides its programmed conductance: a selector, a stuck or open device; and pairs of them."""

from __future__ import annotations

import torch
from torch import Tensor

from analog_deq.errors import SpecError


def in_series(g: Tensor, r_ohm: Tensor | float) -> Tensor:
    """Conductance of cells ``g`` in series with ``r_ohm`` (a linear selector or access transistor), in siemens.

    ``g`` may be 0 or infinite; a short behind a selector is the selector.

    >>> import torch
    >>> in_series(torch.tensor([0.0, 1e-3, torch.inf]), 1e3).tolist()
    [0.0, 0.0005000000237487257, 0.0010000000474974513]
    """
    r = torch.as_tensor(r_ohm, dtype=g.dtype, device=g.device)
    if not bool((torch.isfinite(r) & (r >= 0)).all()):
        raise SpecError(f"a selector's resistance is {r.tolist()!r}; it must be finite and 0 or more")
    short = torch.isinf(g)
    finite = torch.where(short, 0.0, g)
    return torch.where(short, 1 / r, finite / (1 + finite * r))


def with_faults(g: Tensor, *, selected: Tensor | None = None, stuck: Tensor | None = None) -> Tensor:
    """Conductances (..., R, C) with cells not ``selected`` (bool) open, and cells ``stuck`` at a conductance.

    ``stuck`` (..., R, C) siemens is NaN where the device works, 0 where it is open, infinite where it is shorted. A
    selector that is off opens a stuck device too.

    >>> import torch
    >>> g = torch.tensor([[1e-3, 2e-3]], dtype=torch.float64)
    >>> with_faults(g, stuck=torch.tensor([[torch.nan, 0.0]], dtype=torch.float64)).tolist()
    [[0.001, 0.0]]
    """
    for name, mask in (("selected", selected), ("stuck", stuck)):
        if mask is not None and mask.shape[-2:] != g.shape[-2:]:
            raise SpecError(f"{name} has shape {tuple(mask.shape)}; one entry a cell of {tuple(g.shape)} is needed")
    if stuck is not None:
        g = torch.where(torch.isnan(stuck), g, stuck)
    return g if selected is None else torch.where(selected, g, 0.0)


def signed_pairs(g_pos: Tensor, g_neg: Tensor) -> Tensor:
    """Physical rows (..., 2 K, C) of pairs (..., K, C): row 2k is driven at +V through g_pos, 2k + 1 at -V.

    A weight is g_pos - g_neg; :func:`pair_volts` makes the voltages of the rows.
    """
    if g_pos.shape != g_neg.shape:
        raise SpecError(f"g_pos {tuple(g_pos.shape)} and g_neg {tuple(g_neg.shape)} differ in shape")
    return torch.stack([g_pos, g_neg], -2).flatten(-3, -2)


def pair_volts(volts: Tensor) -> Tensor:
    """Voltages (..., 2 K) of the rows of :func:`signed_pairs` for ``volts`` (..., K).

    >>> pair_volts(torch.tensor([1.0, -2.0])).tolist()
    [1.0, -1.0, -2.0, 2.0]
    """
    return torch.stack([volts, -volts], -1).flatten(-2)
