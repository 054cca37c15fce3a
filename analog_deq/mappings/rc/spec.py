"""Settings of the passive RC network."""

from __future__ import annotations

from analog_deq.mappings.node.spec import NodeSettings
from analog_deq.spec import NonNegative, Positive


class RcSettings(NodeSettings):
    """A node with a capacitor and a resistor of ``g_leak_siemens`` to ground."""

    g_leak_siemens: Positive
    sigma_g_leak: NonNegative = 0.005

    @property
    def leak_siemens(self) -> float:
        return self.g_leak_siemens

    @property
    def sigma_leak(self) -> float:
        return self.sigma_g_leak
