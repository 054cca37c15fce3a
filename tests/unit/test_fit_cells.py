"""Fits of cells unlike the shipped ones: feedback of their own, synapses that are not what was programmed, silence."""

from __future__ import annotations

import helpers as h
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import design, proxy, synthetic_tables, table

from analog_deq.equilibrium.network_noise import network_covariance
from analog_deq.errors import FitError
from analog_deq.fit.dynamics import fit_noise
from analog_deq.fit.fit import fit_proxy
from analog_deq.fit.forms import flicker_band, loop_noise_density
from analog_deq.fit.parameters import ConductanceSpread, ProxyParameters, SynapseLaw
from analog_deq.fit.static import fit_integrator, without_supply
from analog_deq.fit.variation import extract_neurons, fit_conductance, fit_crossbar, fit_synapse
from analog_deq.spec import Tolerances


def fitted(d=None, *, relative: bool = True, **replaced: pd.DataFrame) -> ProxyParameters:
    tables = synthetic_tables()
    tables.update({name: table(name, rows) for name, rows in replaced.items()})
    return fit_proxy(tables, d or design(), Tolerances(), {}, {}, relative_spread=relative)


# --- an integrator with feedback of its own ---------------------------------------------------------------------------

OWN, I0 = 11.5e3, 2e-7


def own_rows(vos: float = 0.0, r_error: float = 0.0) -> pd.DataFrame:
    """Transfer of a cell whose current is (s - v)/R + i0, from Kirchhoff's law; the drive comes through R_FEEDBACK."""
    frames = []
    y = 1 / (OWN * (1 + r_error))
    for load in h.LOADS:
        drive = np.linspace(-0.5, 0.5, 33)
        v = ((h.S0 + vos) * (y + load) + I0 - drive / h.R_FEEDBACK) / (y + (y + load) / h.A0)
        frame = {"load": load, "driver_load": 0.0, "drive": drive, "v": v, "s": h.S0 + vos - v / h.A0}
        frames.append(pd.DataFrame(frame))
    return pd.concat(frames, ignore_index=True)


def test_transresistance_and_input_current_of_an_integrator_are_fitted():
    form = fit_integrator(own_rows(), h.R_FEEDBACK, h.V_UNIT, 1e-6, own_feedback=True)
    assert form.values["r_feedback_ohm"] == pytest.approx(OWN, rel=1e-9)
    assert form.values["i0_a"] == pytest.approx(I0, rel=1e-6)
    assert 1 / form.values["inverse_a0"] == pytest.approx(h.A0, rel=1e-6)
    assert form.goodness.held_out < 1e-9
    assert np.shape(form.covariance) == (4, 4)
    as_designed = fit_integrator(own_rows(), h.R_FEEDBACK, h.V_UNIT, 1e-6)
    assert as_designed.goodness.held_out > 0.1  # taken for R_FEEDBACK, it is far off


def test_an_integrator_far_from_the_design_says_what_to_write():
    with pytest.raises(FitError, match=r"transresistance is 1\.15e\+04 ohm, but neuron\.r_feedback_ohm.* is 5000 ohm"):
        fit_integrator(own_rows().assign(drive=own_rows()["drive"] / 2), 5e3, h.V_UNIT, 1.0, own_feedback=True)


def test_dies_are_extracted_about_the_integrators_own_values():
    p = proxy()
    form = fit_integrator(own_rows(), h.R_FEEDBACK, h.V_UNIT, 1e-6, own_feedback=True)
    rows = own_rows(vos=1e-3, r_error=0.01)
    load = h.LOADS[4]
    rows = rows[rows["load"] == load].assign(die=0)
    z = h.sigma(-rows["v"] / h.V_UNIT) * h.Z_UNIT
    curves = rows.assign(zp=z, zn=-z)
    steps = pd.DataFrame({"die": [0], "tau": [(h.TAU0 + h.TAU_LOAD * load) * 1.02]})
    frame, _, _ = extract_neurons(
        curves, steps, form, p.tau, p.activation, r_feedback_ohm=h.R_FEEDBACK, v_unit_v=h.V_UNIT, z_unit_v=h.Z_UNIT
    )
    assert frame["r_feedback"][0] == pytest.approx(0.01, abs=1e-6)
    assert frame["vos_v"][0] == pytest.approx(1e-3, rel=0.02)
    assert frame["tau"][0] == pytest.approx(0.02, abs=1e-9)


# --- synapses ---------------------------------------------------------------------------------------------------------


def law(noise: pd.DataFrame | None = None, **shape: float) -> SynapseLaw:
    noise = h.synapse_noise_rows() if noise is None else noise
    return fit_synapse(h.synapse_rows(**shape), noise, 0.1, h.KELVIN, 1e-4)


def test_a_resistor_is_what_it_was_programmed_to():
    plain = law()
    assert (plain.form, plain.values, plain.linear, plain.thermal) == ("G = g", [], True, True)
    g = torch.tensor([1e-6, 3.7e-5], dtype=torch.float64)
    assert plain.seen(g) is g


