"""How the circuit gets to its equilibrium: ``tau_i dh_i/dt = -h_i + (W z)_i + u_i``, ``z = act(h)``, in time."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from analog_deq.equilibrium.cell import Activation
from analog_deq.errors import EquilibriumError


def integrate(
    w: Tensor,
    u: Tensor,
    act: Activation,
    tau_s: Tensor,
    *,
    t_end_s: float,
    dt_s: float,
    h0: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The trajectory of the pre-activations after a step of the input, by the classical Runge-Kutta method (RK4).

    The step is shortened so that a whole number of steps ends at ``t_end_s``. Per-step error is of the order of
    ``(dt / tau_min)^5 / 120``: at ``dt = tau_min / 20`` the trajectory is good to about 1e-7 of full scale. No
    delays, no slew limit. The result carries no gradient, and holds T*B*N numbers: mind the memory.

    Args:
        w: (N, N), or (D, N, N) for draws.
        u: (B, N), or (D, B, N) with draws; constant from t = 0 on.
        act: the activation.
        tau_s: (N,) time constants in seconds, positive.
        t_end_s: length of the window in seconds.
        dt_s: longest step in seconds, at most the smallest ``tau_s``.
        h0: state at t = 0, shape of ``u``; None means zeros.

    Returns:
        ``t`` (T,) in seconds, from 0 to ``t_end_s``, and ``h`` (T, B, N) or (T, D, B, N).

    Raises:
        EquilibriumError: a time is out of range, shapes do not match, or the trajectory overflows.

    Example:
        >>> import torch
        >>> from analog_deq.equilibrium.cell import Tanh
        >>> t, h = integrate(torch.zeros(1, 1), torch.ones(1, 1), Tanh(), torch.tensor([1e-6]), t_end_s=1e-6, dt_s=5e-8)
        >>> len(t), round(h[-1].item(), 4)
        (21, 0.6321)
    """
    n = u.shape[-1]
    if w.shape != (*u.shape[:-2], n, n) or tau_s.shape != (n,) or (h0 is not None and h0.shape != u.shape):
        raise EquilibriumError(
            f"integrate needs w (N, N), u (B, N), tau_s (N,), h0 like u; got {tuple(w.shape)}, {tuple(u.shape)}, "
            f"{tuple(tau_s.shape)}"
        )
    fastest = float(tau_s.min())
    if not 0.0 < dt_s <= fastest * (1 + 1e-9) or not 0.0 < t_end_s < math.inf:
        raise EquilibriumError(
            f"integrate: dt_s {dt_s:.3g} must be positive and at most the smallest tau_s {fastest:.3g} (RK4 is "
            f"inaccurate beyond), t_end_s {t_end_s:.3g} positive; tau_min / 20 is a good step"
        )
    steps = math.ceil(t_end_s / dt_s - 1e-9)
    dt = t_end_s / steps
    with torch.no_grad():
        transposed = w.mT
        rate = dt / tau_s.to(u)

        def slope(h: Tensor) -> Tensor:
            return (act.value(h) @ transposed + u - h) * rate

        h = torch.zeros_like(u) if h0 is None else h0.to(u)
        path = torch.empty((steps + 1, *u.shape), dtype=u.dtype, device=u.device)
        path[0] = h
        for k in range(steps):
            k1 = slope(h)
            k2 = slope(h + 0.5 * k1)
            k3 = slope(h + 0.5 * k2)
            k4 = slope(h + k3)
            h = h + (k1 + 2.0 * (k2 + k3) + k4) / 6.0
            path[k + 1] = h
        if not bool(torch.isfinite(h).all()):
            raise EquilibriumError(f"integrate: the trajectory is not finite at {t_end_s:.3g} s; is it stable?")
        t = torch.arange(steps + 1, dtype=torch.float64, device=u.device) * dt
    return t, path


