"""The switched-capacitor mapping without ngspice: charge conservation, clocked map, noise, fits of known laws."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.linalg import solve_discrete_lyapunov
from scipy.optimize import brentq

from analog_deq.errors import EquilibriumError, FitError, OutOfDomainError, SpecError
from analog_deq.fit.parameters import Table
from analog_deq.mappings.registry import load_family
from analog_deq.mappings.switched_cap.calibration import UNITS
from analog_deq.mappings.switched_cap.family import SwitchedCap
from analog_deq.mappings.switched_cap.fit import SwitchedCapProxy, _hold, fit_tables
from analog_deq.mappings.switched_cap.model import UnitMapping
from analog_deq.mappings.switched_cap.noise import period_covariance, period_noise
from analog_deq.mappings.switched_cap.proxy import charge_map
from analog_deq.mappings.switched_cap.sharing import Sharing
from analog_deq.mappings.switched_cap.spec import BOLTZMANN, Settings
from analog_deq.records import OK
from analog_deq.spec import DesignSpec
from analog_deq.train.network import Network

A0, CHARGE_C, SHARE = 2e3, -0.5e-15, 0.75
TAU0, TAU_LOAD, DELAY = 0.6e-9, 900.0, 1e-9
EN2, KT = 6e-9, BOLTZMANN * 300.15
SPREAD = np.array([0.004, 0.02, 0.01, 0.003])
INPUTS, STATES = 3, 4


def design(**family: Any) -> DesignSpec:
    content = {
        "schema": 1, "name": "small", "seed": 7, "mapping": "switched_cap", "family": family,
        "sizes": {"inputs": INPUTS, "states": STATES, "outputs": 2},
        "crossbar": {"g_min_siemens": 1e-6, "g_max_siemens": 1e-4},
    }  # fmt: skip
    return DesignSpec.model_validate(content)


def white(level: float, corner_hz: float, base: dict[str, Any]) -> pd.DataFrame:
    """Spectrum of variance ``level`` behind a pole."""
    f = np.geomspace(1.0, 1e6 * corner_hz, 2000)
    density = np.sqrt(level / (np.pi / 2 * corner_hz) / (1 + (f / corner_hz) ** 2))
    return pd.DataFrame({**base, "frequency": f, "density": density})


def tables(settings: Settings) -> dict[str, pd.DataFrame]:
    """Tables of a neuron that follows the closed forms exactly; sigma is tanh."""
    plan, part, unit, full = settings.plan, settings.capacitors, settings.scales.v_unit_v, 2 * settings.scales.z_unit_v
    transfer, settling, noise = [], [], []
    for load in plan.loads_f:
        gain = 1 / (1 + (1 + (load + part.parasitic_f) / part.feedback_f) / A0)
        tau = TAU0 + TAU_LOAD * load
        done = 1 - np.exp(-(settings.clock.transfer_s - DELAY) / tau)
        for drive in plan.drives_h:
            h = (drive + CHARGE_C / (part.feedback_f * unit)) * gain * done
            k = np.arange(plan.periods)
            u = -unit * h * (1 - (1 - SHARE) ** k)
            z = full * np.tanh(-u / unit)
            transfer.append(pd.DataFrame({"load": load, "drive": drive, "period": k, "v": -unit * h, "u": u, "z": z}))
            t = np.linspace(0.02, 1, 99) * settings.clock.transfer_s
            v = -unit * h / done * (1 - np.exp(-(t - DELAY) / tau))
            settling.append(pd.DataFrame({"load": load, "drive": drive, "elapsed": t, "v": v}))
        total = load + part.feedback_f + part.parasitic_f
        base = {"load": load, "bias": 0.0}
        noise.append(white(1e24 * (KT * total + EN2 * total**2), 2e8, {**base, "output": "charge"}))
        noise.append(white(1e-9 + 1e4 * total, 2e7, {**base, "output": "master"}))
        noise.append(white(1.2e-8, 1e9, {**base, "output": "share"}))
    for row in plan.rows_f:
        for bias in plan.biases_h:
            slope = 1 / np.cosh(bias) ** 2
            base = {"load": row, "bias": bias}
            noise.append(white(full**2 * (1e-14 + 2e-14 * slope**2) * 8e8, 5e8, {**base, "output": "z"}))
            level = full**2 * (1e-6 + 2e-6 * slope**2) / (1 + row / 0.6e-12)
            noise.append(white(level, 3e8, {**base, "output": "row"}))
    u = np.linspace(-plan.h_max, plan.h_max, plan.points) * unit
    rng = np.random.default_rng(1)
    dies = []
    for die in range(plan.dies):
        g, o, s, e = np.array([1, 0, 1, 0]) + SPREAD * rng.standard_normal(4)
        h = np.array(plan.drives_h)
        dies.append(pd.DataFrame({"die": die, "drive": h, "z": full * (s * np.tanh(g * h + o) + e)}))
    found = {
        "transfer": pd.concat(transfer), "settling": pd.concat(settling), "noise": pd.concat(noise),
        "activation": pd.DataFrame({"u": u, "z": full * np.tanh(-u / unit)}), "mismatch": pd.concat(dies),
    }  # fmt: skip
    return {name: frame.assign(status=OK) for name, frame in found.items()}


@functools.cache
def fitted() -> tuple[SwitchedCap, SwitchedCapProxy]:
    family = load_family(design())
    assert isinstance(family, SwitchedCap)
    return family, family.fit(tables(family.settings))


def capacitors(seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    """Programmed capacitors of a random contractive network with weights of both signs."""
    family, proxy = fitted()
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(STATES, STATES))
    w *= 0.8 / np.linalg.norm(w, 2)
    weights = np.concatenate([0.4 * rng.normal(size=(INPUTS, STATES)), 0.1 * rng.normal(size=(1, STATES)), w.T])
    return family.program(proxy, torch.as_tensor(scale * weights))


def test_fits_recover_the_laws_their_tables_were_made_of() -> None:
    _, proxy = fitted()
    assert proxy.amplifier.values["inverse_a0"] == pytest.approx(1 / A0, rel=1e-3)
    assert proxy.amplifier.values["charge_c"] == pytest.approx(CHARGE_C, rel=1e-3)
    assert proxy.settling.values["tau_load_s_per_f"] == pytest.approx(TAU_LOAD, rel=1e-2)
    assert proxy.hold.values["share"] == pytest.approx(SHARE, rel=1e-3)
    assert proxy.noise["charge"].values["per_f"] == pytest.approx(KT, rel=0.02)
    assert proxy.noise["charge"].values["per_f2"] == pytest.approx(EN2, rel=0.01)
    assert proxy.noise["row"].values["c0_f"] == pytest.approx(0.6e-12, rel=0.01)
    assert np.sqrt(np.diag(proxy.mismatch.covariance)) == pytest.approx(SPREAD, rel=0.4)  # 64 dies
    assert SwitchedCapProxy.model_validate_json(proxy.model_dump_json()) == proxy


def test_a_neuron_that_saturates_early_does_not_pass_as_a_charge_amplifier() -> None:
    family, _ = fitted()
    bent = tables(family.settings)
    bent["transfer"]["v"] = 0.3 * np.tanh(bent["transfer"]["v"] / 0.3)
    with pytest.raises(FitError, match="amplifier"):
        fit_tables(bent, family.settings)


def test_the_map_is_charge_conservation_at_the_summing_node() -> None:
    """Against the two phases written out: charge frozen at reset equals charge at the end of the transfer."""
    family, proxy = fitted()
    part, unit, z_unit = family.settings.capacitors, family.settings.scales.v_unit_v, family.settings.scales.z_unit_v
    c = capacitors().numpy()
    rows = np.random.default_rng(3).uniform(-1, 1, c.shape[1])
    rows[INPUTS] = 1.0
    a0 = 1 / proxy.amplifier.values["inverse_a0"]
    h = []
    for i in range(STATES):
        volts, farads = z_unit * np.concatenate([rows, -rows]), np.concatenate([c[0, :, i], c[1, :, i]])
        all_f = farads.sum() + part.feedback_f + part.parasitic_f
        # reset: rows and far plate at 0, s = -v / a0 = 0; then q leaves through the switch, rows step to their volts
        # q = sum C (s - V) + C_F (s - v) + C_P s with s = -v / a0
        v = -(farads @ volts + proxy.amplifier.values["charge_c"]) / (part.feedback_f + all_f / a0)
        tau = proxy.settling.values["tau0_s"] + proxy.settling.values["tau_load_s_per_f"] * farads.sum()
        done = 1 - np.exp(-(family.settings.clock.transfer_s - proxy.settling.values["delay_s"]) / tau)
        h.append(-v * done / unit)
    m = charge_map(family.settings, proxy, torch.as_tensor(c), INPUTS)
    x, z = torch.as_tensor(rows[:INPUTS]), torch.as_tensor(rows[INPUTS + 1 :])
    assert (m.w_state @ z + m.w_input @ x + m.bias).numpy() == pytest.approx(np.array(h), abs=1e-12)


def test_gradient_of_the_map_in_every_capacitor() -> None:
    family, proxy = fitted()
    c = (capacitors() + 5e-15).requires_grad_()
    scale = 1e-12

    def effective(units: torch.Tensor) -> torch.Tensor:
        m = charge_map(family.settings, proxy, units * scale, INPUTS)
        return torch.cat([m.w_state.flatten(), m.w_input.flatten(), m.bias])

    assert torch.autograd.gradcheck(effective, (c.detach() / scale).requires_grad_(), eps=1e-6, atol=1e-6)


def test_weights_become_whole_units_and_saturate() -> None:
    mapping = UnitMapping(unit_f=1e-14, units=10, weight_per_farad=1e12)
    w = torch.tensor([[0.034, -0.026], [0.2, -7.0]], dtype=torch.float64, requires_grad=True)
    c = mapping.program(w)
    assert (c[0] - c[1]).detach().numpy() == pytest.approx(np.array([[3e-14, -3e-14], [1e-13, -1e-13]]))
    assert float((c[0] * c[1]).detach().abs().max()) == 0.0  # one line of a pair only
    (c[0] - c[1]).sum().backward()
    assert w.grad is not None
    assert w.grad.numpy() == pytest.approx(np.array([[1e-12, 1e-12], [0.0, 0.0]]))


def test_fixed_point_does_not_depend_on_the_shared_charge_and_periods_count_the_map() -> None:
    family, proxy = fitted()
    deployed = family.deploy(proxy, capacitors().numpy())
    x = torch.linspace(-1, 1, 5 * INPUTS, dtype=torch.float64).reshape(5, INPUTS)
    end = deployed.solve(x)
    u = deployed.drive(x)
    w, distance = torch.zeros_like(u), []
    for _ in range(300):
        distance.append((deployed.act.value(w) - end.z).abs().amax(1).numpy())
        w = (1 - SHARE) * w + SHARE * (deployed.act.value(w) @ deployed.map.w_state.T + u)
    far = np.array(distance)
    assert far[-1].max() < 1e-8
    for tolerance in (1e-1, 4e-3, 1e-4):
        k = deployed.periods(x, tolerance)
        assert all(far[k[i] :, i].max() <= tolerance < far[k[i] - 1, i] for i in range(5))
        assert deployed.settling_s(x, tolerance) == pytest.approx((k + 1) * family.settings.clock.period_s)


@functools.cache
def gated() -> tuple[dict[str, pd.DataFrame], Table]:
    """Tables of a hold whose slave is C_S and a gate of 0.08 C_M at rest that vanishes with h, and what is fitted."""
    family, _ = fitted()
    found, unit = tables(family.settings), family.settings.scales.v_unit_v
    transfer = found["transfer"].reset_index(drop=True)
    for _, rows in transfer.groupby(["load", "drive"]):
        h, w, kept = float(-rows["v"].iloc[0]) / unit, 0.0, []
        for _ in range(len(rows)):
            kept.append(w)
            right = h + gate_charge(w)
            w = brentq(lambda new, right=right: new + gate_charge(new) - right, -9, 9, xtol=1e-15)
        transfer.loc[rows.index, "u"] = -unit * np.array(kept)
    found["transfer"] = transfer
    return found, _hold(transfer, family.settings)[1]


def gate_charge(w: float) -> float:
    return w / 3 + 0.08 * np.tanh(w)


def test_sharing_recovers_a_gate_whose_charge_is_not_linear() -> None:
    """rho = 1/3 + 0.08 / cosh^2(w) between the grid's points too; a constant share would miss a period by 1e-2."""
    _, table = gated()
    sharing, w = Sharing.of(table), torch.linspace(-3.5, 3.5, 141, dtype=torch.float64)
    assert sharing.ratio(w).numpy() == pytest.approx(1 / 3 + 0.08 / np.cosh(w.numpy()) ** 2, abs=2e-3)
    assert sharing.share(torch.tensor(0.0, dtype=torch.float64)).item() == pytest.approx(
        1 / (1 + 1 / 3 + 0.08), abs=2e-3
    )
    h = w.flip(0)
    new = sharing.period(w, h)
    pairs = zip(w.tolist(), h.tolist(), strict=True)
    exact = [brentq(lambda v, a=a, b=b: v + gate_charge(v) - b - gate_charge(a), -9, 9) for a, b in pairs]
    assert new.numpy() == pytest.approx(np.array(exact), abs=2e-4)
    steady = sharing.share(w * 0) * (h - w)
    assert np.abs((w + steady).numpy() - exact).max() > 1e-2


