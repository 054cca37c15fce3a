"""The array's exact effective map: capacitors and the charge amplifier's closure, differentiable."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from analog_deq.mappings.switched_cap.fit import SwitchedCapProxy
from analog_deq.mappings.switched_cap.spec import Settings


@dataclass(frozen=True, slots=True)
class ChargeMap:
    """h = w_state z + w_input x + bias, and capacitances (N,) in farads: the array's at each summing node, and that of
    a line of each state's row pair, the mean of the two.
    """

    w_state: Tensor
    w_input: Tensor
    bias: Tensor
    load: Tensor
    row_load: Tensor


def charge_map(
    settings: Settings, proxy: SwitchedCapProxy, c: Tensor, inputs: int, feedback: Tensor | float = 0.0
) -> ChargeMap:
    """The exact map of capacitors ``c`` (2, inputs + 1 + N, N), in farads; differentiable.

    Charge conservation between the instant the reset switch opens and the end of the transfer:

        h = (1 - e) [weight_per_farad (C+ - C-)^T (x, 1, z) + q / (C_F v_unit)] / (1 + (1 + (C_T + C_P) / C_F) / A0)

    with C_T all that hangs on the column, e the share not yet settled, q the charge of the opening reset switch.
    ``feedback`` (N,) is the relative error of each C_F.
    """
    part, values = settings.capacitors, proxy.amplifier.values
    load = c.sum((0, 1))
    row_load = c[:, inputs + 1 :].sum((0, 2)) / 2
    c_f = part.feedback_f * (1 + torch.as_tensor(feedback, dtype=c.dtype))
    settled = proxy.settling.values
    tau = settled["tau0_s"] + settled["tau_load_s_per_f"] * load
    done = 1 - torch.exp(-(settings.clock.transfer_s - settled["delay_s"]) / tau)
    gain = done / (1 + (1 + (load + part.parasitic_f) / c_f) * values["inverse_a0"])
    unit = settings.scales.v_unit_v
    rows = (c[0] - c[1]) * settings.scales.z_unit_v / (unit * c_f) * gain
    offset = values["charge_c"] / (c_f * unit) * gain
    return ChargeMap(rows[inputs + 1 :].T, rows[:inputs].T, rows[inputs] + offset, load, row_load)
