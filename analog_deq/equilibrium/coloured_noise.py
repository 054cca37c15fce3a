"""Coloured noise through the linearised circuit: quadrature over the logarithm of frequency."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from analog_deq.errors import EquilibriumError

CHUNK = 2**21
"""Complex numbers of one batch of solves: 32 MiB in double precision."""
RESOLVED = 0.7
"""Widest step, in radians of a window's ``sin^2(pi f T)``, that the trapezoidal rule still follows."""


def spectral_covariance(
    a: Tensor,
    inject: Tensor,
    observe: Tensor,
    direct: Tensor | None,
    density: Callable[[Tensor], Tensor],
    *,
    start_hz: float,
    stop_hz: float,
    per_decade: int = 10,
    window_s: float = 0.0,
    only_loop: bool = False,
) -> Tensor:
    """Covariance (..., M, M) of ``y = C x + F n``, ``dx/dt = A x + B n``, of independent sources with given spectra.

    ``Re int H(f) diag S(f) H(f)^H df`` from ``start_hz`` to ``stop_hz``, ``H = C (i w I - A)^-1 B + F``, by the
    trapezoidal rule in ``ln f`` with one batched solve for every frequency. The rule converges exponentially for
    integrands that are smooth in ``ln f``: at 10 points a decade its error for a real pole is ``exp(-43)``, for a
    complex pole of damping angle ``t`` (``tan t = |Re| / |Im|``) about ``exp(-27 t)``, so a resonance of quality 10
    wants 40. What is left is the band: a white source that is cut at ``r`` times the pole loses ``2 / (pi r)`` of its
    variance, at either end. A window adds ``sinc^2(f T_w)``, averaged within a step where its ripple is finer: with one
    take 20 points a decade (3e-4 of white noise measured against the closed form; 2e-3 at 10, 1e-2 at 5).

    Args:
        a: (..., N, N) in 1/s.
        inject: B, (..., N, K) in 1/s.
        observe: C, (..., M, N).
        direct: F, (..., M, K), or None for none.
        density: one-sided spectra (F, ..., K) of frequencies (F,), in units^2/Hz.
        start_hz: lower end of the band; 1/f noise has no variance without one.
        stop_hz: upper end.
        per_decade: points a decade, at least 4.
        window_s: length of a mean over time that is read, 0 for one moment.
        only_loop: leave out ``F S F^H``, what a source gives without the loop.

    Returns:
        (..., M, M), symmetric.

    Raises:
        EquilibriumError: the band, the grid or the window is out of range, or a density is negative or not finite.

    Example:
        >>> import torch
        >>> one = torch.ones(1, 1, dtype=torch.float64)
        >>> white = lambda f: torch.full((len(f), 1), 4.0, dtype=torch.float64)
        >>> c = spectral_covariance(-one, one, one, None, white, start_hz=1e-6, stop_hz=1e5)
        >>> round(c.item(), 4)  # S / (4 tau)
        1.0
    """
    if not 0.0 < start_hz < stop_hz < math.inf or per_decade < 4 or not 0.0 <= window_s < math.inf:
        raise EquilibriumError(
            f"spectral_covariance: the band {start_hz:.3g} to {stop_hz:.3g} Hz must be rising and positive, per_decade "
            f"{per_decade} at least 4, window_s {window_s:.3g} at least 0 and finite"
        )
    points = max(2, math.ceil(per_decade * math.log10(stop_hz / start_hz)) + 1)
    f = torch.logspace(math.log10(start_hz), math.log10(stop_hz), points, dtype=torch.float64, device=a.device)
    weight = f * math.log(stop_hz / start_hz) / (points - 1)
    weight[0] /= 2
    weight[-1] /= 2
    weight = weight * _window_power(f, window_s)
    spectra = density(f)
    if not bool((spectra >= 0).all()) or not bool(torch.isfinite(spectra).all()):
        raise EquilibriumError("spectral_covariance: a density is negative or not finite in the band")
    n, sources = inject.shape[-2], inject.shape[-1]
    lead = torch.broadcast_shapes(a.shape[:-2], inject.shape[:-2], observe.shape[:-2], spectra.shape[1:-1])
    levels = spectra.reshape(points, *[1] * (len(lead) + 2 - spectra.ndim), *spectra.shape[1:])
    kind = torch.complex128 if a.dtype == torch.float64 else torch.complex64
    eye = torch.eye(n, dtype=a.dtype, device=a.device)
    size = math.prod(lead) * n * max(n, sources)
    total: Tensor | None = None
    for part in torch.arange(points, device=a.device).split(max(1, CHUNK // size)):
        shape = (-1, *[1] * (len(lead) + 2))
        s = (2j * math.pi * f[part]).to(kind).reshape(shape)
        passed = torch.linalg.solve(s * eye - a, inject.to(kind).expand(len(part), *lead, n, sources))
        h = observe.to(kind) @ passed
        if direct is not None:
            h = h + direct
        level = (levels[part] * weight[part].reshape(-1, *[1] * (len(lead) + 1))).to(a.dtype)
        level = level.expand(len(part), *lead, sources)
        # Re(H S H^H) of two real halves
        rows = torch.cat([h.real, h.imag], -1)
        both = torch.cat([level, level], -1)
        piece = ((rows * both[..., None, :]) @ rows.mT).sum(0)
        if only_loop and direct is not None:
            piece = piece - (direct * level.sum(0)[..., None, :]) @ direct.mT
        total = piece if total is None else total + piece
    assert total is not None
    return 0.5 * (total + total.mT)


def tabulated(frequency_hz: Tensor, density: Tensor) -> Callable[[Tensor], Tensor]:
    """A measured spectrum as a function: log-log interpolation of ``density`` (F, K) at ``frequency_hz`` (F,).

    The function raises EquilibriumError for a frequency outside the table: nothing was measured there.

    Example:
        >>> import torch
        >>> f = torch.tensor([1.0, 100.0], dtype=torch.float64)
        >>> round(tabulated(f, 1 / f[:, None])(torch.tensor([10.0], dtype=torch.float64)).item(), 12)
        0.1
    """
    if frequency_hz.ndim != 1 or density.shape[:1] != frequency_hz.shape or not bool((density > 0).all()):
        raise EquilibriumError(
            f"tabulated: frequency_hz (F,) and density (F, K), all positive; got {tuple(frequency_hz.shape)} and "
            f"{tuple(density.shape)}"
        )
    if len(frequency_hz) < 2 or not bool((frequency_hz.diff() > 0).all()) or not float(frequency_hz[0]) > 0.0:
        raise EquilibriumError("tabulated: at least two frequencies, positive and increasing")
    x, y = frequency_hz.double().log(), density.double().log()

    def at(f: Tensor) -> Tensor:
        asked = f.to(x).log()
        if float(asked.min()) < float(x[0]) - 1e-9 or float(asked.max()) > float(x[-1]) + 1e-9:
            raise EquilibriumError(
                f"the spectrum is tabulated from {float(frequency_hz[0]):.3g} to {float(frequency_hz[-1]):.3g} Hz, "
                f"asked for {float(f.min()):.3g} to {float(f.max()):.3g} Hz"
            )
        k = (torch.searchsorted(x, asked.contiguous(), right=True) - 1).clamp(0, len(x) - 2)
        share = ((asked - x[k]) / (x[k + 1] - x[k])).reshape(-1, *[1] * (y.ndim - 1))
        return torch.exp(y[k] + share * (y[k + 1] - y[k]))

    return at


def white_and_flicker(white: Tensor, flicker: Tensor) -> Callable[[Tensor], Tensor]:
    """The spectrum ``white + flicker / f`` of sources (..., K) as a function of f: densities at 1 Hz in units^2/Hz.

    Example:
        >>> import torch
        >>> s = white_and_flicker(torch.tensor([1.0]), torch.tensor([50.0]))
        >>> s(torch.tensor([10.0])).item()
        6.0
    """

    def at(f: Tensor) -> Tensor:
        return white + flicker / f.to(flicker).reshape(-1, *[1] * flicker.ndim)

    return at


def _window_power(f: Tensor, window_s: float) -> Tensor:
    """``sinc^2(pi f T)``; where its ripple is too fine for the grid, ``sin^2`` is its mean over a step."""
    if window_s == 0.0:
        return torch.ones_like(f)
    middle = (f[1:] * f[:-1]).sqrt()
    low, high = torch.cat([f[:1], middle]), torch.cat([middle, f[-1:]])
    width = math.pi * window_s * (high - low)
    # the mean of sin^2(x) over a step of this width around x
    mean = 0.5 - 0.5 * torch.cos(math.pi * window_s * (low + high)) * torch.sinc(width / math.pi)
    return torch.where(width < RESOLVED, torch.sinc(f * window_s).square(), mean / (math.pi * window_s * f).square())
