"""What people write: designs and calibration plans, read from TOML into frozen, checked objects."""

from __future__ import annotations

import math
import operator
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from analog_deq.errors import SpecError

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]
Loads = Annotated[tuple[Positive, ...], Field(min_length=3)]
"""Load axes: at least three values, since every second one is held out and the ends are trained on."""


GRADIENT_PATHS = r"^(same|dense|gmres|(neumann|unroll)\([1-9][0-9]*\)|nudge\([0-9.e-]+\))$"
OPAMP_INTEGRATOR = "opamp_integrator"
"""The mapping whose cells, plan and trim a design spells out itself."""
BOTH_WORD_ENDS = (OPAMP_INTEGRATOR, "rc", "gmc")
"""Mappings whose rows may be fed from both ends."""

GradientPath = Annotated[str, Field(pattern=GRADIENT_PATHS)]
"""How training differentiates an equilibrium, as ``equilibrium(..., adjoint=)`` names it."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Sizes(_Frozen):
    """Dimensions of the network: inputs x, states z (one neuron each), outputs of the readout.

    A file may call the outputs of a classifier ``classes``.
    """

    inputs: Count
    states: Annotated[int, Field(gt=1)]
    outputs: Annotated[int, Field(gt=1, validation_alias=AliasChoices("outputs", "classes"))]


class TaskOptions(_Frozen):
    """Which instance of a generated task, by its seed, and how many of its last samples are the test."""

    instance: Annotated[int, Field(ge=0)] = 0
    test_samples: Annotated[int, Field(ge=2, le=400)] = 400


class Operating(_Frozen):
    """Supply rails and temperature."""

    vdd_v: Positive = 0.9
    vss_v: Annotated[float, Field(lt=0, allow_inf_nan=False)] = -0.9
    temperature_celsius: Annotated[float, Field(ge=-55, le=150, allow_inf_nan=False)] = 27.0


class Cells(_Frozen):
    """Cell of each slot: the name of a shipped cell or the path of a ``cell.toml``.

    With an ``integrator`` the op-amp and its feedback are not used: that cell takes their place.
    """

    opamp: str = "opamp_macro"
    activation: str = "diffpair"
    driver: str = "driver_macro"
    synapse: str = "resistor_synapse"
    integrator: str | None = None


class Neuron(_Frozen):
    """Passive parts and scales of one neuron: z = 1 is ``z_unit_v`` at a driver output, h = 1 is ``v_unit_v``."""

    r_feedback_ohm: Positive
    c_feedback_f: Positive
    c_input_f: NonNegative = 0.2e-12
    z_unit_v: Positive = 0.2
    v_unit_v: Positive = 0.16


class Crossbar(_Frozen):
    """Programmable conductances and the parasitic resistances of the array.

    ``levels`` is the number of programmable conductance values from ``g_min`` to ``g_max`` (0: analogue).
    ``r_line_ohm`` is one wire segment between neighbouring cells, on rows and on columns; ``c_wire_f`` its capacitance
    to ground, ``c_cell_f`` that across a cell. The proxy knows neither: they show in transients and noise of decks.
    With ``both_word_ends`` the output of each driver and DAC feeds its row at both ends, through a segment each.
    """

    g_min_siemens: Positive
    g_max_siemens: Positive
    levels: Annotated[int, Field(ge=0)] = 0
    r_line_ohm: NonNegative = 0.0
    r_dac_ohm: Positive = 10.0
    c_wire_f: NonNegative = 0.0
    c_cell_f: NonNegative = 0.0
    both_word_ends: Annotated[bool, Field(exclude_if=operator.not_)] = False  # left out, so that old hashes hold

    @model_validator(mode="after")
    def _ordered(self) -> Crossbar:
        if self.g_max_siemens <= self.g_min_siemens:
            raise ValueError(f"g_max_siemens ({self.g_max_siemens}) must exceed g_min_siemens ({self.g_min_siemens})")
        if self.levels == 1:
            raise ValueError("levels = 1 cannot hold a weight; use 0 for analogue or at least 2")
        return self


class Tiling(_Frozen):
    """Largest arrays that the layer is cut into: ``rows`` logical rows (two word lines each) by ``columns`` states.

    Tiles are made as equal as they come. Each has wires of its own; between tiles there is no wire resistance.
    """

    rows: Count
    columns: Count


class Scaling(_Frozen):
    """How much of the conductance range the weights use: R_F is made smaller until the largest weight needs ``g_max``.

    "global" gives all neurons the same share of R_F, "column" each its own, never below ``smallest``; its largest
    weight takes ``fill`` of the range. C_F grows as R_F shrinks, so R_F C_F stays. "none" leaves R_F as designed.
    """

    mode: Literal["none", "global", "column"] = "none"
    smallest: Annotated[float, Field(gt=0, le=1)] = 0.1
    fill: Annotated[float, Field(gt=0, le=1)] = 1.0


class Converters(_Frozen):
    """Resolution of the input DACs and the readout ADCs over their full scale of +-1 unit."""

    dac_bits: Annotated[int, Field(ge=1, le=24)] = 8
    adc_bits: Annotated[int, Field(ge=1, le=24)] = 8


class Trim(_Frozen):
    """Per-neuron offset trim: a current DAC at each summing node, ``bits`` over +-``range_a``."""

    bits: Annotated[int, Field(ge=1, le=16)] = 8
    range_a: Positive = 4e-6


class Programming(_Frozen):
    """How memristors are written and when they are read; only for a synapse whose contract has a ``[device]``.

    A device is written up to ``passes`` times until a verify read of ``verify_s`` is within ``tolerance_siemens``. It
    is read at ``age_s`` after programming (by default when its statistics begin), with the noise of one read of
    ``read_s`` unless ``read_noise`` is false.
    """

    passes: Annotated[int, Field(ge=1, le=1000)] = 1
    tolerance_siemens: Positive | None = None
    verify_s: Positive = 1e-6
    age_s: Positive | None = None
    read_noise: bool = True
    read_s: Positive = 1e-6

    @model_validator(mode="after")
    def _verified(self) -> Programming:
        if self.passes > 1 and self.tolerance_siemens is None:
            raise ValueError("passes > 1 needs tolerance_siemens: without one no write is refused")
        return self


class AutoZero(_Frozen):
    """Auto-zero of the op-amps before each read: the offset is stored on ``c_hold_f`` in series with the summing node.

    The amplifier has ``gain`` while it stores; its own noise is stored with the offset, ``amplifier_noise_v`` rms. The
    opening switch leaves a charge of ``injection_c``, with ``injection_sigma_c`` from neuron to neuron, and ``leak_a``
    discharges the capacitor while it holds for ``hold_s``. Defaults are of ``opamp_macro`` with a 1 um switch and its
    dummy, as measured in ngspice (docs/programming.md).
    """

    c_hold_f: Positive = 10e-12
    gain: Positive = 1e4
    amplifier_noise_v: NonNegative = 95e-6
    injection_c: Finite = 0.0
    injection_sigma_c: NonNegative = 20e-18
    leak_a: NonNegative = 0.0
    hold_s: NonNegative = 0.0


class PassiveMismatch(_Frozen):
    """Relative standard deviation of the passive parts, die to die and neuron to neuron."""

    r_feedback: NonNegative = 0.005
    c_feedback: NonNegative = 0.005


class CertificateSpec(_Frozen):
    """Class that the effective, mapped matrix must hold, and how far inside it training stays.

    A (weighted infinity norm) and B (its signed measure) have a contraction bound ``gamma``, C (monotone) a ``margin``
    of strong monotonicity. "free" weights carry no certificate, which every summary says.
    """

    weight_class: Literal["A", "B", "C", "free"] = "A"
    gamma: Annotated[float, Field(gt=0, lt=1)] = 0.9
    margin: Annotated[float, Field(gt=0, lt=1)] = 0.05

    @model_validator(mode="after")
    def _own_bound(self) -> CertificateSpec:
        used = {"A": "gamma", "B": "gamma", "C": "margin", "free": ""}[self.weight_class]
        for name in sorted({"gamma", "margin"} & self.model_fields_set - {used}):
            instead = f"use {used}" if used else "leave it out"
            raise ValueError(f"weight_class {self.weight_class!r} has no {name}; {instead}")
        return self


class Training(_Frozen):
    """Optimiser settings shared by the proxy-trained network and every baseline.

    Label smoothing keeps the readout from leaning on saturated states; 0.1 was chosen on 297 images set aside from the
    training images (two seeds: 98.7 % against 97.6 and 98.3 %), never on the test images.

    ``pretrain_steps`` on ideal mathematics come first, and every method goes on from their end. ``init = "analytic"``
    starts at the circuit that solves the task by construction, W = I - a Q with a = ``analytic_gain``. A fixed readout
    is the identity: the states are the answer. With ``saturation`` neurons may run beyond the calibrated range, where
    the measured curve must be flat; without it a penalty keeps them inside.

    ``read_time_s`` trains on the state that is read so long after the inputs step, from rest, instead of the
    equilibrium; with ``read_window_s`` a reading is a mean over this time. What scores and verify say is about the
    equilibrium. ``settle_budget_s`` penalises samples that take longer to settle to ``verify.settle_tolerance_fs``.

    ``gradient`` names the path through the equilibrium (docs/gradients.md): all but the default are there to compare,
    or where it fails. ``nudge(beta)`` is refused unless the mapped matrix is symmetric.
    """

    init: Literal["random", "analytic"] = "random"
    analytic_gain: Positive = 16.0
    readout: Literal["trained", "identity"] = "trained"
    saturation: bool = False
    pretrain_steps: Annotated[int, Field(ge=0)] = 0
    pretrain_learning_rate: Positive = 1e-2
    steps: Count = 1200
    batch: Count = 64
    learning_rate: Positive = 3e-3
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.278
    gradient: GradientPath = "same"
    mismatch_draws: bool = True
    read_noise: bool = True
    read_time_s: Positive | None = None
    read_window_s: Positive | None = None
    settle_budget_s: Positive | None = None


class VerifySpec(_Frozen):
    """How much of the trained network is simulated.

    A die of a classifier passes when it loses at most ``die_max_drop`` of software's accuracy, one of a regression when
    its relative error is at most ``die_max_rel_err``. ``images`` limits the nominal equilibria to the first test
    images, for a mapping whose images are dear; without it all are simulated. ``transitions`` is how many steps from
    one test image to another are simulated, ``start_images`` how many images are started from states all over the
    swing.
    """

    images: Annotated[int, Field(ge=2)] | None = None
    transients: Count = 12
    transient_window_s: Positive = 12e-6
    transitions: Count = 60
    start_images: Count = 4
    noise_nodes: Count = 4
    noise_images: Count = 3
    dies: Annotated[int, Field(ge=1)] = 60
    images_per_die: Annotated[int, Field(ge=2)] = 50
    trim_images: Annotated[int, Field(ge=2)] = 50
    trim_rounds: Annotated[int, Field(ge=1, le=5)] = 1
    anchor_images: Count = 2
    settle_tolerance_fs: Positive = 4e-3
    die_max_drop: Annotated[float, Field(ge=0, lt=1)] = 0.02
    die_max_rel_err: Positive = 0.1


class DesignSpec(_Frozen):
    """A network and the hardware it runs on. Read with :func:`read_design`.

    ``mapping`` names the circuit family; ``family`` holds what only that one knows, checked when it is loaded. The
    op-amp integrator has ``neuron``, ``cells`` and ``trim`` instead.
    """

    schema_: Literal[1] = Field(alias="schema")
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
    task: Literal["digits", "qp16", "net16"] = "digits"
    task_options: TaskOptions = TaskOptions()
    mapping: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] = "opamp_integrator"
    plan: str = "neuron"
    limits: str = "default"
    seed: Annotated[int, Field(ge=0)] = 0
    sizes: Sizes
    operating: Operating = Operating()
    cells: Cells = Cells()
    neuron: Neuron = Field(default=None, validate_default=True)  # a family may do without
    family: dict[str, Any] = Field(default_factory=dict)
    crossbar: Crossbar
    tiling: Annotated[Tiling | None, Field(exclude_if=lambda value: value is None)] = None  # so that old hashes hold
    scaling: Scaling = Scaling()
    converters: Converters = Converters()
    trim: Trim = Trim()
    autozero: AutoZero | None = None
    programming: Programming | None = None
    mismatch: PassiveMismatch = PassiveMismatch()
    certificate: CertificateSpec = CertificateSpec()
    training: Training = Training()
    verify: VerifySpec = VerifySpec()

    @field_validator("neuron", mode="wrap")
    @classmethod
    def _needed(cls, value: Any, inner: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        if value is not None:
            return inner(value)
        if info.data.get("mapping") == OPAMP_INTEGRATOR:
            raise PydanticCustomError("missing", "missing")
        return None

    @model_validator(mode="after")
    def _solvable(self) -> DesignSpec:
        if self.mapping == OPAMP_INTEGRATOR and self.family:
            raise ValueError(f'family: the mapping "{OPAMP_INTEGRATOR}" has no such table; see [neuron] and [cells]')
        if self.mapping == OPAMP_INTEGRATOR and self.verify.images is not None:
            raise ValueError(f'verify.images: the mapping "{OPAMP_INTEGRATOR}" simulates all of them; leave it out')
        if self.tiling is not None and self.mapping != OPAMP_INTEGRATOR:
            raise ValueError(f'tiling: the mapping "{self.mapping}" has one array; leave it out')
        if self.crossbar.both_word_ends and self.mapping not in BOTH_WORD_ENDS:
            raise ValueError(
                f'crossbar.both_word_ends: the mapping "{self.mapping}" feeds its rows from one end; leave it out'
            )
        if self.training.init == "analytic" and self.task != "qp16":
            raise ValueError('training.init = "analytic": only the task "qp16" has a circuit by construction')
        if self.scaling.mode != "none" and self.cells.integrator is not None:
            raise ValueError(
                f'scaling.mode = "{self.scaling.mode}": an integrator cell has no R_F to scale; use "none"'
            )
        sizes = self.sizes
        if self.training.readout == "identity" and sizes.states != sizes.outputs:
            raise ValueError(
                f'training.readout = "identity": needs as many states as outputs, not {sizes.states}, {sizes.outputs}'
            )
        if self.training.init == "analytic" and not sizes.states == sizes.outputs == sizes.inputs:
            raise ValueError('training.init = "analytic": needs as many states and outputs as inputs')
        return self

    def hardware(self) -> dict[str, Any]:
        """The parts that decide what calibration measures: operating point, cells, neuron, array, mismatch."""
        keep = {"operating", "cells", "neuron", "crossbar", "mismatch"}
        parts = self.model_dump(include=keep, exclude_none=True)
        for name in ("c_wire_f", "c_cell_f", "both_word_ends"):  # no measurement of calibration feels them
            parts["crossbar"].pop(name, None)
        return parts


class TransferPlan(_Frozen):
    """Static sweep: ``points`` values of h in +-``h_max`` for every load at the summing node and the driver."""

    h_max: Positive = 4.0
    points: Annotated[int, Field(ge=21)] = 161
    loads_siemens: Loads
    driver_loads_siemens: tuple[NonNegative, ...] = (0.0, 0.5e-3, 1e-3, 2e-3)


class SettlingPlan(_Frozen):
    """Step responses: every load x step size (units of h) x sign; settling to each tolerance (relative)."""

    steps_h: Annotated[tuple[Positive, ...], Field(min_length=1)]
    tolerances: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1e-2, 4e-3, 1e-3)
    window_s: Positive
    loads_siemens: Loads


class NoisePlan(_Frozen):
    """Output noise density at both neuron outputs for every load x bias."""

    loads_siemens: Loads
    biases_h: Annotated[tuple[Finite, ...], Field(min_length=1)] = (0.0, 1.0, 2.0)
    start_hz: Positive = 1e3
    stop_hz: Positive = 1e11
    per_decade: Annotated[int, Field(ge=5)] = 20

    @model_validator(mode="after")
    def _band(self) -> NoisePlan:
        decades = math.log10(self.stop_hz / self.start_hz)
        if decades < 3 or abs(decades - round(decades)) > 1e-9:
            raise ValueError(
                f"start_hz {self.start_hz:g} to stop_hz {self.stop_hz:g}: must span at least 3 whole decades "
                "(ngspice's .noise ends on whole decades of its start)"
            )
        return self


class MismatchPlan(_Frozen):
    """Monte-Carlo dies: single neurons, and conductances at each level."""

    dies: Annotated[int, Field(ge=8)] = 256
    block: Annotated[int, Field(ge=1)] = 64
    points: Annotated[int, Field(ge=9)] = 33
    load_siemens: Positive = 1.5e-3
    conductances_siemens: Annotated[tuple[Positive, ...], Field(min_length=1)]


class CrossbarPlan(_Frozen):
    """A small array in ngspice, against which the exact reduction is checked."""

    rows: Count = 8
    columns: Count = 6
    r_lines_ohm: Annotated[tuple[NonNegative, ...], Field(min_length=1)] = (0.0, 1.0, 5.0)


class Tolerances(_Frozen):
    """Largest held-out error each fit may have; a fit beyond it is an error."""

    transfer_fs: Positive = 1e-3
    gain: Positive = 1e-3
    tau: Positive = 0.02
    noise: Positive = 0.05
    mismatch_fs: Positive = 0.01
    synapse: Positive = 1e-4
    crossbar: Positive = 1e-6
    power: Positive = 0.02


class CalibrationPlan(_Frozen):
    """What to measure of a design's neuron and crossbar. Read with :func:`read_plan`."""

    schema_: Literal[1] = Field(alias="schema")
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
    design: str | None = None
    transfer: TransferPlan
    settling: SettlingPlan
    noise: NoisePlan
    mismatch: MismatchPlan
    crossbar: CrossbarPlan = CrossbarPlan()
    tolerances: Tolerances = Tolerances()


