"""Rows of the sheet that are a quantity of one cell: which measurement of :mod:`analog_deq.characterise` gives each.

A new row of this kind is one line of ``CELL_ROWS``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from analog_deq.characterise.measurement import Quantity
from analog_deq.characterise.registry import measurements_of

AMPLIFIER = "opamp"
Statistic = Literal["worst", "bound", "sd"]


@dataclass(frozen=True, slots=True)
class CellRow:
    """One id of the sheet: quantities of one ``measurement`` of the cell in a slot of the design.

    ``statistic`` says what stands for a corner: the ``worst`` value of the nominal cell there, whatever else it was
    measured at; over mismatch dies a ``bound`` of the magnitude that nearly all keep, or the standard deviation ``sd``,
    of the level where it is largest and in per cent of the design's largest conductance.
    """

    id: str
    slot: str
    measurement: str
    quantities: tuple[str, ...]
    statistic: Statistic = "worst"

    def declared(self, role: str) -> Quantity:
        """The quantity as the measurement of a cell of that role declares it; all of a row agree in unit and end."""
        (measurement,) = measurements_of(role, (self.measurement,))
        return next(q for q in measurement.quantities if q.id == self.quantities[0])


CELL_ROWS: tuple[CellRow, ...] = (
    CellRow("cell.dc_gain", AMPLIFIER, "open_loop", ("dc_gain",)),
    CellRow("cell.gbw", AMPLIFIER, "open_loop", ("gbw",)),
    CellRow("cell.pm", AMPLIFIER, "open_loop", ("phase_margin",)),
    CellRow("cell.slew_r", AMPLIFIER, "step_response", ("slew_rise",)),
    CellRow("cell.slew_f", AMPLIFIER, "step_response", ("slew_fall",)),
    CellRow("cell.settle_0p1", AMPLIFIER, "step_response", ("settle_0p1",)),
    CellRow("cell.settle_0p01", AMPLIFIER, "step_response", ("settle_0p01",)),
    CellRow("cell.offset", AMPLIFIER, "static", ("offset",), "bound"),
    CellRow("cell.swing_hi", AMPLIFIER, "static", ("swing_high",)),
    CellRow("cell.swing_lo", AMPLIFIER, "static", ("swing_low",)),
    CellRow("cell.noise_density", AMPLIFIER, "noise", ("input_noise_density",)),
    CellRow("cell.noise_rms", AMPLIFIER, "noise", ("input_noise_rms",)),
    CellRow("cell.psrr", AMPLIFIER, "rejection", ("psrr_vdd", "psrr_vss")),
    CellRow("cell.cmrr", AMPLIFIER, "rejection", ("cmrr",)),
    CellRow("cell.power", AMPLIFIER, "static", ("supply_power",)),
    CellRow("cell.driver_gain_error", "driver", "transfer", ("gain_error",)),
    CellRow("cell.driver_offset", "driver", "transfer", ("input_offset",), "bound"),
    CellRow("cell.driver_swing_hi", "driver", "transfer", ("swing_high",)),
    CellRow("cell.driver_swing_lo", "driver", "transfer", ("swing_low",)),
    CellRow("cell.driver_bandwidth", "driver", "bandwidth", ("bandwidth",)),
    CellRow("cell.driver_impedance", "driver", "impedance", ("output_impedance",)),
    CellRow("cell.driver_noise_rms", "driver", "noise", ("noise_rms",)),
    CellRow("cell.driver_power", "driver", "power", ("supply_power",)),
    CellRow("cell.activation_slope", "activation", "transfer", ("slope",)),
    CellRow("cell.activation_hi", "activation", "transfer", ("saturation_high",)),
    CellRow("cell.activation_lo", "activation", "transfer", ("saturation_low",)),
    CellRow("cell.activation_offset", "activation", "transfer", ("input_offset",), "bound"),
    CellRow("cell.activation_backslide", "activation", "transfer", ("backslide",)),
    CellRow("cell.activation_bandwidth", "activation", "bandwidth", ("bandwidth",)),
    CellRow("cell.activation_noise_rms", "activation", "noise", ("noise_rms",)),
    CellRow("cell.activation_power", "activation", "power", ("supply_power",)),
)

SYNAPSE_ROWS: tuple[CellRow, ...] = (
    CellRow("syn.nonlin", "synapse", "linearity", ("nonlinearity",)),
    CellRow("syn.sigma_g", "synapse", "conductance", ("conductance",), "sd"),
)
