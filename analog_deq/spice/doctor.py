"""Is this machine ready? Versions, ngspice, and a simulated RC whose settling time is known in closed form."""

from __future__ import annotations

import math
import platform
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from analog_deq.errors import SimulationError, SimulatorNotFoundError
from analog_deq.netlists.deck import build_deck
from analog_deq.records import Tran
from analog_deq.spice.runner import run_deck
from analog_deq.spice.simulator import Simulator, find_simulator

PACKAGES = ("analog-deq", "numpy", "scipy", "pandas", "pyarrow", "torch", "pydantic", "PySpice", "click", "rich",
            "safetensors", "scikit-learn", "matplotlib", "Jinja2")  # fmt: skip
RC_TOLERANCE = 0.01
"""Largest accepted relative error of the simulated settling time."""
_R_OHM, _C_F, _SETTLED_TO = 1e3, 1e-9, math.exp(-1)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found. Fields about ngspice are None where it is absent or its run failed; ``problems`` says why."""

    python: str
    packages: dict[str, str]
    ngspice_path: str | None
    ngspice_version: str | None
    klu: bool | None
    rc_expected_s: float
    rc_measured_s: float | None
    rc_error: float | None
    ok: bool
    problems: tuple[str, ...]


def diagnose(executable: str | None = None) -> Diagnosis:
    """State of the machine; never raises for something missing, but lists it in ``problems``.

    ``executable`` is looked for as ``find_simulator`` does. The RC settles to 1/e of its step: the time is
    -RC ln(1/e) = RC seconds, to be met within 1 %.
    """
    problems: list[str] = []
    packages = {name: _version(name, problems) for name in PACKAGES}
    expected_s = -_R_OHM * _C_F * math.log(_SETTLED_TO)
    simulator: Simulator | None = None
    measured_s: float | None = None
    try:
        simulator = find_simulator(executable)
        measured_s = measure_rc_settling_s(simulator)
    except (SimulatorNotFoundError, SimulationError) as error:
        problems.append(str(error))
    rc_error = None if measured_s is None else measured_s / expected_s - 1
    if rc_error is not None and not abs(rc_error) <= RC_TOLERANCE:
        problems.append(f"the RC settled in {measured_s:.4g} s instead of {expected_s:.4g} s; ngspice is not usable")
    return Diagnosis(
        python=platform.python_version(),
        packages=packages,
        ngspice_path=str(simulator.executable) if simulator else None,
        ngspice_version=simulator.version if simulator else None,
        klu=simulator.klu if simulator else None,
        rc_expected_s=expected_s,
        rc_measured_s=measured_s,
        rc_error=rc_error,
        ok=not problems,
        problems=tuple(problems),
    )


def measure_rc_settling_s(simulator: Simulator, settled_to: float = _SETTLED_TO) -> float:
    """Seconds a 1 kohm, 1 nF low-pass takes to come within ``settled_to`` (0 to 1) of a 1 V step.

    Raises SimulationError when the run fails.
    """
    rise_s = 1e-9
    tau_s = _R_OHM * _C_F
    circuit = [f"V1 in 0 PWL(0 0 {rise_s!r} 1)", f"R1 in out {_R_OHM!r}", f"C1 out 0 {_C_F!r}"]
    length_s = tau_s * (2 - math.log(settled_to))
    deck = build_deck("RC check", circuit, [Tran(tau_s / 100, length_s, tau_s / 100)], save=["v(out)"])
    with tempfile.TemporaryDirectory() as folder:
        plot = run_deck(deck, simulator=simulator, folder=Path(folder), timeout_s=30.0).plots[0]
    # The step is a ramp; its centre is the moment the closed form counts from.
    return float(np.interp(1 - settled_to, plot["v(out)"], plot.sweep)) - rise_s / 2


def _version(name: str, problems: list[str]) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        problems.append(f"the package {name} is not installed; run: pip install -e .")
        return "missing"
