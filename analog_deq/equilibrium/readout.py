"""What a converter reads of a waveform: at a fixed time, averaged over a window, or when a detector says "settled".

All work on the cubic (Hermite) interpolation of a :class:`~analog_deq.equilibrium.dynamics.Waveform`, whose derivative
comes from the circuit's own equation: error of order ``dt^4``. Values carry gradients; a detector's *time* is a number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from analog_deq.equilibrium.dynamics import Waveform
from analog_deq.errors import EquilibriumError


@dataclass(frozen=True, slots=True)
class Reading:
    """A value read (..., B, N) and when, in s: (..., B) where each sample has its own time; inf where never settled."""

    value: Tensor
    t_s: Tensor


def read_at(wave: Waveform, t_s: float) -> Reading:
    """The waveform at one fixed time; the gradient is that of the state at this time.

    Raises:
        EquilibriumError: the time lies outside the waveform.

    Example:
        >>> import torch
        >>> t = torch.arange(0.0, 2.1, 0.5, dtype=torch.float64)
        >>> cube = Waveform(t, t[:, None, None] ** 3, 3 * t[:, None, None] ** 2)
        >>> round(read_at(cube, 1.3).value.item(), 6)  # a cubic is read exactly
        2.197
    """
    _inside(wave, t_s, t_s)
    sample_shape = wave.value.shape[1:-1]
    times = torch.full(sample_shape, t_s, dtype=torch.float64, device=wave.t_s.device)
    return Reading(_hermite(wave, times)[0], times)


def read_window(wave: Waveform, start_s: float, window_s: float) -> Reading:
    """The mean over ``[start_s, start_s + window_s]``, as an integrating converter reads it; ``t_s`` is the end.

    Exact for the interpolated waveform; the gradient flows through every point of the window.

    Raises:
        EquilibriumError: the window is not positive or leaves the waveform.

    Example:
        >>> import torch
        >>> t = torch.arange(0.0, 2.1, 0.5, dtype=torch.float64)
        >>> square = Waveform(t, t[:, None, None] ** 2, 2 * t[:, None, None])
        >>> round(read_window(square, 0.3, 1.2).value.item(), 6)  # (1.5^3 - 0.3^3) / 3 / 1.2
        0.93
    """
    end_s = start_s + window_s
    if not 0.0 < window_s < math.inf:
        raise EquilibriumError(f"read_window: window_s {window_s:.3g} must be positive; read_at reads one moment")
    _inside(wave, start_s, end_s)
    sample_shape = wave.value.shape[1:-1]
    ends = [torch.full(sample_shape, t, dtype=torch.float64, device=wave.t_s.device) for t in (start_s, end_s)]
    (first, first_rate), (last, last_rate) = (_hermite(wave, t) for t in ends)
    between = (wave.t_s > start_s) & (wave.t_s < end_s)
    t = torch.cat([wave.t_s.new_tensor([start_s]), wave.t_s[between], wave.t_s.new_tensor([end_s])])
    value = torch.cat([first[None], wave.value[between], last[None]])
    rate = torch.cat([first_rate[None], wave.rate[between], last_rate[None]])
    # the integral of the cubic with these values and derivatives at the ends of each piece
    step = t.diff().to(value).reshape(-1, *[1] * (value.ndim - 1))
    pieces = step / 2 * (value[1:] + value[:-1]) + step.square() / 12 * (rate[:-1] - rate[1:])
    return Reading(pieces.sum(0) / window_s, ends[1])


def read_quiet(
    wave: Waveform, rate_per_s: float, *, hold_s: float = 0.0, on_fail: Literal["raise", "mask"] = "raise"
) -> Reading:
    """What is read when a sample's nodes have all had ``|rate| <= rate_per_s`` for ``hold_s`` on end.

    The time is that at which the detector fires (the end of the hold), a number without gradient; the value is the
    state at that time, with its gradient at fixed time. A rate may pass through zero on its way: hold about a tau.

    Args:
        wave: the waveform whose rate the detector watches, and that is read.
        rate_per_s: level in units of the waveform per second.
        hold_s: how long the level must have held.
        on_fail: "raise", or "mask": a sample that never fires reads its last value, at ``t_s`` inf.

    Raises:
        EquilibriumError: a level is not positive, or a sample never fires and ``on_fail`` is "raise".

    Example:
        >>> import torch
        >>> t = torch.arange(0.0, 8.0, 0.01, dtype=torch.float64)
        >>> fall = torch.exp(-t)[:, None, None]
        >>> round(read_quiet(Waveform(t, fall, -fall), 0.1).t_s.item(), 3)  # ln 10
        2.303
    """
    if not rate_per_s > 0.0:
        raise EquilibriumError(f"read_quiet: rate_per_s {rate_per_s:.3g} must be positive")
    excess = wave.rate.detach().abs().amax(-1) - rate_per_s
    return _when(wave, excess, hold_s, on_fail, "read_quiet")


def read_in_band(
    wave: Waveform, target: Tensor, band: float, *, hold_s: float = 0.0, on_fail: Literal["raise", "mask"] = "raise"
) -> Reading:
    """What is read when a sample's nodes have all been within ``band`` of ``target`` for ``hold_s`` on end.

    Like :func:`read_quiet`, with ``target`` (..., B, N) and ``band`` in units of the waveform. Without a hold, ringing
    through the band fires it early, as in a real comparator.

    Example:
        >>> import torch
        >>> t = torch.arange(0.0, 8.0, 0.01, dtype=torch.float64)
        >>> fall = torch.exp(-t)[:, None, None]
        >>> round(read_in_band(Waveform(t, fall, -fall), torch.zeros(1, 1), 0.1).value.item(), 4)
        0.1
    """
    if not band > 0.0 or target.shape != wave.value.shape[1:]:
        raise EquilibriumError(
            f"read_in_band: band {band:.3g} must be positive, target {tuple(target.shape)} like one point of the "
            f"waveform, {tuple(wave.value.shape[1:])}"
        )
    excess = (wave.value.detach() - target.detach()).abs().amax(-1) - band
    return _when(wave, excess, hold_s, on_fail, "read_in_band")


def _when(wave: Waveform, excess: Tensor, hold_s: float, on_fail: str, name: str) -> Reading:
    """Read at the first time from which ``excess`` (T, ..., B) has been at most 0 for ``hold_s``."""
    if on_fail not in ("raise", "mask") or not hold_s >= 0.0:
        raise EquilibriumError(f"{name}: on_fail is '{on_fail}' ('raise' or 'mask'), hold_s {hold_s:.3g} (at least 0)")
    t, last = wave.t_s, len(wave.t_s) - 1
    shape = (-1, *[1] * (excess.ndim - 1))
    index = torch.arange(last + 1, device=t.device).reshape(shape)
    above = excess > 0.0
    # latest point at or before k that was above the level; the time since then is how long the level has held
    latest = torch.where(above, index, -1).cummax(0).values
    before = latest.clamp(0, max(last - 1, 0))
    high, low = excess.gather(0, before), excess.gather(0, before + 1)
    part = (high / (high - low)).to(torch.float64)
    crossing = torch.where(latest < 0, t[0], t[before] + part * (t[before + 1] - t[before]))
    fires = ~above & (t.reshape(shape) >= crossing + hold_s)
    never = ~fires.any(0)
    if on_fail == "raise" and bool(never.any()):
        raise EquilibriumError(
            f"{name}: {int(never.sum())} of {never.numel()} samples never fire within {float(t[-1]):.3g} s; lengthen "
            "the window, raise the level, shorten the hold, or use on_fail='mask'"
        )
    at = fires.to(torch.int8).argmax(0)
    time = crossing.gather(0, at[None])[0] + hold_s
    time = torch.where(never, t[-1], time)
    value, _ = _hermite(wave, time)
    return Reading(value, torch.where(never, torch.inf, time))


def _hermite(wave: Waveform, times: Tensor) -> tuple[Tensor, Tensor]:
    """Value and rate (..., B, N) at times (..., B), which are numbers: no gradient flows to them."""
    t = wave.t_s
    k = (torch.searchsorted(t, times.contiguous(), right=True) - 1).clamp(0, len(t) - 2)
    step = (t[k + 1] - t[k]).to(wave.value)[..., None]
    x = ((times - t[k]) / (t[k + 1] - t[k])).to(wave.value)[..., None]
    where = k[None, ..., None].expand(1, *wave.value.shape[1:])
    y0, y1 = wave.value.gather(0, where)[0], wave.value.gather(0, where + 1)[0]
    m0, m1 = wave.rate.gather(0, where)[0] * step, wave.rate.gather(0, where + 1)[0] * step
    c2, c3 = 3 * (y1 - y0) - 2 * m0 - m1, m0 + m1 - 2 * (y1 - y0)
    return y0 + x * (m0 + x * (c2 + x * c3)), (m0 + x * (2 * c2 + 3 * x * c3)) / step


def _inside(wave: Waveform, start_s: float, end_s: float) -> None:
    low, high = float(wave.t_s[0]), float(wave.t_s[-1])
    slack = 1e-9 * (high - low)
    if not low - slack <= start_s <= end_s <= high + slack:
        raise EquilibriumError(
            f"the time to read, {start_s:.4g} to {end_s:.4g} s, lies outside the waveform, {low:.4g} to {high:.4g} s; "
            "lengthen t_end_s or lower keep_from_s"
        )
