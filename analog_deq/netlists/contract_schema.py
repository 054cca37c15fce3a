"""What a `cell.toml` may say, format version 1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from analog_deq.programming.statistics import DriftLaw, ReadLaw, TemperatureLaw

ROLES: Mapping[str, tuple[str, ...]] = {
    "opamp": ("in_p", "in_n", "out", "vdd", "vss"),
    "ota": ("in_p", "in_n", "out", "vdd", "vss"),
    "integrator": ("in", "out", "ref", "vdd", "vss"),
    "summer": ("in", "out", "ref", "vdd", "vss"),
    "activation": ("in", "out_p", "out_n", "vdd", "vss"),
    "driver": ("in_p", "in_n", "out_p", "out_n", "vdd", "vss"),
    "synapse": ("row", "col"),
}
"""Pins a role knows. ``out`` of an op-amp or OTA rises with ``in_p - in_n``; ``out_p - out_n`` of an activation or
driver rises with ``in`` (``in_p - in_n``); ``in`` of an integrator or summer is a virtual ground, at ``ref``."""

OPTIONAL_PINS: Mapping[str, tuple[str, ...]] = {
    "opamp": ("vdd", "vss"),
    "ota": ("vdd", "vss"),
    "integrator": ("ref", "vdd", "vss"),
    "summer": ("ref", "vdd", "vss"),
    "activation": ("out_n", "vdd", "vss"),
    "driver": ("vdd", "vss"),
    "synapse": (),
}
"""Pins a cell may lack: an ideal op-amp has no supply, a diode limiter neither supply nor a second output."""

RoleName = Literal["opamp", "ota", "integrator", "summer", "activation", "driver", "synapse"]

Array = np.ndarray
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CellSection(_Frozen):
    """What the cell is, where its netlist lies (a file beside the contract), where its numbers come from and hold."""

    # a name is written into decks: a line break in it would begin a line of its own, and ngspice runs commands
    name: Annotated[str, Field(pattern=r"^[ -~]+$")]
    role: RoleName
    netlist: str
    subckt: str
    license: str = ""
    description: str = ""
    source: str = ""
    validity: str = ""


DRAW_REACH = 5.0
"""Mismatch draws are truncated at this many standard deviations (``analog_deq.draws``)."""


class ParameterSpec(_Frozen):
    """One instance parameter: its unit, the netlist's default, and the range an instance may use."""

    unit: str
    default: Finite
    min: Finite
    max: Finite
    description: str = ""


class StateSpec(_Frozen):
    """What the trainer programs: the parameter it goes to, range, and number of levels (0: analogue)."""

    param: str
    unit: str
    min: Finite
    max: Finite
    levels: Annotated[int, Field(ge=0)] = 0


class MismatchParameter(_Frozen):
    """Distribution of one parameter over instances; ``relative``: a fraction of the nominal quantity (unit 1).

    Exactly one form gives the standard deviation, in the parameter's unit: ``sigma`` for all instances,
    ``sigma_poly`` = [c0, c1, ...] for c0 + c1 r + ..., ``sigma_log`` = [a, b, low, high] for a + b ln r clipped to
    low..high, where r is the programmed state over ``state.g.max``.
    """

    distribution: Literal["normal"]
    sigma: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    sigma_poly: Annotated[tuple[Finite, ...], Field(min_length=1)] | None = None
    sigma_log: tuple[Finite, Finite, Finite, Finite] | None = None
    unit: str
    relative: bool

    @model_validator(mode="after")
    def _one_form(self) -> MismatchParameter:
        given = [name for name in ("sigma", "sigma_poly", "sigma_log") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of sigma, sigma_poly, sigma_log (here: {', '.join(given) or 'none'})")
        return self

    def sigma_at(self, share: Array | float = 1.0) -> Array:
        """Standard deviation at ``share`` = state / state.max, same shape; never negative."""
        r = np.asarray(share, dtype=float)
        if self.sigma_poly is not None:
            value = np.polynomial.polynomial.polyval(r, self.sigma_poly)
        elif self.sigma_log is not None:
            a, b, low, high = self.sigma_log
            value = np.clip(a + b * np.log(r), low, high)
        else:
            value = np.full(r.shape, self.sigma)
        return np.maximum(value, 0.0)

    @property
    def largest(self) -> float:
        """Largest standard deviation over states of 0.1 to 100 % of the maximum."""
        return float(np.max(self.sigma_at(np.linspace(1e-3, 1.0, 1001))))


class MismatchSwitch(_Frozen):
    """Parameter of the model library that turns its own mismatch on."""

    param: str
    on: Finite = 1.0
    off: Finite = 0.0


class MismatchSection(_Frozen):
    """How instances differ.

    ``params``: drawn outside, one value per instance and die. ``section``: the model library's own mismatch section,
    named corner section + ``suffix``. ``switch``: a parameter of the library turns its mismatch on. ``none``: the cell
    models no mismatch. Under ``section`` and ``switch``, ``params`` may give the lumped equivalent that networks draw.
    """

    mode: Literal["params", "section", "switch", "none"]
    suffix: str = "_mm"
    switch: MismatchSwitch | None = None
    params: dict[str, MismatchParameter] = Field(default_factory=dict)


class ReadNoise(_Frozen):
    """Read noise the netlist does not carry: ``sigma`` of one read's current, relative."""

    kind: Literal["relative_read"]
    sigma: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class NoiseSection(_Frozen):
    """``native``: the netlist's own devices carry its noise; false: the cell is noiseless and reports say so.

    A synapse read for ``read_s`` at ``wait_s`` after programming is integrated from 1 / (wait_s + read_s) to
    1 / (2 read_s); ``extra`` is added to that in quadrature.
    """

    native: bool
    extra: ReadNoise | None = None
    read_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 250e-9
    wait_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0


class DriftSection(_Frozen):
    """Change of the state with time: ``param`` takes the time since programming, measured at ``times_s``."""

    param: str
    times_s: Annotated[tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...], Field(min_length=1)]


