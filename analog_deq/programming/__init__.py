"""Programming and time: what a memristor's conductance is after it was written, waited and is read. No simulator."""

from analog_deq.programming.device import Programmed, program
from analog_deq.programming.statistics import DeviceStatistics, DriftLaw, ReadLaw, Spread, TemperatureLaw
from analog_deq.programming.write import acceptance, remaining_sigma, write_verify

__all__ = [
    "DeviceStatistics", "DriftLaw", "Programmed", "ReadLaw", "Spread", "TemperatureLaw", "acceptance", "program",
    "remaining_sigma", "write_verify",
]  # fmt: skip
