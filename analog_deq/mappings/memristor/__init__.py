"""Memristor crossbar between single-ended word lines and pairs of transimpedance amplifiers; no integrator.

``spec`` holds the settings, ``netlist`` the circuit, ``calibration`` and ``fitting`` lead to the ``proxy``, ``closure``
and ``dynamics`` are its physics, ``model`` trains on it, ``lower`` writes the decks. docs/mapping_memristor.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from analog_deq.mappings.memristor.family import MemristorFamily
from analog_deq.spec import DesignSpec


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str = "memristor"
    title: str = "memristor crossbar, transimpedance amplifiers"
    cannot: str = (
        "Every bit line carries a sum of currents, not a difference: the mean of a pair moves with all inputs and "
        "takes swing from its two amplifiers. Without an integrator nothing filters: noise has the amplifiers' "
        "bandwidth, and devices are as exact as they were programmed, with no trim of a neuron."
    )

    def load(self, design: DesignSpec) -> MemristorFamily:
        return MemristorFamily.of(design)


MAPPING = _Kind()