class DeviceSection(_Frozen):
    """What a design's ``[programming]`` draws from beside ``mismatch``: smallest conductance (S), read noise, drift.

    The spread of the programming error is that of the mismatch parameter ``dg``, that of the drift the one of the
    parameter its law names.
    """

    floor: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    read: ReadLaw | None = None
    drift: DriftLaw | None = None


class Tie(_Frozen):
    """Where a pin that is no role pin goes: a wire to ``from``, or an ideal source.

    A current source pushes ``value`` from ``from`` into the pin, a voltage source holds the pin ``value`` above it. In
    TOML a wire is just its end: ``bias = "vdd"``.
    """

    source: Literal["wire", "current", "voltage"]
    origin: Literal["vdd", "vss", "0"] = Field(default="0", alias="from")
    value: Finite = 0.0

    @model_validator(mode="before")
    @classmethod
    def _wire(cls, given: object) -> object:
        if isinstance(given, str):
            if given not in {"vdd", "vss", "0"}:
                raise ValueError(
                    'a pin is tied to "vdd", "vss", "0", or { source = "current", from = "vdd", value = 1e-5 }'
                )
            return {"source": "wire", "from": given}
        return given


class ModelsSection(_Frozen):
    """Device models of a library: a path beside the contract, ``$VARIABLE/path`` or ``package:NAME/path``."""

    lib: str
    ngbehavior: Literal["hs", "hsa", "ps", "psa", "lt", "lta", "ltps", "ltpsa", "ki", "kia"] | None = None
    nomodcheck: bool = False

    @property
    def arguments(self) -> tuple[str, ...]:
        """Definitions ngspice is started with."""
        behaviour = () if self.ngbehavior is None else (f"ngbehavior={self.ngbehavior}",)
        return (*behaviour, *(("ng_nomodcheck",) if self.nomodcheck else ()))


class ProcessCorner(_Frozen):
    """A process corner: the ``section`` of the model library, or ``params`` of the cell that make it."""

    section: str | None = None
    params: dict[str, Finite] = Field(default_factory=dict)


CONDITIONS = {
    "vdd": "V", "vss": "V", "temp": "C", "load": "F", "load_r": "ohm", "in_cm": "V", "out_cm": "V", "in_range": "V",
    "step": "V", "read": "V", "source_r": "ohm", "gain": "V/V",
}  # fmt: skip
"""Unit of each condition that a measurement reads."""
ABSOLUTE_ZERO_CELSIUS = -273.15
TEMPERATURE_PARAMS = ("tc1", "tc2")
"""Parameters of a cell that take the two coefficients of its law of temperature, in 1/K and 1/K^2 about 27 C."""


class Condition(_Frozen):
    """Range a supply, temperature or load may take: one of ``CONDITIONS``, in its unit."""

    typ: Finite
    unit: str
    min: Finite | None = None
    max: Finite | None = None


class CellContract(_Frozen):
    """Content of a ``cell.toml``, format version 1."""

    version: Literal[1] = Field(alias="schema")
    cell: CellSection
    pins: dict[str, str]
    mismatch: MismatchSection
    noise: NoiseSection
    tie: dict[str, Tie] = Field(default_factory=dict)
    models: ModelsSection | None = None
    corners: dict[Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9]*$")], ProcessCorner] = Field(default_factory=dict)
    drift: DriftSection | None = None
    device: DeviceSection | None = None
    temperature: TemperatureLaw | None = None
    params: dict[str, ParameterSpec] = Field(default_factory=dict)
    state: dict[str, StateSpec] = Field(default_factory=dict)
    conditions: dict[str, Condition] = Field(default_factory=dict)
