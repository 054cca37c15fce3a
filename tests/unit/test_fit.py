"""Fits recover what synthetic tables were made from, within the covariance they state; bad tables are errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import helpers as h
import numpy as np
import pandas as pd
import pytest
from helpers import design, proxy, synthetic_tables, table
from scipy import stats

from analog_deq.errors import FitError, OutOfDomainError, SchemaError
from analog_deq.fit.dynamics import fit_noise, fit_tau
from analog_deq.fit.fit import fit_proxy
from analog_deq.fit.parameters import Form, Goodness, ProxyParameters, check_goodness, read_proxy, write_proxy
from analog_deq.fit.static import POWER_TERMS, fit_activation, fit_driver, fit_integrator, fit_power
from analog_deq.fit.variation import extract_neurons, fit_conductance, fit_crossbar, fit_mismatch
from analog_deq.spec import Tolerances

TRANSFER = h.transfer_rows()
MANY_LOADS = tuple(np.linspace(0.02e-3, 4e-3, 41))


def fitted(**replaced: pd.DataFrame) -> ProxyParameters:
    """Proxy from the synthetic tables with some of them replaced."""
    tables = synthetic_tables()
    tables.update({name: table(name, rows) for name, rows in replaced.items()})
    return fit_proxy(tables, design(), Tolerances(), {}, {})


# --- exact tables ---------------------------------------------------------------------------------------------------


def test_exact_tables_give_the_parameters_back():
    p = proxy()
    assert p.integrator.values["s0_v"] == pytest.approx(h.S0, rel=1e-9)
    assert 1 / p.integrator.values["inverse_a0"] == pytest.approx(h.A0, rel=1e-9)
    assert p.driver.values["r_out_ohm"] == pytest.approx(h.R_OUT, rel=1e-9)
    assert p.tau.values["tau0_s"] == pytest.approx(h.TAU0, rel=1e-9)
    assert p.tau.values["tau_load_s_per_siemens"] == pytest.approx(h.TAU_LOAD, rel=1e-9)
    assert p.tau.values["delay_s"] == pytest.approx(h.DELAY, rel=1e-9)
    assert p.power.values["p0_w"] == pytest.approx(h.P0, rel=1e-9)
    assert p.power.values["p_abs_drive_w_per_v"] == pytest.approx(h.P_DRIVE, rel=1e-9)
    assert p.power.values["p_drive_w_per_v"] == pytest.approx(0.0, abs=1e-9 * h.P_DRIVE)
    assert p.power.values["p_load_v"] == pytest.approx(h.P_LOAD, rel=1e-9)
    assert p.crossbar.goodness.held_out < 1e-12


def test_exact_spectra_give_the_noise_parameters_back():
    """Read off spectra in which the parts overlap: the plateau sits 0.1 % below its asymptote."""
    values = proxy().noise.values
    assert values["en_v_per_rthz"] == pytest.approx(h.EN, rel=1e-3)
    assert values["z_white"] == pytest.approx(h.WHITE, rel=0.02)
    assert values["z_white_slope2"] == pytest.approx(h.WHITE_SLOPE2, rel=0.02)
    assert values["z_flicker"] == pytest.approx(h.WHITE * h.CORNER, rel=0.02)
    assert values["z_flicker_slope2"] == pytest.approx(h.WHITE_SLOPE2 * h.CORNER, rel=0.02)
    for name, whole in (("z_white", h.WHITE_SLOPE2), ("z_flicker", h.WHITE_SLOPE2 * h.CORNER)):
        assert abs(values[f"{name}_slope"]) < 0.02 * whole
    # white noise of the stage up to its pole holds pi/2 times the pole's bandwidth
    assert values["wide_floor"] == pytest.approx(h.WHITE * np.pi / 2 * h.DRIVER_HZ, rel=0.01)
    assert values["wide_slope2"] == pytest.approx(h.WHITE_SLOPE2 * np.pi / 2 * h.DRIVER_HZ, rel=0.02)


def test_the_activation_table_is_the_activation():
    activation = proxy().activation
    grid = activation.start + activation.step * np.arange(len(activation.values))
    assert np.abs(np.array(activation.values) - h.sigma(grid)).max() < 1e-5
    assert activation.goodness.held_out < 1e-4


def test_every_part_holds_out_rows_and_states_an_error_within_its_tolerance():
    for name, goodness in proxy().forms().items():
        assert goodness.n_held_out > 0, name
        assert 0 <= goodness.held_out <= goodness.tolerance, name


def test_neurons_are_extracted_from_their_own_terminals():
    curves, steps, injected = h.mismatch_rows(dies=24)
    p = proxy()
    frame, _, residuals = extract_neurons(
        curves, steps, p.integrator, p.tau, p.activation,
        r_feedback_ohm=h.R_FEEDBACK, v_unit_v=h.V_UNIT, z_unit_v=h.Z_UNIT,
    )  # fmt: skip
    assert np.abs(residuals).max() < 1e-3
    for name in ("r_feedback", "tau"):
        assert np.abs(frame[name] - injected[name]).max() < 1e-8, name
    assert np.abs(frame["vos_v"] - injected["vos_v"]).max() < 0.02 * h.SIGMA_VOS  # through the nominal R_F
    for name in ("sat", "in_scale", "in_offset", "out_offset"):
        assert np.abs(frame[name] - injected[name]).max() < 1e-3, name


def test_the_mismatch_distribution_is_that_of_the_dies():
    curves, steps, injected = h.mismatch_rows(dies=64)
    p = proxy()
    found = fit_mismatch(
        curves, steps, p.integrator, p.tau, p.activation, r_feedback_ohm=h.R_FEEDBACK, v_unit_v=h.V_UNIT,
        z_unit_v=h.Z_UNIT, tolerance=0.01, failed=3,
    )  # fmt: skip
    assert (found.dies, found.failed) == (64, 3)
    truth = injected[list(found.names)]
    assert np.array(found.mean) == pytest.approx(truth.mean().to_numpy(), abs=2e-4)
    spread = np.sqrt(np.diag(found.covariance))
    assert spread == pytest.approx(truth.std(ddof=1).to_numpy(), rel=0.02)
    assert np.diag(found.mean_covariance) == pytest.approx(spread**2 / 64, rel=1e-12)


# --- noisy tables: the stated covariance is the true scatter ----------------------------------------------------------


def assert_calibrated(
    fit: Callable[[np.random.Generator], Form], names: Sequence[str], truth: Sequence[float], seeds: int = 60
) -> None:
    """Mahalanobis distances of repeated fits follow chi-square: too small an error bar fails, and too large a one."""
    total = 0.0
    for seed in range(seeds):
        form = fit(np.random.default_rng(seed))
        pick = [list(form.values).index(name) for name in names]
        error = np.array([form.values[name] for name in names]) - truth
        covariance = np.array(form.covariance)[np.ix_(pick, pick)]
        scale = np.sqrt(np.diag(covariance))
        total += float((error / scale) @ np.linalg.solve(covariance / np.outer(scale, scale), error / scale))
    low, high = stats.chi2.ppf([1e-4, 1 - 1e-4], seeds * len(names))
    assert low < total < high


def test_covariance_of_the_integrator():
    def fit(rng: np.random.Generator) -> Form:
        rows = TRANSFER.assign(s=TRANSFER["s"] + 1e-6 * rng.standard_normal(len(TRANSFER)))
        return fit_integrator(rows, h.R_FEEDBACK, h.V_UNIT, 1.0)

    assert_calibrated(fit, ["s0_v", "inverse_a0"], [h.S0, 1 / h.A0])


def test_covariance_of_the_driver():
    def fit(rng: np.random.Generator) -> Form:
        rows = TRANSFER.copy()
        loaded = rows["driver_load"] > 0
        for pin in ("zp", "zn"):
            rows.loc[loaded, pin] += 1e-5 * rng.standard_normal(int(loaded.sum()))
        return fit_driver(rows, h.Z_UNIT, 1.0)

    assert_calibrated(fit, ["r_out_ohm"], [h.R_OUT])


def test_covariance_of_the_time_constant():
    clean = h.settling_rows(MANY_LOADS)
    per_step = clean.groupby(["load", "step"], sort=False).ngroup().to_numpy()

    def fit(rng: np.random.Generator) -> Form:
        tau, delay = rng.standard_normal((2, per_step.max() + 1))
        return fit_tau(
            clean.assign(tau=clean["tau"] + 1e-10 * tau[per_step], delay=h.DELAY + 1e-11 * delay[per_step]), 1.0
        )

    assert_calibrated(fit, ["tau0_s", "tau_load_s_per_siemens"], [h.TAU0, h.TAU_LOAD])
    assert_calibrated(fit, ["delay_s"], [h.DELAY])


def test_covariance_of_the_conductance():
    assert_calibrated(
        lambda rng: fit_conductance(h.conductance_rows(dies=100, seed=int(rng.integers(2**31))), proxy().synapse, 1.0),
        ["mean", "sigma"],
        [0.0, h.SIGMA_G],
    )


def test_covariance_of_the_power():
    clean = h.power_rows(TRANSFER)

    def fit(rng: np.random.Generator) -> Form:
        return fit_power(clean.assign(p_vdd=clean["p_vdd"] + 1e-6 * rng.standard_normal(len(clean))), 1.0)

    assert_calibrated(fit, list(POWER_TERMS), [h.P0, 0.0, h.P_DRIVE, 0.0, h.P_LOAD])


def noise_fit(rows: pd.DataFrame, tolerance: float = 1.0) -> Form:
    p = proxy()
    return fit_noise(
        rows, p.tau, p.activation, r_feedback_ohm=h.R_FEEDBACK, v_unit_v=h.V_UNIT, z_unit_v=h.Z_UNIT,
        temperature_k=h.KELVIN, tolerance=tolerance,
    )  # fmt: skip


def test_covariance_of_the_noise():
    loads = tuple(np.linspace(0.02e-3, 4e-3, 13))
    biases = (0.0, 0.4, 0.8, 1.2, 1.6)
    pairs = len(loads) * len(biases)
    clean = noise_fit(h.noise_rows(loads, biases)).values

    def fit(rng: np.random.Generator) -> Form:
        errors = rng.standard_normal((2, pairs))
        return noise_fit(h.noise_rows(loads, biases, loop_error=0.03 * errors[0], white_error=0.03 * errors[1]))

    for names in (["en_v_per_rthz"], ["z_white", "z_white_slope2"]):
        assert_calibrated(fit, names, [clean[name] for name in names], seeds=25)


# --- tables that do not describe the form ---------------------------------------------------------------------------


def excess(part: str, goodness: Goodness) -> str:
    with pytest.raises(FitError) as caught:
        check_goodness(part, goodness)
    return str(caught.value)


def test_the_message_says_by_how_much_the_tolerance_is_missed():
    goodness = Goodness(unit="units of h", train=0.0, held_out=3e-4, n_train=4, n_held_out=9, tolerance=1e-4)
    assert "gain: held-out error 0.0003 units of h exceeds the tolerance 0.0001 by 3.00x (n = 9)" in excess(
        "gain", goodness
    )
    assert "nan" in excess("gain", goodness.model_copy(update={"held_out": float("nan")}))
    check_goodness("gain", goodness.model_copy(update={"held_out": 1e-4}))


def test_a_time_constant_that_is_not_linear_in_the_load():
    rows = h.settling_rows()
    bent = rows.assign(tau=rows["tau"] * (1 + 0.5 * (rows["load"] / 4e-3) ** 4))
    with pytest.raises(FitError, match=r"tau: held-out error .* exceeds the tolerance 0\.02 by .*x"):
        fitted(settling=bent)


def test_an_integrator_whose_gain_depends_on_the_output():
    bent = TRANSFER.assign(
        s=TRANSFER["s"] - 3e-4 * TRANSFER["v"] ** 3, v=TRANSFER["v"] * (1 + 1e-3 * TRANSFER["v"] ** 2)
    )
    with pytest.raises(FitError, match=r"integrator: held-out error .* exceeds the tolerance"):
        fitted(transfer=bent)


def test_an_activation_that_depends_on_the_load_is_caught_on_the_other_loads():
    bent = TRANSFER.copy()
    other = bent["load"] == h.LOADS[0]
    bent.loc[other, "zp"] *= 1.02
    with pytest.raises(FitError, match="activation: held-out error"):
        fitted(transfer=bent)


def test_a_driver_with_a_common_mode():
    shifted = TRANSFER.assign(zp=TRANSFER["zp"] + 5e-3, zn=TRANSFER["zn"] + 5e-3)
    with pytest.raises(FitError, match=r"driver: held-out error 0\.025"):
        fitted(transfer=shifted)


def test_noise_that_is_no_op_amp_noise():
    rows = h.noise_rows()
    with pytest.raises(FitError, match="noise: held-out error"):
        fitted(noise=rows.assign(density=rows["density"] * np.where(rows["load"] == h.LOADS[1], 1.5, 1.0)))


def test_power_that_jumps():
    rows = h.power_rows(TRANSFER)
    with pytest.raises(FitError, match="power: held-out error"):
        fitted(power=rows.assign(p_vdd=rows["p_vdd"] * np.where(rows["drive"] > 0, 1.5, 1.0)))


def test_a_wire_that_the_reduction_does_not_have():
    rows = h.crossbar_rows()
    wrong = rows.assign(current=rows["current"] * np.where(rows["r_line"] == 2.0, 1 + 1e-4, 1.0))
    with pytest.raises(FitError, match="crossbar: held-out error"):
        fitted(crossbar=wrong)
    assert fit_crossbar(rows, proxy().synapse, 10.0, 1e-6).goodness.held_out < 1e-12
    assert fit_crossbar(rows, proxy().synapse, 11.0, 1e-6).goodness.held_out > 1e-5  # another DAC resistance is noticed


def test_swapped_op_amp_inputs_and_crossed_outputs_are_named():
    swapped = TRANSFER.assign(s=-TRANSFER["s"])
    with pytest.raises(FitError, match="inputs look swapped"):
        fit_integrator(swapped, h.R_FEEDBACK, h.V_UNIT, 1.0)
    crossed = TRANSFER.rename(columns={"zp": "zn", "zn": "zp"})
    with pytest.raises(FitError, match="polarity"):
        fit_activation(crossed, h.V_UNIT, h.Z_UNIT, 1.0)


def test_cells_without_a_supply_current_are_not_modelled():
    rows = h.power_rows(TRANSFER).assign(p_vdd=0.0, p_vss=0.0)
    with pytest.raises(FitError, match="draw no supply current"):
        fit_power(rows, 0.02)


def test_a_driver_measured_under_one_load_cannot_be_checked():
    with pytest.raises(FitError, match="two driver loads"):
        fit_driver(TRANSFER[TRANSFER["driver_load"].isin([0.0, 1e-3])], h.Z_UNIT, 1.0)


def test_failed_dies_are_counted_and_too_few_valid_ones_refused():
    curves, steps, _ = h.mismatch_rows(dies=12)
    curves, steps = curves.assign(status="ok"), steps.assign(status="ok")
    curves.loc[curves["die"] == 4, "status"] = "convergence: no"
    steps.loc[steps["die"] == 9, "status"] = "timeout: killed"
    found = fitted(mismatch=curves, mismatch_dynamic=steps).mismatch
    assert (found.dies, found.failed) == (10, 2)
    steps.loc[steps["die"] < 4, "status"] = "timeout: killed"
    with pytest.raises(FitError, match="only 6 of 12 dies are valid"):
        fitted(mismatch=curves, mismatch_dynamic=steps)


def test_a_table_without_a_valid_row():
    with pytest.raises(FitError, match="table settling: every sample failed"):
        fitted(settling=h.settling_rows().assign(status="timeout: killed"))


# --- domain and file ------------------------------------------------------------------------------------------------


def test_use_outside_the_domain_says_by_how_much():
    tau = proxy().tau
    low, high = tau.domain["load_siemens"]
    tau.require("load_siemens", [low, high])
    with pytest.raises(OutOfDomainError, match=r"load_siemens spans \[0\.001, 0\.005\], .* by 0\.001;"):
        tau.require("load_siemens", np.array([1e-3, 5e-3]))
    with pytest.raises(OutOfDomainError, match=r"by 1e-05"):
        tau.require("load_siemens", low - 1e-5)
    with pytest.raises(OutOfDomainError):
        tau.require("load_siemens", [1e-3, float("nan")])


def test_a_proxy_reads_back_equal(tmp_path):
    write_proxy(proxy(), tmp_path / "proxy.json")
    assert read_proxy(tmp_path / "proxy.json") == proxy()


def edited(path: Path, change: Callable[[dict], object]) -> Path:
    write_proxy(proxy(), path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["provenance"].update(schema_name="analog_deq.verify_report"), "another kind of file"),
        (lambda c: c["provenance"].update(schema_version=4), "upgrade analog-deq"),
        (lambda c: c.pop("provenance"), "is this a file of analog-deq|expected 'analog_deq.proxy/1'"),
        (lambda c: c["tau"].pop("covariance"), r"tau\.covariance"),
        (lambda c: c["tau"].update(extra=1), r"tau\.extra"),
        (lambda c: c["activation"].update(values="none"), r"activation\.values"),
    ],
)
def test_a_foreign_or_edited_proxy_is_refused(tmp_path, change, message):
    with pytest.raises(SchemaError, match=message):
        read_proxy(edited(tmp_path / "proxy.json", change))


def test_files_that_are_no_proxy(tmp_path):
    with pytest.raises(SchemaError, match="run `analog-deq fit` first"):
        read_proxy(tmp_path / "absent.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(SchemaError, match="not readable JSON"):
        read_proxy(tmp_path / "broken.json")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(SchemaError, match=r"list\.json"):
        read_proxy(tmp_path / "list.json")
