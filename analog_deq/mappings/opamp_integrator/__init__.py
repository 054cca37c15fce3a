"""Op-amp leaky integrator behind a resistive crossbar: the mapping whose stages the package's own modules are.

An adapter: it adds nothing to ``calibration``, ``fit``, ``train`` and ``verify`` but the protocol of a family, so that
the comparison of mappings treats all alike. ``analog-deq run`` of such a design goes the longer way, with trims, an
extracted die and every figure of the report.
"""

from __future__ import annotations

from analog_deq.errors import SpecError
from analog_deq.mappings.mapping import MappingKind
from analog_deq.mappings.opamp_integrator.family import OpampIntegrator
from analog_deq.spec import OPAMP_INTEGRATOR, DesignSpec


def _load(design: DesignSpec) -> OpampIntegrator:
    if design.scaling.mode != "none":
        raise SpecError(f'scaling.mode = "{design.scaling.mode}": only for a design of the default stages; use "none"')
    return OpampIntegrator.of(design)


MAPPING = MappingKind(
    name=OPAMP_INTEGRATOR,
    title="op-amp leaky integrator, resistive crossbar",
    cannot=(
        "An op-amp's offset times its noise gain dominates a die, so it needs a trim; every neuron draws an op-amp's "
        "current all the time."
    ),
    load=_load,
)