def test_a_series_resistance_is_seen_and_its_gradient_too():
    series = law(series_ohm=300.0)
    assert series.linear
    g = torch.tensor([1e-6, 4.2e-6, 55e-6, 100e-6], dtype=torch.float64, requires_grad=True)
    seen = series.seen(g)
    assert seen.detach().numpy() == pytest.approx((g / (1 + 300 * g)).detach().numpy(), rel=1e-5)
    (slope,) = torch.autograd.grad(seen.sum(), g)
    assert slope.numpy() == pytest.approx((1 / (1 + 300 * g) ** 2).detach().numpy(), rel=2e-3)
    assert 0 < series.goodness.held_out < 1e-5


def test_a_bend_is_measured_against_the_conductance_at_the_read_voltage():
    """I = g v (1 + b (v/0.2)^2): read at 0.1 V as g (1 + b/4), and 3b/4 of it more at 0.2 V."""
    bent = law(bend=0.04)
    assert bent.bend == pytest.approx(0.03 / 1.01, rel=1e-6)
    assert not bent.linear
    assert bent.seen(torch.tensor([5e-5], dtype=torch.float64))[0] == pytest.approx(1.01 * 5e-5, rel=1e-9)


def test_noise_beyond_that_of_a_resistor_is_noticed():
    flicker = law(noise=h.synapse_noise_rows(corner_hz=1e4))
    assert flicker.excess_noise == pytest.approx(np.sqrt(11) - 1, rel=1e-6)
    silent = h.synapse_noise_rows().assign(density=0.0)
    assert not flicker.thermal
    assert not law(noise=silent).thermal


def test_a_level_that_failed_and_one_that_falls_are_refused():
    rows = h.synapse_rows()
    with pytest.raises(FitError, match="not evenly spaced"):
        fit_synapse(rows[rows["g"] != rows["g"].unique()[7]], h.synapse_noise_rows(), 0.1, h.KELVIN, 1e-4)
    with pytest.raises(FitError, match="does not rise"):
        fit_synapse(rows.assign(current=-rows["current"]), h.synapse_noise_rows(), 0.1, h.KELVIN, 1e-4)


def test_the_wires_are_checked_with_the_conductances_that_are_there():
    rows, steep = h.crossbar_rows(), law(series_ohm=-300.0)  # more than was programmed: 3 % at 100 uS
    programmed = rows.assign(g=rows["g"] / (1 + 300 * rows["g"]))
    inside = fit_crossbar(programmed, steep, 10.0, 1e-6).goodness
    assert inside.held_out <= inside.tolerance < 2e-5
    wrong = fit_crossbar(programmed, law(), 10.0, 1e-6).goodness
    assert wrong.held_out > 1e-3


def spread_rows(dies: int = 400) -> tuple[pd.DataFrame, np.ndarray]:
    """Conductances behind 300 ohm with an absolute error that is largest in the middle; its sigma at each level."""
    levels, sigma = np.array([1e-6, 10e-6, 50e-6, 100e-6]), np.array([0.3e-6, 1.5e-6, 2.3e-6, 1.0e-6])
    seen = levels / (1 + 300 * levels)
    measured = seen + sigma * np.random.default_rng(5).standard_normal((dies, 4))
    rows = {"die": np.repeat(np.arange(dies), 4), "target": np.tile(levels, dies), "read": 0.1}
    return pd.DataFrame({**rows, "measured": measured.ravel()}), sigma


def test_a_spread_that_follows_the_level_is_fitted_at_each():
    rows, sigma = spread_rows()
    series = law(series_ohm=300.0)
    form = fit_conductance(rows, series, 0.01, relative=False)
    assert [form.values[f"sigma_{k}"] for k in range(4)] == pytest.approx(sigma, rel=0.2)
    assert np.abs([form.values[f"mean_{k}"] for k in range(4)]).max() < 4 * sigma.max() / np.sqrt(200)
    assert form.goodness.held_out < form.goodness.tolerance
    at = np.array([10e-6, 30e-6])
    (seen,) = series.seen_arrays(at)
    _, relative = form.relative(at, seen)
    expected = [form.values["sigma_1"], (form.values["sigma_1"] + form.values["sigma_2"]) / 2]
    assert relative * seen == pytest.approx(expected, rel=1e-9)
    assert np.shape(form.covariance) == (8, 8)
    assert ConductanceSpread.model_validate(form.model_dump()) == form
    # halves that do not agree are an error, whatever the number of dies
    half = rows.assign(measured=rows["measured"] + np.where(rows["die"] % 2, 0, 8e-6) * np.cos(rows["die"]))
    goodness = fit_conductance(half, series, 0.01, relative=False).goodness
    assert goodness.held_out > goodness.tolerance


# --- cells that leave something out -----------------------------------------------------------------------------------


def test_power_is_not_fitted_where_a_cell_draws_none():
    silent = h.supply_rows(silent=("activation",))
    assert without_supply(silent) == "activation 'curve'"
    assert without_supply(h.supply_rows()) == ""
    found = fitted(supply=silent)
    assert found.power is None
    assert found.not_modelled == {"power": "activation 'curve' has no supply current"}
    assert "power" not in found.forms()
    assert proxy().power is not None
    leak = silent.assign(i_vdd=np.where(silent["slot"] == "activation", 1e-9, silent["i_vdd"]))
    assert without_supply(leak) == ""  # a nanoampere is a current


