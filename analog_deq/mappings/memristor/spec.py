"""What the ``[family]`` table of a memristor design may say."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from analog_deq.errors import SpecError
from analog_deq.spec import DesignSpec, Finite, NonNegative, Positive


class MemristorSpec(BaseModel):
    """Cells, transimpedance amplifiers and scales of the family.

    z = 1 is ``z_unit_v`` on a word line, the read voltage; h = 1 is ``v_unit_v`` between the two amplifiers of a pair
    of columns. ``*_params`` are instance parameters of the cells. ``selector_ohm`` is in series with every device.

    ``age_s`` is the time since programming that everything is measured at; without it, the cell's own default.
    ``offset_left`` is the share of the op-amps' offsets that their auto-zero leaves. With ``read_noise`` a die's
    devices carry one draw of their noise of a single read. ``h_max`` and ``c_max`` bound the calibrated difference and
    mean of a pair's outputs, in units of h.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    synapse: str = "rram_hfox"
    opamp: str = "opamp_macro"
    activation: str = "pair_2in"
    driver: str = "driver_macro"
    opamp_params: dict[str, Finite] = Field(default_factory=dict)
    activation_params: dict[str, Finite] = Field(default_factory=dict)
    driver_params: dict[str, Finite] = Field(default_factory=dict)
    r_feedback_ohm: Positive
    c_feedback_f: Positive
    c_input_f: NonNegative = 0.2e-12
    z_unit_v: Positive = 0.1
    v_unit_v: Positive = 0.1
    selector_ohm: NonNegative = 0.0
    age_s: Positive | None = None
    offset_left: Annotated[float, Field(ge=0, le=1)] = 1.0
    read_noise: bool = True
    h_max: Positive = 4.0
    c_max: Positive = 4.0
    mismatch_dies: Annotated[int, Field(ge=16)] = 48


def read_family(design: DesignSpec) -> MemristorSpec:
    """The checked ``[family]`` table of a design; SpecError names each wrong key."""
    try:
        return MemristorSpec.model_validate(design.family)
    except ValidationError as error:
        lines = []
        for item in error.errors():
            key = ".".join(str(part) for part in item["loc"])
            mend = f"known here: {', '.join(MemristorSpec.model_fields)}" if item["type"] == "extra_forbidden" else ""
            lines.append(f"family.{key}: {item['msg']}" + (f"; {mend}" if mend else ""))
        raise SpecError("\n".join(lines)) from error
