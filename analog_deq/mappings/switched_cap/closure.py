"""Closed forms of the charge amplifier, shared by fit and proxy."""

from __future__ import annotations

import numpy as np

from analog_deq.fit.parameters import Form
from analog_deq.mappings.switched_cap.spec import Settings

Array = np.ndarray


def closure(load_f: Array | float, inverse_a0: float, settings: Settings) -> Array | float:
    """Gain of the charge amplifier, ``1 / (1 + (1 + (C + C_P) / C_F) / A0)``, for an array capacitance C.

    Charge conservation at the summing node with s = vos - v/A0 in both phases (Gregorian and Temes 1986).
    """
    part = settings.capacitors
    return 1 / (1 + (1 + (load_f + part.parasitic_f) / part.feedback_f) * inverse_a0)


def unsettled(load_f: Array | float, settling: Form, transfer_s: float) -> Array:
    """Share of the step still missing when the master samples, ``exp(-(t - t0) / tau(C))``."""
    values = settling.values
    return np.exp(-(transfer_s - values["delay_s"]) / time_constant(load_f, settling))


def time_constant(load_f: Array | float, settling: Form) -> Array:
    """Time constant of the transfer phase, linear in the load: about (1 + (C + C_P) / C_F) / (2 pi GBW)."""
    values = settling.values
    return np.asarray(values["tau0_s"] + values["tau_load_s_per_f"] * np.asarray(load_f))