def test_a_period_conserves_charge_and_rests_where_it_is_driven_to() -> None:
    _, table = gated()
    sharing = Sharing.of(table)
    w = torch.linspace(-6, 6, 49, dtype=torch.float64)  # the grid ends at 4.25
    h = torch.sin(3 * w)
    new = sharing.period(w, h)
    assert torch.allclose(new + sharing.charge(new), h + sharing.charge(w), rtol=0, atol=1e-12)
    assert torch.allclose(sharing.period(w, w), w, rtol=0, atol=1e-14)
    step = torch.full_like(w, 1e-6)
    slope = (sharing.charge(w + step) - sharing.charge(w - step)) / 2e-6
    assert torch.allclose(slope, sharing.ratio(w), rtol=0, atol=1e-6)


def test_a_hold_that_loses_charge_is_no_sharing() -> None:
    family, _ = fitted()
    found = tables(family.settings)
    found["transfer"]["u"] *= 1 + 0.02 * (found["transfer"]["period"] == 2)
    with pytest.raises(FitError, match="hold"):
        fit_tables(found, family.settings)


def test_period_covariance_is_the_discrete_lyapunov_solution_and_what_a_simulation_shows() -> None:
    rng = np.random.default_rng(5)
    j = rng.normal(size=(3, 3))
    j *= 0.9 / np.abs(np.linalg.eigvals(j)).max()
    q = np.cov(rng.normal(size=(3, 50)))
    c = period_covariance(torch.as_tensor(j), torch.as_tensor(q)).numpy()
    assert c == pytest.approx(solve_discrete_lyapunov(j, q), rel=1e-9)
    w, factor, seen = np.zeros((3, 20_000)), np.linalg.cholesky(q), []
    for _ in range(150):
        w = j @ w + factor @ rng.standard_normal(w.shape)
    seen = np.cov(w)
    assert np.diag(seen) == pytest.approx(np.diag(c), rel=0.05)  # 20,000 samples: 1 % of the variance each
    with pytest.raises(EquilibriumError, match="no contraction"):
        period_covariance(torch.as_tensor(1.2 * j), torch.as_tensor(q))


