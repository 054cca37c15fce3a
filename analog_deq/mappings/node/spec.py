"""Settings of a node family, from the design's ``[family]`` table."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from analog_deq.errors import SpecError
from analog_deq.spec import DesignSpec, NonNegative, Positive

HELD_H = (-2.5, -0.75, 1.25, 4.0)
"""Biases (in ``bias_v``) at which noise and admittance are measured but not fitted."""


TOLERANCE = {
    "activation": 1e-3, "load": 1e-3, "driver": 1e-3, "capacitance": 0.02, "step": 0.02, "path": 0.05, "noise": 0.05,
    "mismatch": 0.01,
}  # fmt: skip
"""Largest held-out error of each part: units of z, units of h, units of z, then relative; mismatch in units of z."""


class NodeSettings(BaseModel):
    """Parts, scales and calibration of one node neuron.

    z = 1 is ``z_unit_v`` at a driver output and at a DAC line, h = 1 is ``v_unit_v`` at the node. ``*_params`` override
    parameters of a cell. A passive node has weights that sum to less than ``z_unit_v / v_unit_v``; ``fill`` is the
    share of it that may be programmed. ``sigma_*`` are relative standard deviations of the passive parts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    c_node_f: Positive
    z_unit_v: Positive
    v_unit_v: Positive
    activation: str = "diffpair"
    activation_params: dict[str, float] = Field(default_factory=dict)
    driver: str = "driver_macro"
    synapse: str = "resistor_synapse"
    fill: Annotated[float, Field(gt=0, lt=1)] = 0.85
    sigma_c: NonNegative = 0.005
    points: Annotated[int, Field(ge=41)] = 241
    driver_loads_siemens: Annotated[tuple[Positive, ...], Field(min_length=2)] = (1e-3, 2e-3, 4e-3)
    dies: Annotated[int, Field(ge=8)] = 96

    @property
    def load(self) -> str | None:
        """Name of the OTA whose output is tied back to its inverting input at the node, or None."""
        return None

    @property
    def load_params(self) -> dict[str, float]:
        """Parameters of that OTA."""
        return {}

    @property
    def leak_siemens(self) -> float:
        """Conductance of a resistor from the node to ground; 0 for none."""
        return 0.0

    @property
    def sigma_leak(self) -> float:
        """Its relative standard deviation."""
        return 0.0

    @property
    def ratio(self) -> float:
        """Bound on the sum of a neuron's weights: unit voltage of the rows over unit voltage of the node."""
        return self.z_unit_v / self.v_unit_v

    @property
    def bias_v(self) -> float:
        """Step of the biases that calibration visits: one unit of h, or a fifth of the rows' reach."""
        return min(self.v_unit_v, self.z_unit_v / 5)


Settings = TypeVar("Settings", bound=NodeSettings)


def read_settings(model: type[Settings], design: DesignSpec) -> Settings:
    """The design's ``[family]`` table as ``model``; SpecError names the wrong key. Class A only."""
    if design.certificate.weight_class != "A":
        raise SpecError(
            f"certificate.weight_class = {design.certificate.weight_class!r}: the mapping {design.mapping!r} certifies "
            'only class "A"'
        )
    try:
        return model.model_validate(_tuples(design.family))
    except ValidationError as error:
        lines = [f"family.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise SpecError("; ".join(lines)) from error


def _tuples(content: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
