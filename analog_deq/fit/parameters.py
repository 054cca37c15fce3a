"""The fitted proxy as data: ``proxy.json``. Every form carries covariance, domain and held-out error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from analog_deq.errors import FitError, OutOfDomainError, SchemaError
from analog_deq.provenance import Provenance, require_schema

SCHEMA = "analog_deq.proxy"


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
    """Everything the proxy knows about the circuit (the parameter set psi)."""

    provenance: Provenance
    hardware: dict[str, Any]
    cells: dict[str, str] = Field(description="role -> sha256 of the cell that was measured")
    integrator: Form
    activation: Table
    driver: Form
    tau: Form
    noise: Form
    mismatch: Distribution
    conductance: Form
    crossbar: Form
    power: Form

    def forms(self) -> dict[str, Goodness]:
        """Goodness of every fitted part, by name."""
        return {
            name: getattr(self, name).goodness
            for name in (
                "integrator", "activation", "driver", "tau", "noise", "mismatch", "conductance", "crossbar", "power",
            )
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
    require_schema(f"{header.get('schema_name')}/{header.get('schema_version')}", f"{SCHEMA}/1", path)
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
