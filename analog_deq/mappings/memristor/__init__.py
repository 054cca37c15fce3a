"""Memristor crossbar between single-ended word lines and pairs of transimpedance amplifiers; no integrator.

``spec`` holds the settings, ``netlist`` the circuit, ``calibration`` and ``fitting`` lead to the ``proxy``, ``closure``
and ``dynamics`` are its physics, ``model`` trains on it, ``lower`` writes the decks. docs/mapping_memristor.md.
"""

from __future__ import annotations

from analog_deq.mappings.mapping import MappingKind
from analog_deq.mappings.memristor.family import MemristorFamily

MAPPING = MappingKind(
    name="memristor",
    title="memristor crossbar, transimpedance amplifiers",
    cannot=(
        "Every bit line carries a sum of currents, not a difference: the mean of a pair moves with all inputs and "
        "takes swing from its two amplifiers. Without an integrator nothing filters: noise has the amplifiers' "
        "bandwidth, and devices are as exact as they were programmed, with no trim of a neuron."
    ),
    load=MemristorFamily.of,
)
