"""Switched-capacitor array: a clocked, discrete-time iteration z' = sigma(W z + W_x x + c) by charge transfer.

Differential capacitor rows, one charge amplifier a neuron that is auto-zeroed every period, a transistor pair as
sigma, and two hold capacitors that share their charge (docs/mapping_switched_cap.md).
"""

from __future__ import annotations

from analog_deq.mappings.mapping import MappingKind
from analog_deq.mappings.switched_cap.family import SwitchedCap

MAPPING = MappingKind(
    name="switched_cap",
    title="switched-capacitor array, clocked iteration",
    cannot=(
        "It computes in whole clock periods and needs a clock; every period samples kT/C and the auto-zeroed op-amp's "
        "full band. Its switches are behavioural (on-resistance, uncancelled clock feedthrough), not transistors."
    ),
    load=SwitchedCap.of,
)
