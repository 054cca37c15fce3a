"""Calibration tables -> proxy parameters, each part checked on rows the fit did not see."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from analog_deq.errors import FitError
from analog_deq.fit.dynamics import fit_noise, fit_tau
from analog_deq.fit.parameters import SCHEMA, SCHEMA_VERSION, ProxyParameters, check_goodness
from analog_deq.fit.static import fit_activation, fit_driver, fit_integrator, fit_power, without_supply
from analog_deq.fit.variation import fit_conductance, fit_crossbar, fit_mismatch, fit_synapse
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
    *,
    not_modelled: Mapping[str, str] | None = None,
    relative_spread: bool = True,
) -> ProxyParameters:
    """Proxy parameters of a design from its eleven calibration tables.

    ``cells`` maps slot to the hash of the measured cell, ``inputs`` file to hash. ``not_modelled`` says which cells
    declare themselves without ``noise`` or ``mismatch``; ``relative_spread`` that the synapse's only error is a fixed
    share of its conductance. FitError when a part misses its tolerance on held-out rows (by how much is in the
    message) or a table has too few valid rows; noise that is not modelled is not held to its tolerance.
    """
    valid = {name: table.valid for name, table in tables.items()}
    for name, rows in valid.items():
        if rows.empty:
            raise FitError(f"table {name}: every sample failed; see its status column, nothing can be fitted")
    neuron, kelvin = design.neuron, design.operating.temperature_celsius + KELVIN
    scale = {"v_unit_v": neuron.v_unit_v, "z_unit_v": neuron.z_unit_v}
    transfer = valid["transfer"]
    integrator = fit_integrator(
        transfer, neuron.r_feedback_ohm, neuron.v_unit_v, tolerances.gain,
        own_feedback=design.cells.integrator is not None,
    )  # fmt: skip
    own_ohm = integrator.values.get("r_feedback_ohm", neuron.r_feedback_ohm)
    activation = fit_activation(transfer, neuron.v_unit_v, neuron.z_unit_v, tolerances.transfer_fs)
    driver = fit_driver(transfer, neuron.z_unit_v, tolerances.transfer_fs)
    tau = fit_tau(valid["settling"], tolerances.tau)
    noise = fit_noise(
        valid["noise"], tau, activation, r_feedback_ohm=own_ohm, temperature_k=kelvin, tolerance=tolerances.noise,
        inverse_a0=integrator.values["inverse_a0"], drive_ohm=neuron.r_feedback_ohm, **scale,
    )  # fmt: skip
    curves, dynamics, dies_failed = _complete_dies(tables["mismatch"].rows, tables["mismatch_dynamic"].rows)
    mismatch = fit_mismatch(
        curves, dynamics, integrator, tau, activation, r_feedback_ohm=neuron.r_feedback_ohm,
        tolerance=tolerances.mismatch_fs, failed=dies_failed, **scale,
    )  # fmt: skip
    read_v = float(valid["conductance"]["read"].iloc[0])
    law = fit_synapse(valid["synapse"], valid["synapse_noise"], read_v, kelvin, tolerances.synapse)
    silent = without_supply(valid["supply"])
    absent = {**(not_modelled or {}), **({"power": f"{silent} has no supply current"} if silent else {})}
    proxy = ProxyParameters(
        provenance=Provenance(
            schema_name=SCHEMA,
            schema_version=SCHEMA_VERSION,
            ngspice_version=tables["transfer"].provenance.ngspice_version,
            solver=tables["transfer"].provenance.solver,
            inputs=dict(inputs),
            seed=tables["mismatch"].provenance.seed,
        ),
        hardware=design.hardware(),
        cells=dict(cells),
        not_modelled=absent,
        integrator=integrator,
        activation=activation,
        driver=driver,
        tau=tau,
        noise=noise,
        mismatch=mismatch,
        synapse=law,
        conductance=fit_conductance(
            valid["conductance"], law, tolerances.mismatch_fs, relative=relative_spread and not law.values
        ),
        crossbar=fit_crossbar(valid["crossbar"], law, design.crossbar.r_dac_ohm, tolerances.crossbar),
        power=None if silent else fit_power(valid["power"], tolerances.power),
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
