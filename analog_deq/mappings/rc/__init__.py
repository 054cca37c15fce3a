"""Passive RC nodes: the array's columns end on capacitors, a transistor pair reads each node, drivers feed the rows.

``C ds/dt = -(Y' + g_leak) s + sum of row voltages times conductances``: a voltage divider that remembers, no op-amp.
"""

from __future__ import annotations

from analog_deq.mappings.mapping import MappingKind
from analog_deq.mappings.node.family import NodeFamily
from analog_deq.mappings.node.spec import read_settings
from analog_deq.mappings.rc.spec import RcSettings
from analog_deq.spec import DesignSpec


def _load(design: DesignSpec) -> NodeFamily:
    return NodeFamily.of(design, read_settings(RcSettings, design))


MAPPING = MappingKind(
    name="rc",
    title="passive RC node, transistor-pair activation",
    cannot=(
        "A divider's weights sum to less than the gain of the activation, so a neuron cannot have many large weights; "
        "its time constant is C over the node's conductance and changes with the weights."
    ),
    load=_load,
)