def settling_time(
    t: Tensor,
    z: Tensor,
    z_final: Tensor,
    tol_fs: float,
    *,
    full_scale: float = 1.0,
    on_fail: Literal["raise", "mask"] = "raise",
) -> Tensor:
    """When each sample last enters the band ``|z - z_final| <= tol_fs * full_scale``, all nodes taken together.

    It is the *last* exit that counts, so ringing through the band is not mistaken for settling. Between the two points
    around it the deviation is taken as linear (time error about ``dt^2 / (8 tau)``); an excursion shorter than the
    spacing of ``t`` is not seen. Take ``z_final`` from ``equilibrium``, not from the end of the window.

    Args:
        t: (T,) in seconds, increasing.
        z: (T, B, N) trajectory of the states (or of any waveform), extra leading sample axes allowed.
        z_final: (B, N) the value settled to.
        tol_fs: half width of the band, as a fraction of full scale.
        full_scale: full scale in units of ``z``.
        on_fail: "raise", or "mask" to give samples that do not settle within the window as inf.

    Returns:
        (B,) seconds, float64; ``t[0]`` for a sample never outside the band. Never NaN.

    Raises:
        EquilibriumError: shapes or values are malformed, or a sample does not settle and ``on_fail`` is "raise".

    Example:
        >>> import torch
        >>> t = torch.linspace(0, 10, 10001, dtype=torch.float64)
        >>> z = 1 - torch.exp(-t)[:, None, None]
        >>> round(settling_time(t, z, torch.ones(1, 1), 0.01).item(), 4)  # ln(100)
        4.6052
    """
    if t.ndim != 1 or z.ndim < 3 or z.shape != (len(t), *z_final.shape) or len(t) < 2:
        raise EquilibriumError(
            f"settling_time needs t (T,), z (T, B, N), z_final (B, N); got {tuple(t.shape)}, {tuple(z.shape)}, "
            f"{tuple(z_final.shape)}"
        )
    band = tol_fs * full_scale
    if not band > 0.0 or on_fail not in ("raise", "mask") or not bool((t.diff() > 0).all()):
        raise EquilibriumError(
            f"settling_time: tol_fs {tol_fs} and full_scale {full_scale} must be positive, t increasing, "
            f"on_fail 'raise' or 'mask' (it is '{on_fail}')"
        )
    times = t.to(torch.float64)
    deviation = (z - z_final).to(torch.float64)
    if not bool(torch.isfinite(deviation).all()):
        raise EquilibriumError("settling_time: the waveform or its final value is not finite; check the run it is from")
    index = torch.arange(len(t), device=z.device).reshape(-1, *[1] * z_final.ndim)
    last = torch.where(deviation.abs() > band, index, -1).amax(0)
    # Nodes that were never outside, or are outside at the end, have no crossing: any valid index does for them here.
    at = last.clamp(0, len(t) - 2)
    before = deviation.gather(0, at[None])[0]
    after = deviation.gather(0, at[None] + 1)[0]
    # Signed in the direction of the exit: passing from +2 to -0.5 band widths crosses +1, not -1.
    sign = torch.sign(before)
    drop = (before - after) * sign
    part = torch.where(drop > 0, (before.abs() - band) / drop.clamp(min=torch.finfo(torch.float64).tiny), 0.0)
    crossing = times[at] + part * (times[at + 1] - times[at])
    crossing = torch.where(last < 0, times[0], crossing)
    crossing = torch.where(last == len(t) - 1, torch.inf, crossing)
    settled = crossing.amax(-1)
    if on_fail == "raise" and not bool(torch.isfinite(settled).all()):
        flat = int(torch.isinf(settled).reshape(-1).to(torch.int8).argmax())
        count = int(torch.isinf(settled).sum())
        worst = float(deviation[-1].abs().amax(-1).reshape(-1)[flat])
        raise EquilibriumError(
            f"settling_time: {count} of {settled.numel()} samples do not settle within {float(times[-1]):.3g} s; "
            f"sample {flat} ends {worst:.3g} from its final value, band {band:.3g}. "
            "Lengthen the window or check z_final"
        )
    return settled
