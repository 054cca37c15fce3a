"""Noise of the clocked loop: what one period draws, and its stationary covariance by the discrete Lyapunov equation."""

from __future__ import annotations

import torch
from torch import Tensor

from analog_deq.errors import EquilibriumError
from analog_deq.mappings.switched_cap.closure import time_constant
from analog_deq.mappings.switched_cap.fit import SwitchedCapProxy
from analog_deq.mappings.switched_cap.proxy import ChargeMap
from analog_deq.mappings.switched_cap.spec import Settings

MAX_DOUBLINGS = 40


def period_covariance(jacobian: Tensor, drawn: Tensor) -> Tensor:
    """Stationary covariance ``C = J C J^T + Q`` (..., N, N) of ``w' = J w + noise`` with covariance Q a period.

    Smith's doubling, C <- C + J C J^T, J <- J^2 (Smith 1968). EquilibriumError when J is not a contraction.
    """
    c, f = drawn, jacobian
    for _ in range(MAX_DOUBLINGS):
        c = c + f @ c @ f.mT
        f = f @ f
        size = float(f.detach().abs().amax())
        if not size < 1e12:
            break
        if size * size * f.shape[-1] < 1e-18:
            return 0.5 * (c + c.mT)
    raise EquilibriumError("period_covariance: the clocked map is no contraction; there is no stationary noise")


def period_noise(
    settings: Settings, proxy: SwitchedCapProxy, map_: ChargeMap, slope: Tensor, share: Tensor
) -> tuple[Tensor, Tensor]:
    """Jacobian J and drawn covariance Q (..., N, N) of one period, for slopes (..., N) = dz/dh and shares a (..., N).

    A period draws (a) the charge frozen when the reset switch opens, kT C and the op-amp's noise, over C_F; (b) the
    op-amp's and the switches' noise in v when the master samples; (c) the noise of the held states' own stages, white
    over the transfer's bandwidth 1/(4 tau), through W; (d) the sharing, kT C_M / (C_S (C_M + C_S)). (a)-(c) enter
    with the share a. Variances of (a), (b), (d) as measured a phase; Gregorian and Temes 1986, ch. 7.
    """
    part, unit = settings.capacitors, settings.scales.v_unit_v
    total = map_.load.detach() + part.feedback_f + part.parasitic_f
    charge, master = proxy.noise["charge"].values, proxy.noise["master"].values
    frozen = (charge["per_f"] * total + charge["per_f2"] * total**2) / part.feedback_f**2
    sampled = master["constant_v2"] + master["per_f"] * total
    own = (frozen + sampled) / unit**2
    w = map_.w_state.detach()
    tau = torch.as_tensor(time_constant(map_.load.detach().numpy(), proxy.settling), dtype=w.dtype)
    white = slope_form(proxy.noise["state"].values, slope)
    through = (w * white[..., None, :]) @ w.mT / (2 * (tau[:, None] + tau))
    shared = proxy.noise["share"].values["constant_v2"] / unit**2
    eye = torch.eye(len(w), dtype=w.dtype)
    drawn = share[..., :, None] * share[..., None, :] * (torch.diag(own) + through) + shared * eye
    return (1 - share)[..., None] * eye + share[..., None] * w * slope[..., None, :], drawn


def slope_form(values: dict[str, float], slope: Tensor) -> Tensor:
    """a + b s + c s^2 with s = |slope|; never below 0, since fitted coefficients are signed."""
    s = slope.abs()
    return (values["constant"] + values["per_slope"] * s + values["per_slope2"] * s.square()).clamp(min=0.0)


def reading_covariance(
    settings: Settings, proxy: SwitchedCapProxy, map_: ChargeMap, slope: Tensor, share: Tensor
) -> Tensor:
    """Covariance (..., N, N) of the readings at one sampling instant, units of z squared; see :func:`period_noise`."""
    c = period_covariance(*period_noise(settings, proxy, map_, slope, share))
    row = proxy.noise["row"].values
    wide = slope_form(row, slope) / (1 + map_.row_load.detach() / row["c0_f"])
    return slope[..., :, None] * c * slope[..., None, :] + torch.diag_embed(wide)
