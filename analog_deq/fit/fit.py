"""Calibration tables -> proxy parameters, each part checked on rows the fit did not see."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from analog_deq.errors import FitError
from analog_deq.fit.dynamics import fit_noise, fit_tau
from analog_deq.fit.parameters import SCHEMA, ProxyParameters, check_goodness
from analog_deq.fit.static import fit_activation, fit_driver, fit_integrator, fit_power
from analog_deq.fit.variation import fit_conductance, fit_crossbar, fit_mismatch
from analog_deq.provenance import Provenance
from analog_deq.spec import DesignSpec, Tolerances
from analog_deq.tables import CalibrationTable

KELVIN = 273.15
MINIMUM_DIES = 8


def fit_proxy(
    tables: Mapping[str, CalibrationTable],
    design: DesignSpec,
    tolerances: Tolerances,
    cells: Mapping[str, str],
    inputs: Mapping[str, str],
) -> ProxyParameters:
    """Proxy parameters of a design from its eight calibration tables.

    ``cells`` maps role to the hash of the measured cell, ``inputs`` file to hash. FitError when a part misses its
    tolerance on held-out rows (by how much is in the message) or a table has too few valid rows.
    """
    valid = {name: table.valid for name, table in tables.items()}
    for name, rows in valid.items():
        if rows.empty:
            raise FitError(f"table {name}: every sample failed; see its status column, nothing can be fitted")
    neuron, kelvin = design.neuron, design.operating.temperature_celsius + KELVIN
    scale = {"v_unit_v": neuron.v_unit_v, "z_unit_v": neuron.z_unit_v, "r_feedback_ohm": neuron.r_feedback_ohm}
    transfer = valid["transfer"]
    integrator = fit_integrator(transfer, neuron.r_feedback_ohm, neuron.v_unit_v, tolerances.gain)
    activation = fit_activation(transfer, neuron.v_unit_v, neuron.z_unit_v, tolerances.transfer_fs)
    driver = fit_driver(transfer, neuron.z_unit_v, tolerances.transfer_fs)
    tau = fit_tau(valid["settling"], tolerances.tau)
    noise = fit_noise(valid["noise"], tau, activation, temperature_k=kelvin, tolerance=tolerances.noise, **scale)
    curves, dynamics, dies_failed = _complete_dies(tables["mismatch"].rows, tables["mismatch_dynamic"].rows)
    mismatch = fit_mismatch(
        curves, dynamics, integrator, tau, activation, tolerance=tolerances.mismatch_fs, failed=dies_failed, **scale
    )
    proxy = ProxyParameters(
        provenance=Provenance(
            schema_name=SCHEMA,
            schema_version=1,
            ngspice_version=tables["transfer"].provenance.ngspice_version,
            solver=tables["transfer"].provenance.solver,
            inputs=dict(inputs),
            seed=tables["mismatch"].provenance.seed,
        ),
        hardware=design.hardware(),
        cells=dict(cells),
        integrator=integrator,
        activation=activation,
        driver=driver,
        tau=tau,
        noise=noise,
        mismatch=mismatch,
        conductance=fit_conductance(valid["conductance"], tolerances.mismatch_fs),
        crossbar=fit_crossbar(valid["crossbar"], design.crossbar.r_dac_ohm, tolerances.crossbar),
        power=fit_power(valid["power"], tolerances.power),
    )
    for part, goodness in proxy.forms().items():
        check_goodness(part, goodness)
    return proxy


def _complete_dies(curves: pd.DataFrame, dynamics: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, int]:
    """Rows of the dies valid in both tables, and the number of dies that failed in either."""
    dies = set(curves["die"]) | set(dynamics["die"])
    bad = {die for frame in (curves, dynamics) for die in frame.loc[frame["status"] != "ok", "die"]}
    good = dies - bad
    if len(good) < MINIMUM_DIES:
        raise FitError(f"mismatch: only {len(good)} of {len(dies)} dies are valid; at least {MINIMUM_DIES} are needed")
    return curves[curves["die"].isin(good)], dynamics[dynamics["die"].isin(good)], len(bad)
