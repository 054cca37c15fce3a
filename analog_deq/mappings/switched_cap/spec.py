"""What a design says of a switched-capacitor network: clock, capacitors, switches, calibration, tolerances."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from analog_deq.spec import Count, DesignSpec, Loads, NonNegative, Positive, validate

BOLTZMANN = 1.380649e-23


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Clock(_Frozen):
    """Two non-overlapping phases of ``phase_s`` each, ``gap_s`` between them, edges of ``edge_s``.

    Reset and master switches open ``early_s`` before the others: what those inject later then finds a charge that is
    already frozen (bottom-plate sampling: Haigh and Singh 1983).
    """

    phase_s: Positive = 100e-9
    gap_s: Positive = 4e-9
    edge_s: Positive = 0.5e-9
    early_s: Positive = 3e-9

    @model_validator(mode="after")
    def _ordered(self) -> Clock:
        if not 2 * self.edge_s <= min(self.gap_s, self.early_s) or not self.early_s <= self.phase_s / 4:
            raise ValueError("gap_s and early_s must be at least 2 edge_s, and early_s at most phase_s / 4")
        return self

    @property
    def period_s(self) -> float:
        return 2 * (self.phase_s + self.gap_s)

    @property
    def transfer_s(self) -> float:
        """From the start of the transfer phase to the instant the master samples."""
        return self.phase_s - self.early_s

    def read_s(self, period: int) -> float:
        """Instant at which readings of a period are taken: when the master samples, rows still driven."""
        return period * self.period_s + self.phase_s + self.gap_s + self.transfer_s


class Switches(_Frozen):
    """Behavioural transmission gates: a resistance when on, one when off, and what their clock couples in.

    ``c_feedthrough_f`` is the capacitance from clock to each terminal that complementary devices leave uncancelled,
    ``sigma_feedthrough`` its relative spread, ``c_gate_f`` what the clock driver charges for each switch.
    """

    r_on_ohm: Positive = 500.0
    r_reset_ohm: Positive = 100.0
    r_off_ohm: Positive = 1e12
    c_feedthrough_f: NonNegative = 0.25e-15
    sigma_feedthrough: NonNegative = 0.3
    c_gate_f: NonNegative = 20e-15


class Capacitors(_Frozen):
    """The array's units, the feedback, and the hold capacitors.

    A weight is 0 to ``units`` unit capacitors on one line of a differential row pair; unused ones are not connected.
    A capacitor C has the relative error ``matching_um / sqrt(C / density)``, Pelgrom's area law.
    """

    unit_f: Positive = 10e-15
    units: Count = 63
    feedback_f: Positive = 0.8e-12
    parasitic_f: NonNegative = 0.2e-12
    master_f: Positive = 1e-12
    slave_f: Positive = 0.25e-12
    density_f_per_um2: Positive = 2e-15
    matching_um: NonNegative = 0.01


class Plan(_Frozen):
    """What calibration measures of one neuron; ``loads_f`` are the array's capacitance at its summing node.

    A load hangs on so many rows as it has capacitors of ``mean_f``, each behind its switch. ``rows_f`` are capacitances
    of a row line, for the noise of a held state.
    """

    loads_f: Loads = (0.5e-12, 2e-12, 4e-12, 6e-12, 8e-12, 9.5e-12, 11e-12)
    h_max: Positive = 4.0
    drives: Annotated[int, Field(ge=7)] = 17
    points: Annotated[int, Field(ge=21)] = 161
    mean_f: Positive = 0.1e-12
    rows_f: Loads = (0.2e-12, 0.5e-12, 1e-12, 1.5e-12, 2.5e-12)
    periods: Annotated[int, Field(ge=5)] = 9
    biases_h: Annotated[tuple[float, ...], Field(min_length=7)] = (0.0, 0.3, 0.6, 0.9, 1.2, 1.6, 2.2)
    start_hz: Positive = 1e3
    stop_hz: Positive = 1e11
    per_decade: Annotated[int, Field(ge=10)] = 40
    dies: Annotated[int, Field(ge=8)] = 64

    @property
    def drives_h(self) -> tuple[float, ...]:
        """Drives from -h_max to h_max, evenly spaced."""
        step = 2 * self.h_max / (self.drives - 1)
        return tuple(-self.h_max + step * k for k in range(self.drives))


class Tolerances(_Frozen):
    """Largest held-out error of each fitted part."""

    transfer_h: Positive = 1e-3
    activation_fs: Positive = 1e-3
    settling: Positive = 0.05
    hold: Positive = 1e-3
    noise: Positive = 0.05
    mismatch_fs: Positive = 0.02


class Scales(_Frozen):
    """z = 1 is ``z_unit_v`` at each output of a driver, h = 1 is ``v_unit_v`` at the activation's input."""

    z_unit_v: Positive = 0.2
    v_unit_v: Positive = 0.16


class Settings(_Frozen):
    """The ``[family]`` table. Cells are shipped names or paths of a ``cell.toml``."""

    opamp: str = "opamp_macro"
    activation: str = "diffpair"
    driver: str = "driver_macro"
    scales: Scales = Scales()
    clock: Clock = Clock()
    switches: Switches = Switches()
    capacitors: Capacitors = Capacitors()
    plan: Plan = Plan()
    tolerances: Tolerances = Tolerances()

    @property
    def weight_per_farad(self) -> float:
        """Weight of one farad at an ideal op-amp: (z_unit / v_unit) / C_F."""
        return self.scales.z_unit_v / self.scales.v_unit_v / self.capacitors.feedback_f


def read_settings(design: DesignSpec) -> Settings:
    """The family's settings of a design; SpecError names the key that is wrong."""
    return validate(Settings, design.family, Path(f"design {design.name!r}, [family]"))