def test_noise_of_a_period_is_that_of_its_capacitors() -> None:
    """Without feedback, op-amp and state noise, a period samples kT C / C_F^2 and the sharing, and nothing else."""
    family, proxy = fitted()
    part, unit = family.settings.capacitors, family.settings.scales.v_unit_v
    c = capacitors()
    m = charge_map(family.settings, proxy, c, INPUTS)
    quiet = {
        "charge": {"per_f": KT, "per_f2": 0.0}, "master": {"constant_v2": 0.0, "per_f": 0.0},
        "state": {"constant": 0.0, "per_slope": 0.0, "per_slope2": 0.0},
    }  # fmt: skip
    forms = {k: f.model_copy(update={"values": quiet.get(k, f.values)}) for k, f in proxy.noise.items()}
    silent = proxy.model_copy(update={"noise": forms})
    a = torch.full((STATES,), SHARE, dtype=torch.float64)
    _, drawn = period_noise(family.settings, silent, m, torch.zeros(STATES, dtype=torch.float64), a)
    total = c.sum((0, 1)).numpy() + part.feedback_f + part.parasitic_f
    expected = (SHARE**2 * KT * total / part.feedback_f**2 + proxy.noise["share"].values["constant_v2"]) / unit**2
    assert np.diag(drawn.numpy()) == pytest.approx(expected, rel=1e-12)