Model = TypeVar("Model", bound=BaseModel)


def read_design(path: Path) -> DesignSpec:
    """Design in a TOML file. SpecError names file, key, value and mend; nothing is guessed."""
    return validate(DesignSpec, read_toml(path), path)


def read_plan(path: Path) -> CalibrationPlan:
    """Calibration plan in a TOML file. SpecError as :func:`read_design`."""
    return validate(CalibrationPlan, read_toml(path), path)


def read_toml(path: Path) -> dict[str, Any]:
    """Content of a TOML file; SpecError when it is missing, unreadable or malformed."""
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        raise SpecError(f"{path}: no such file; check the path") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read ({error}); it must be a readable UTF-8 text file") from error
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{path}: not valid TOML ({error}); mend that line") from error


def validate(model: type[Model], content: dict[str, Any], path: Path) -> Model:
    """``content`` as ``model``, or one SpecError with a line for each wrong key."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        lines = []
        for item in error.errors():
            key = ".".join(str(part) for part in item["loc"]) or "(whole file)"
            if item["type"] == "extra_forbidden":
                known = ", ".join(_keys_at(model, item["loc"][:-1]))
                lines.append(f"{path}: {key}: unknown key; known here: {known}")
            elif item["type"] == "missing":
                lines.append(f"{path}: {key}: missing; add it")
            elif not item["loc"]:  # of keys together, which the message names; the input would be the whole file
                lines.append(f"{path}: {item['msg'].removeprefix('Value error, ')}")
            else:
                lines.append(f"{path}: {key} = {item['input']!r}: {item['msg']}")
        raise SpecError("\n".join(lines)) from error


def _keys_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    for part in location:
        if isinstance(part, int):
            continue  # an item of a list; its model was entered with the list's name
        field = model.model_fields.get(part)
        inner = None if field is None else field.annotation
        if get_origin(inner) is tuple:
            inner = get_args(inner)[0]
        if not isinstance(inner, type) or not issubclass(inner, BaseModel):
            return []
        model = inner
    return [f.alias or name for name, f in model.model_fields.items()]
