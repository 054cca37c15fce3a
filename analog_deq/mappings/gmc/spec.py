"""Settings of the gm-C network."""

from __future__ import annotations

from pydantic import Field

from analog_deq.mappings.node.spec import NodeSettings


class GmcSettings(NodeSettings):
    """A node with a capacitor and an OTA whose output is tied back to its inverting input: a conductance of gm."""

    ota: str = "ota_5t"
    ota_params: dict[str, float] = Field(default_factory=dict)

    @property
    def load(self) -> str | None:
        return self.ota

    @property
    def load_params(self) -> dict[str, float]:
        return self.ota_params