def test_training_model_runs_and_gradients_reach_every_weight() -> None:
    family, proxy = fitted()
    model = family.model(proxy)
    network = Network(family.design, torch.Generator().manual_seed(1), max_slope=model.max_slope)
    x = torch.linspace(-1, 1, 8 * INPUTS, dtype=torch.float64).reshape(8, INPUTS)
    states = model(network, x, 3)
    again = model(network, x, 3)
    assert torch.equal(states.z, again.z)  # draws are keyed by the step
    (states.z.square().sum() + states.penalty).backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in (network.w_input, network.bias))


def test_beyond_the_calibrated_load_is_refused() -> None:
    family, proxy = fitted()
    with pytest.raises(OutOfDomainError, match="load_f"):
        family.deploy(proxy, np.full((2, INPUTS + 1 + STATES, STATES), 5e-12))


def test_wrong_keys_are_named() -> None:
    with pytest.raises(SpecError, match=r"clock.phase: unknown key"):
        load_family(design(clock={"phase": 1e-7}))
    with pytest.raises(SpecError, match="gap_s and early_s"):
        load_family(design(clock={"gap_s": 1e-10}))


def test_units_cover_every_table() -> None:
    family, _ = fitted()
    assert set(family.units) == set(tables(family.settings)) == set(UNITS)
    for name, frame in tables(family.settings).items():
        assert set(frame.columns) == {*UNITS[name], "status"}
