"""The mappings there are. A new one is its folder and one line here."""

from __future__ import annotations

from collections.abc import Mapping

from analog_deq.errors import SpecError
from analog_deq.mappings import gmc, memristor, opamp_integrator, rc, switched_cap
from analog_deq.mappings.mapping import Family, MappingKind
from analog_deq.spec import DesignSpec

KINDS: tuple[MappingKind, ...] = (
    opamp_integrator.MAPPING,
    rc.MAPPING,
    gmc.MAPPING,
    memristor.MAPPING,
    switched_cap.MAPPING,
)

MAPPINGS: Mapping[str, MappingKind] = {kind.name: kind for kind in KINDS}


def load_family(design: DesignSpec) -> Family:
    """The family of a design's mapping; SpecError names the known ones."""
    if design.mapping not in MAPPINGS:
        raise SpecError(f"mapping = {design.mapping!r}: no such mapping; known: {', '.join(MAPPINGS)}")
    return MAPPINGS[design.mapping].load(design)
