"""gm-C: the columns' currents enter nodes loaded by OTAs on transistor models, a transistor pair reads each node.

``C ds/dt = -i_ota(s) - Y' s + sum of row voltages times conductances``; the OTA's curve is in the proxy as measured.
"""

from __future__ import annotations

from analog_deq.mappings.gmc.spec import GmcSettings
from analog_deq.mappings.mapping import MappingKind
from analog_deq.mappings.node.family import NodeFamily
from analog_deq.mappings.node.spec import read_settings
from analog_deq.spec import DesignSpec


def _load(design: DesignSpec) -> NodeFamily:
    return NodeFamily.of(design, read_settings(GmcSettings, design))


MAPPING = MappingKind(
    name="gmc",
    title="gm-C, OTA loads on transistor models",
    cannot=(
        "The OTA gives no more than its tail current, so a node that is driven harder is held by the array alone and "
        "weights compress; its offset moves every state, and nothing trims it."
    ),
    load=_load,
)
