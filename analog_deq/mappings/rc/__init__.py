"""Passive RC nodes: the array's columns end on capacitors, a transistor pair reads each node, drivers feed the rows.

``C ds/dt = -(Y' + g_leak) s + sum of row voltages times conductances``: a voltage divider that remembers, no op-amp.
"""

from __future__ import annotations

from dataclasses import dataclass

from analog_deq.mappings.node.family import NodeFamily
from analog_deq.mappings.node.spec import read_settings
from analog_deq.mappings.rc.spec import RcSettings
from analog_deq.spec import DesignSpec


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str = "rc"
    title: str = "passive RC node, transistor-pair activation"
    cannot: str = (
        "A divider's weights sum to less than the gain of the activation, so a neuron cannot have many large weights; "
        "its time constant is C over the node's conductance and changes with the weights."
    )

    def load(self, design: DesignSpec) -> NodeFamily:
        return NodeFamily.of(design, read_settings(RcSettings, design))


MAPPING = _Kind()