def test_stages_without_noise_are_fitted_as_none():
    rows = h.noise_rows()
    v = rows[rows["output"] == "v"].set_index(["load", "bias", "frequency"])["density"]
    slope = h.sigma_slope(rows["bias"] / h.V_UNIT) * 2 * h.Z_UNIT / h.V_UNIT
    behind = v.reindex(pd.MultiIndex.from_frame(rows[["load", "bias", "frequency"]])).to_numpy() * slope
    rows["density"] = np.where(rows["output"] == "z", behind, rows["density"])
    p = proxy()
    form = fit_noise(
        rows, p.tau, p.activation, r_feedback_ohm=h.R_FEEDBACK, v_unit_v=h.V_UNIT, z_unit_v=h.Z_UNIT,
        temperature_k=h.KELVIN, tolerance=0.05,
    )  # fmt: skip
    assert form.values["en_v_per_rthz"] == pytest.approx(h.EN, rel=2e-3)
    assert form.values["z_white"] < 1e-3 * h.WHITE
    assert all(np.isfinite(value) for value in form.values.values())


def test_the_flicker_of_an_op_amp_is_told_from_its_white_noise():
    """3 uV^2/Hz at 1 Hz at its input, 120 kHz of corner at en: above the white noise over half the band of the loop."""
    kf, rows, p = 3e-12, h.noise_rows(), proxy()
    tau = (h.TAU0 + h.TAU_LOAD * rows["load"]).to_numpy()
    gain = (1 + h.R_FEEDBACK * rows["load"]).to_numpy()
    slow = kf / rows["frequency"] * gain**2 / (1 + (2 * np.pi * rows["frequency"] * tau) ** 2)
    onto_z = (h.sigma_slope(rows["bias"] / h.V_UNIT) * 2 * h.Z_UNIT / h.V_UNIT) ** 2
    more = np.where(rows["output"] == "z", slow * onto_z, slow)
    form = fit_noise(
        rows.assign(density=np.sqrt(rows["density"] ** 2 + more)), p.tau, p.activation, r_feedback_ohm=h.R_FEEDBACK,
        v_unit_v=h.V_UNIT, z_unit_v=h.Z_UNIT, temperature_k=h.KELVIN, tolerance=0.05,
    )  # fmt: skip
    assert form.values["loop_flicker_v2"] == pytest.approx(kf, rel=1e-3)
    assert form.values["en_v_per_rthz"] == pytest.approx(h.EN, rel=5e-3)
    assert form.goodness.held_out < 0.01
    assert p.noise.values["loop_flicker_v2"] == 0.0
    # its variance behind the pole: the integral of 1/f from 1 kHz on
    f = np.logspace(3, 9, 4001)
    area = np.trapezoid(1 / f / (1 + (2 * np.pi * f * 2e-7) ** 2), f)
    assert float(flicker_band(1e3, torch.tensor(2e-7))) == pytest.approx(area, rel=1e-4)


def test_slow_noise_of_the_loop_is_amplified_by_the_feedback():
    """Two neurons that do not see each other: D^2 of what is at h, over (1 - D w)^2, up to the loop's own pole."""
    p, d = proxy(), design(states=2)
    kf, load = 4e-13, np.array([0.5e-3, 1e-3])
    values = {**p.noise.values, "loop_flicker_v2": kf}
    slow = p.model_copy(update={"noise": p.noise.model_copy(update={"values": values})})
    w, slope = torch.diag(torch.tensor([0.3, -0.5], dtype=torch.float64)), torch.tensor([0.8, 0.6], dtype=torch.float64)
    tau = torch.as_tensor(h.TAU0 + h.TAU_LOAD * load)
    with_it, without = (network_covariance(d, q, w, load, slope, tau) for q in (slow, p))
    at_h = kf * (1 + h.R_FEEDBACK * load) ** 2 / h.V_UNIT**2
    own = 1 - slope.numpy() * np.diag(w.numpy())
    band = np.log(own / (2 * np.pi * 1e3 * tau.numpy()))  # 1 kHz is far below the pole
    expected = slope.numpy() ** 2 * at_h * band / own**2
    assert (with_it - without).diagonal().numpy() == pytest.approx(expected, rel=3e-4)
    assert abs(float((with_it - without)[0, 1])) < 1e-9 * expected.max()


def test_a_low_loop_gain_is_part_of_the_noise():
    """(1 + R G)/a0 = 0.5: the loop's noise is lower by 1.5, squared in power."""
    load, en = torch.tensor([0.4e-3], dtype=torch.float64), torch.tensor(h.EN, dtype=torch.float64)
    ratio = loop_noise_density(load, en, 1e4, 300.0) / loop_noise_density(load, en, 1e4, 300.0, inverse_a0=0.1)
    assert float(ratio) == pytest.approx(1.5**2, rel=1e-12)
    assert proxy().noise.values["inverse_a0"] == 0.0  # 0.5 % at the largest load: left out
