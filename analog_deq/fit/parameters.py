"""The fitted proxy as data: ``proxy.json``. Every form carries covariance, domain and held-out error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from analog_deq.errors import FitError, OutOfDomainError, SchemaError
from analog_deq.fit.forms import hermite, monotone_slopes
from analog_deq.programming.statistics import DeviceStatistics
from analog_deq.provenance import Provenance, require_schema

SCHEMA, SCHEMA_VERSION = "analog_deq.proxy", 3


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Goodness(_Frozen):
    """Error on rows used and on rows held out, in ``unit``; the held-out one must not exceed ``tolerance``."""

    unit: str
    train: float
    held_out: float
    n_train: int
    n_held_out: int
    tolerance: float


class Form(_Frozen):
    """One fitted form: named values, their covariance (order of ``values``), domain of each axis, goodness."""

    form: str
    values: dict[str, float]
    covariance: list[list[float]]
    domain: dict[str, tuple[float, float]]
    goodness: Goodness

    def require(self, axis: str, values: Any) -> None:
        """OutOfDomainError when any of ``values`` leaves the calibrated domain of ``axis``; says by how much."""
        low, high = self.domain[axis]
        array = np.asarray(values, dtype=float)
        excess = max(float(np.max(array)) - high, low - float(np.min(array)))
        if excess > 1e-9 * (high - low) or not np.all(np.isfinite(array)):
            raise OutOfDomainError(
                f"{self.form}: {axis} spans [{np.min(array):.6g}, {np.max(array):.6g}], outside the calibrated "
                f"[{low:.6g}, {high:.6g}] by {excess:.3g}; widen the plan's range and calibrate again"
            )


class Table(_Frozen):
    """Activation z(h) on a uniform grid: monotone cubic through ``values``, h from ``start`` in steps ``step``.

    ``variance`` is that of a value between the knots, from held-out rows (units of z squared); knots are
    interpolated, not smoothed, so their errors are uncorrelated and far below it.
    """

    start: float
    step: float
    values: list[float]
    variance: float
    goodness: Goodness

    @property
    def end(self) -> float:
        return self.start + self.step * (len(self.values) - 1)


class SynapseLaw(_Frozen):
    """Conductance that a synapse programmed to g shows at ``read_v``, without mismatch.

    ``values`` (S) lie on a uniform grid of g from ``start`` in steps ``step``, a monotone cubic between them; without
    any it is g itself. ``bend`` is the largest distance of the current from that conductance's straight line within
    +-``reach_v``, as a share of the current there. ``excess_noise`` is the largest ratio of its noise at ``read_v`` to
    the thermal noise of that conductance, less 1: of the density, anywhere in the calibrated band.
    """

    form: str
    start: float
    step: float
    values: list[float]
    read_v: float
    reach_v: float
    bend: float
    excess_noise: float
    goodness: Goodness

    @property
    def linear(self) -> bool:
        """Whether an array of such synapses is a resistor network, to the tolerance of the fit."""
        return self.bend <= self.goodness.tolerance

    @property
    def thermal(self) -> bool:
        """Whether the noise of an array of such synapses is that of a resistor network, within 1 %."""
        return abs(self.excess_noise) <= 0.01

    def seen(self, programmed: Tensor) -> Tensor:
        """Conductances (S), same shape as ``programmed``; its own values where nothing is to be changed."""
        if not self.values:
            return programmed
        table = torch.as_tensor(self.values, dtype=programmed.dtype)
        return hermite(programmed, self.start, self.step, table, monotone_slopes(table, self.step))[0]

    def seen_arrays(self, *programmed: np.ndarray) -> tuple[np.ndarray, ...]:
        """:meth:`seen` of NumPy arrays."""
        return tuple(self.seen(torch.as_tensor(np.array(g, dtype=float))).numpy() for g in programmed)


class ConductanceSpread(Form):
    """Error of a conductance over dies. With ``targets`` (S) it depends on what was programmed.

    Without, ``mean`` and ``sigma`` are relative; with, ``mean_k`` and ``sigma_k`` are siemens at target k, linear in
    between.
    """

    targets: list[float] = Field(default_factory=list)

    def relative(self, programmed: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the relative error of conductances ``seen``, programmed to ``programmed``."""
        if not self.targets:
            return np.asarray(self.values["mean"]), np.asarray(self.values["sigma"])
        count = range(len(self.targets))
        mean, sigma = (
            np.interp(programmed, self.targets, [self.values[f"{name}_{k}"] for k in count]) / seen
            for name in ("mean", "sigma")
        )
        return mean, sigma


