"""Switched-capacitor array: a clocked, discrete-time iteration z' = sigma(W z + W_x x + c) by charge transfer.

Differential capacitor rows, one charge amplifier a neuron that is auto-zeroed every period, a transistor pair as
sigma, and two hold capacitors that share their charge (docs/mapping_switched_cap.md).
"""

from __future__ import annotations

from dataclasses import dataclass

from analog_deq.mappings.switched_cap.family import SwitchedCap
from analog_deq.spec import DesignSpec


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str = "switched_cap"
    title: str = "switched-capacitor array, clocked iteration"
    cannot: str = (
        "It computes in whole clock periods and needs a clock; every period samples kT/C and the auto-zeroed op-amp's "
        "full band. Its switches are behavioural (on-resistance, uncancelled clock feedthrough), not transistors."
    )

    def load(self, design: DesignSpec) -> SwitchedCap:
        return SwitchedCap.of(design)


MAPPING = _Kind()
"""The mapping, as ``registry.py`` lists it."""
