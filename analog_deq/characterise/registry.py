"""Every measurement of a cell, in datasheet order. A new one is its file and a line here."""

from __future__ import annotations

from analog_deq.characterise.measurement import AbstractCellMeasurement
from analog_deq.characterise.measurements.activation_dependence import ActivationDependence
from analog_deq.characterise.measurements.activation_transfer import ActivationTransfer
from analog_deq.characterise.measurements.amplifier_noise import AmplifierNoise
from analog_deq.characterise.measurements.bandwidth import Bandwidth
from analog_deq.characterise.measurements.conductance import Conductance
from analog_deq.characterise.measurements.current_transfer import CurrentTransfer
from analog_deq.characterise.measurements.drift import Drift
from analog_deq.characterise.measurements.driver_rejection import DriverRejection
from analog_deq.characterise.measurements.driver_transfer import DriverTransfer
from analog_deq.characterise.measurements.impedance import Impedance
from analog_deq.characterise.measurements.integration import Integration
from analog_deq.characterise.measurements.linearity import ReadLaw
from analog_deq.characterise.measurements.open_loop import OpenLoop
from analog_deq.characterise.measurements.output_noise import OutputNoise
from analog_deq.characterise.measurements.path_step import PathStep
from analog_deq.characterise.measurements.port_impedance import CurrentPorts, VoltagePorts
from analog_deq.characterise.measurements.read_noise import ReadNoise
from analog_deq.characterise.measurements.rejection import Rejection
from analog_deq.characterise.measurements.rest_power import RestPower
from analog_deq.characterise.measurements.static import Static
from analog_deq.characterise.measurements.step_response import StepResponse
from analog_deq.characterise.measurements.temperature_coefficient import TemperatureCoefficient
from analog_deq.errors import SpecError

MEASUREMENTS: tuple[AbstractCellMeasurement, ...] = (
    OpenLoop(),
    Static(),
    StepResponse(),
    Rejection(),
    AmplifierNoise(),
    Impedance(),
    Bandwidth(),
    ActivationTransfer(),
    ActivationDependence(),
    DriverTransfer(),
    CurrentTransfer(),
    Integration(),
    PathStep(),
    DriverRejection(),
    OutputNoise(),
    RestPower(),
    VoltagePorts(),
    CurrentPorts(),
    Conductance(),
    ReadLaw(),
    TemperatureCoefficient(),
    ReadNoise(),
    Drift(),
)


def measurements_of(role: str, names: tuple[str, ...] = ()) -> tuple[AbstractCellMeasurement, ...]:
    """Measurements that fit a role, or those of them called ``names``. SpecError lists the known names."""
    fitting = tuple(m for m in MEASUREMENTS if role in m.roles)
    known = [m.name for m in fitting]
    for name in names:
        if name not in known:
            raise SpecError(f"--measure {name}: no such measurement of the role {role}; known: {', '.join(known)}")
    return tuple(m for m in fitting if not names or m.name in names)