class Distribution(_Frozen):
    """Joint normal distribution of a neuron's mismatch parameters over dies."""

    names: list[str]
    mean: list[float]
    covariance: list[list[float]]
    mean_covariance: list[list[float]]
    dies: int
    failed: int
    goodness: Goodness


class ProxyParameters(_Frozen):
    """Everything the proxy knows about the circuit (the parameter set psi).

    ``not_modelled`` maps ``power``, ``noise`` or ``mismatch`` to the cells that leave it out; ``power`` is None then.
    ``device`` are the published statistics of a memristor, for designs with ``[programming]``.
    """

    provenance: Provenance
    hardware: dict[str, Any]
    cells: dict[str, str] = Field(description="slot -> sha256 of the cell that was measured")
    not_modelled: dict[str, str]
    integrator: Form
    activation: Table
    driver: Form
    tau: Form
    noise: Form
    mismatch: Distribution
    synapse: SynapseLaw
    conductance: ConductanceSpread
    crossbar: Form
    power: Form | None
    device: DeviceStatistics | None = None

    @property
    def r_feedback_ohm(self) -> float:
        """Transresistance of the integrator: its own where the fit found one, else the design's R_F."""
        return float(self.integrator.values.get("r_feedback_ohm", self.hardware["neuron"]["r_feedback_ohm"]))

    @property
    def input_offset_a(self) -> float:
        """Current an integrator cell draws at its input beside that through its transresistance."""
        return self.integrator.values.get("i0_a", 0.0)

    def forms(self) -> dict[str, Goodness]:
        """Goodness of every fitted part that the cells model, by name."""
        return {
            name: getattr(self, name).goodness
            for name in (
                "integrator", "activation", "driver", "tau", "noise", "mismatch", "synapse", "conductance", "crossbar",
                "power",
            )
            if name == "mismatch" or name not in self.not_modelled
        }  # fmt: skip


def tau_coefficients(tau: Form) -> tuple[float, float]:
    """The two coefficients of ``forms.closed_loop_tau``: seconds, and seconds per siemens."""
    return tau.values["tau0_s"], tau.values["tau_load_s_per_siemens"]


def check_goodness(part: str, goodness: Goodness) -> None:
    """FitError when the held-out error exceeds its tolerance; the message says by how much."""
    if not goodness.held_out <= goodness.tolerance:  # also catches NaN
        raise FitError(
            f"{part}: held-out error {goodness.held_out:.3g} {goodness.unit} exceeds the tolerance "
            f"{goodness.tolerance:.3g} by {goodness.held_out / goodness.tolerance:.2f}x (n = {goodness.n_held_out}); "
            "the form does not describe this cell over the plan's range: narrow the range or relax the tolerance"
        )


def write_proxy(proxy: ProxyParameters, path: Path) -> None:
    """``proxy.json``, indented, keys in declaration order."""
    path.write_text(json.dumps(proxy.model_dump(mode="json"), indent=1) + "\n")


def read_proxy(path: Path) -> ProxyParameters:
    """Proxy of a file; SchemaError when it is missing, malformed or of an unknown major schema."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise SchemaError(f"{path}: no such proxy; run `analog-deq fit` first") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise SchemaError(f"{path}: not readable JSON ({error})") from error
    header = content.get("provenance", {}) if isinstance(content, dict) else {}
    require_schema(f"{header.get('schema_name')}/{header.get('schema_version')}", f"{SCHEMA}/{SCHEMA_VERSION}", path)
    try:
        return ProxyParameters.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(p) for p in first["loc"])
        raise SchemaError(f"{path}: {place}: {first['msg']}; the file was edited or truncated, fit again") from error


def least_squares_covariance(design: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """Covariance ``s^2 (X^T X)^-1`` of a linear least-squares fit, s^2 from the residual's degrees of freedom."""
    freedom = max(1, design.shape[0] - design.shape[1])
    return np.asarray(np.linalg.pinv(design.T @ design) * float(residual @ residual) / freedom)
