"""What causes cost a network, on a proxy fitted to closed forms: references, switches, and planted causes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import design, proxy

from analog_deq.attribution import Attribution, Scope, attribute
from analog_deq.attribution.attribute import present
from analog_deq.attribution.causes import DESIGN_CAUSES, mismatch_cause, netlist_without, switched_off
from analog_deq.attribution.cells import at_best, ideal_activation, with_parameters, without_mismatch
from analog_deq.attribution.costs import group_costs, signed_root
from analog_deq.attribution.dies import DieDraws, DieNetwork, fitted_draws
from analog_deq.attribution.games import ReadNetwork
from analog_deq.attribution.setting import Setting
from analog_deq.attribution.shapley import shapley
from analog_deq.equilibrium.certificate import certify
from analog_deq.fit.parameters import ProxyParameters
from analog_deq.fit.variation import NEURON_PARAMETERS
from analog_deq.netlists.neuron import load_cells
from analog_deq.proxy.mapping import ConductanceMapping, quantise
from analog_deq.spec import Cells, DesignSpec
from analog_deq.train.checkpoint import Checkpoint
from analog_deq.train.deployed import DeployedNetwork
from analog_deq.train.network import Network
from analog_deq.train.tasks.task import Task

torch.set_num_threads(1)

STATES, INPUTS, OUTPUTS, IMAGES = 4, 8, 2, 24
SMALL = Scope(dies=3, images=5, exact_up_to=2, pairs=2)


def small(**changes: Any) -> DesignSpec:
    return design(
        STATES,
        INPUTS,
        OUTPUTS,
        **{"verify": {"trim_images": 8, "images_per_die": 6, "transient_window_s": 4e-6}, **changes},
    )


def network(d: DesignSpec, p: ProxyParameters) -> Checkpoint:
    """A random class-A network with its weights before rounding."""
    made = Network(d, torch.Generator().manual_seed(3), max_slope=1.0)
    with torch.no_grad():
        made.weight.t.mul_(4.0)
        made.w_input.mul_(2.0)
        made.bias.mul_(6.0)
        fine = d.model_copy(update={"crossbar": d.crossbar.model_copy(update={"levels": 0})})
        mapping, analogue = (ConductanceMapping.of(x.neuron, x.crossbar, p.r_feedback_ohm) for x in (d, fine))
        g_pos, g_neg = (g.numpy() for g in mapping.program(made.weights()))
        before = torch.stack(analogue.program(made.weights())).numpy()
    deployed = DeployedNetwork.nominal(d, p, g_pos, g_neg)
    certificate = certify(deployed.w_state, deployed.act.max_slope, deployed.tau_s)
    readout = made.readout.detach().numpy(), made.readout_bias.detach().numpy()
    return Checkpoint(g_pos, g_neg, *readout, certificate, "", "", d.seed, {}, {}, None, before)


def task(d: DesignSpec) -> Task:
    """Labels are the sign of a random projection, on inputs between the codes of a converter."""
    rng = np.random.default_rng(11)
    x = torch.as_tensor(rng.uniform(-1, 1, (2 * IMAGES, INPUTS)))
    y = torch.as_tensor((x.numpy() @ rng.normal(size=INPUTS) > 0).astype(int))
    index = np.arange(IMAGES)
    return Task("classification", x[:IMAGES], y[:IMAGES], x[IMAGES:], y[IMAGES:], index, index)


def attributed(d: DesignSpec, p: ProxyParameters, setting: Setting | None = None, **options: Any) -> Attribution:
    return attribute(d, p, network(d, p), task(d), setting=setting, scope=SMALL, **options)


def scaled_mismatch(p: ProxyParameters, **factors: float) -> ProxyParameters:
    """The proxy with standard deviations of fitted neuron parameters multiplied."""
    scale = np.array([factors.get(name, factors.get("others", 1.0)) for name in p.mismatch.names])
    covariance = (scale[:, None] * np.array(p.mismatch.covariance) * scale).tolist()
    return p.model_copy(update={"mismatch": p.mismatch.model_copy(update={"covariance": covariance})})


def test_with_every_nominal_cause_off_the_network_is_its_software() -> None:
    """tanh(W z + W_x x + c) with the weights before rounding, solved here with plain NumPy."""
    d, p = small(), proxy()
    net = network(d, p)
    setting = Setting.of(d, p, net)
    ideal = switched_off(setting, *present(setting, DESIGN_CAUSES)).nominal()
    x = task(d).x_test
    scale = p.r_feedback_ohm * d.neuron.z_unit_v / d.neuron.v_unit_v
    assert net.analogue_siemens is not None
    w = scale * (net.analogue_siemens[0] - net.analogue_siemens[1])
    z = np.zeros((len(x), STATES))
    for _ in range(500):
        z = np.tanh(x.numpy() @ w[:INPUTS] + w[INPUTS] + z @ w[INPUTS + 1 :])
    assert ideal.solve(x).reading.numpy() == pytest.approx(z, abs=1e-6)


@pytest.mark.parametrize("changes", [{}, {"crossbar": {"both_word_ends": True}}, {"tiling": {"rows": 7, "columns": 2}}])
def test_with_every_nominal_cause_on_it_is_the_deployed_network(changes: dict[str, Any]) -> None:
    d, p = small(**changes), proxy()
    net = network(d, p)
    x = task(d).x_test
    deployed = DeployedNetwork.nominal(d, p, net.g_pos, net.g_neg).solve(x, domain_share=None)
    found = Setting.of(d, p, net).nominal().solve(x)
    assert found.reading.numpy() == pytest.approx(deployed.reading.numpy(), abs=1e-7)


def test_shares_of_each_group_add_up_to_its_total() -> None:
    found = attributed(small(), proxy())
    assert [g.group for g in found.groups] == ["design", "die", "read"]
    for g in found.groups:
        assert sum(c.share[0] for c in g.costs) == pytest.approx(g.total_fs**2)
        assert sum(c.points for c in g.costs) == pytest.approx(g.total_points, abs=1e-9)
    frame = found.frame()
    assert len(frame) == sum(len(g.costs) for g in found.groups)
    assert frame["cause"].iloc[0] == found.to_fix[0].cause.name


@pytest.mark.parametrize("planted", ["vos_v", "r_feedback", "out_offset", "synapse", "noise", "settling window"])
def test_a_planted_cause_is_the_one_to_fix_first(planted: str) -> None:
    d, p = small(trim={"range_a": 1e-9}), scaled_mismatch(proxy(), others=0.1)  # a trim that does nothing
    setting = None
    if planted == "synapse":
        values = {"mean": 0.0, "sigma": 0.1}
        p = p.model_copy(update={"conductance": p.conductance.model_copy(update={"values": values})})
    elif planted == "noise":
        noisy = {**p.noise.values, "en_v_per_rthz": 2e-6}
        p = p.model_copy(update={"noise": p.noise.model_copy(update={"values": noisy})})
    elif planted == "settling window":
        setting = replace(Setting.of(d, p, network(d, p)), read_s=2 * p.tau.values["tau0_s"])
    else:
        p = scaled_mismatch(proxy(), **{planted: {"r_feedback": 20.0}.get(planted, 10.0), "others": 0.1})
    assert attributed(d, p, setting, design_causes=()).to_fix[0].cause.name == planted


def test_the_trim_takes_offsets_away_and_leaves_its_own_step() -> None:
    d, p = small(), scaled_mismatch(proxy(), others=0.05, vos_v=5.0)
    dies_only = {"design_causes": (), "read_causes": ()}
    found = attributed(d, p, **dies_only)
    of_dies = found.group("die")
    assert of_dies is not None
    assert found.untrimmed_fs is not None
    assert of_dies.total_fs < found.untrimmed_fs / 5
    fine = attributed(d.model_copy(update={"trim": d.trim.model_copy(update={"bits": 4})}), p, **dies_only).group("die")
    assert fine is not None
    coarse = {c.cause.name: c.share[0] for c in fine.costs}
    usual = {c.cause.name: c.share[0] for c in of_dies.costs}
    assert coarse["trim step"] > 10 * max(usual["trim step"], 0.0)  # 17 times the step


def test_small_errors_add_in_the_square() -> None:
    """Errors so small that the network is linear in them, on dies with every pair of signs: no cross terms are left."""
    d = small(trim={"range_a": 1e-12})
    p = scaled_mismatch(proxy(), others=0.01)
    p = p.model_copy(update={"conductance": p.conductance.model_copy(update={"values": {"mean": 0.0, "sigma": 1e-4}})})
    net = network(d, p)
    drawn = fitted_draws(Setting.of(d, p, net), 1, 1)
    offset = np.concatenate([drawn.own["vos_v"] * sign for sign in (1, 1, -1, -1)])
    conductance = np.concatenate([drawn.conductance * sign for sign in (1, -1, 1, -1)])
    draws = DieDraws((0, 0, 0, 0), drawn.base, {"vos_v": offset}, conductance)
    scope = Scope(dies=4, images=4)
    found = attribute(d, p, net, task(d), draws=draws, scope=scope, design_causes=(), read_causes=()).group("die")
    assert found is not None
    for cost in found.costs[:2]:
        assert cost.share[0] == pytest.approx(cost.alone[0], rel=0.01)
        assert cost.share[0] == pytest.approx(cost.last[0], rel=0.01)
    assert found.total_fs**2 == pytest.approx(sum(cost.alone[0] for cost in found.costs), rel=0.01)


def test_reading_early_costs_what_a_single_pole_leaves() -> None:
    """Without feedback h = u (1 - exp(-(t - delay)/tau)) of each neuron, and z is its activation."""
    d, p = small(), proxy()
    net = network(d, p)
    g = p.conductance.domain["target_siemens"][0]
    g_pos, g_neg = net.g_pos.copy(), net.g_neg.copy()
    g_pos[INPUTS + 1 :], g_neg[INPUTS + 1 :] = g, g  # equal pairs: no feedback
    setting = Setting.of(d, p, replace(net, g_pos=g_pos, g_neg=g_neg)).changed("crossbar", r_line_ohm=0.0)
    setting = setting.fitted("integrator", inverse_a0=0.0).fitted("driver", r_out_ohm=0.0)
    read_s = 3e-7
    x = task(d).x_test
    network_ = ReadNetwork(setting, x, np.zeros((len(x), STATES)), 0)
    found = network_.states(replace(setting, read_s=read_s), False)
    loop = setting.nominal()
    u = loop.drive(quantise(x, d.converters.dac_bits))
    tau = torch.as_tensor(setting.tau_s(loop.load.numpy()))
    expected = loop.act.value(u * -torch.expm1(-(read_s - p.tau.values["delay_s"]) / tau))
    assert found.numpy() == pytest.approx(expected.numpy(), abs=2e-4)


def test_leaving_a_parameter_out_leaves_it_at_its_mean() -> None:
    d, p = small(), proxy()
    setting = Setting.of(d, p, network(d, p))
    draws = fitted_draws(setting, 2, 1)
    some = draws.parameters(frozenset({"sat"}))
    assert np.all(some["vos_v"] == 0.0)
    assert np.all(some["in_scale"] == 1.0)
    everything = draws.parameters(frozenset(draws.own))
    for k, name in enumerate(NEURON_PARAMETERS):
        assert everything[name] == pytest.approx(draws.base[k] + draws.own[name][..., k])
    dies = DieNetwork.of(setting, draws, None, task(d).x_test)
    x = task(d).x_test.expand(2, -1, -1)
    nominal = setting.nominal().solve(task(d).x_test).reading
    assert dies.readings(frozenset(), x)[1].numpy() == pytest.approx(nominal.numpy(), abs=1e-5)


def test_few_labels_never_prove_that_a_cause_costs_no_points() -> None:
    shares = shapley(("noise",), lambda on: np.array([[1.0 * len(on), 0.0]] * 5))
    cause = mismatch_cause("synapse")
    cost = group_costs("die", "", [replace(cause, name="noise")], shares, labels=4).costs[0]
    assert cost.points == 0.0
    assert cost.high[1] == pytest.approx(100 * (1 - 0.025 ** (1 / 20)))
    assert group_costs("die", "", [replace(cause, name="noise")], shares).costs[0].high[1] == 0.0


def test_a_negative_share_has_a_negative_root() -> None:
    assert [signed_root(v) for v in (-4.0, 0.0, 9.0)] == [-2.0, 0.0, 3.0]


# --- switches in the netlist ----------------------------------------------------------------------------------------


def test_a_cell_at_the_best_of_its_range() -> None:
    cells = load_cells(Cells())
    assert cells.opamp is not None
    best = at_best(cells.opamp, highest=("a0",))
    assert best is not None
    pins = {pin: pin for pin in best.contract.pins}
    assert "a0=100000000.0" in best.instance("X1", pins)
    assert "a0=20.0" in best.instance("X1", pins, {"a0": 20.0}), "an instance's own value counts"
    assert "a0" not in cells.opamp.instance("X1", pins), "the cell itself is as it was"
    assert at_best(cells.opamp, highest=("unity",)) is None


def test_a_corner_keeps_its_own_parameters() -> None:
    pair = load_cells(Cells()).activation.at("ss")
    changed = with_parameters(pair, {"iss": 1e-5})
    pins = {pin: pin for pin in changed.contract.pins}
    assert {"dvtn=0.05", "kn=0.9", "iss=1e-05"} <= set(changed.instance("X1", pins).split())


def test_mismatch_off_keeps_every_other_draw() -> None:
    cells = load_cells(Cells())
    off = replace(cells, activation=without_mismatch(cells.activation, "dvt"))
    assert off.mismatch() == {**cells.mismatch(), "activation.dvt": 0.0}


def test_causes_without_a_switch_in_the_netlist_say_so() -> None:
    d, p = small(), proxy()
    cells = load_cells(Cells(opamp="ota_5t"))  # transistors: no gain to set
    setting = Setting.of(d, p, network(d, p), cells)
    gain = next(c for c in DESIGN_CAUSES if c.name == "finite gain")
    assert netlist_without(setting, gain) is None
    assert netlist_without(Setting.of(d, p, network(d, p)), gain) is None, "no cells, no netlist"
    wires = next(c for c in DESIGN_CAUSES if c.name == "wires")
    off = netlist_without(setting, wires)
    assert off is not None
    assert off.design.crossbar.r_line_ohm == 0.0


def test_the_ideal_activation_is_a_tanh_behind_its_driver() -> None:
    d, cells = small(), load_cells(Cells())
    cell = ideal_activation(d.neuron, cells.driver)
    assert cell.role == "activation"
    assert f"{d.neuron.z_unit_v / 2!r}*tanh(v(in)/{d.neuron.v_unit_v!r})" in cell.netlist
    assert cell.mismatch_sigmas == {}
    assert math.isclose(cells.driver.contract.conditions["gain"].typ, 2.0)


def test_an_auto_zero_leaves_little_of_the_offsets() -> None:
    d, p = small(autozero={"amplifier_noise_v": 0.0, "injection_sigma_c": 0.0}), proxy()
    raw, zeroed = (fitted_draws(Setting.of(x, p, network(x, p)), 8, 1).own["vos_v"][..., 0] for x in (small(), d))
    assert np.std(zeroed) < np.std(raw) / 20  # kT/C of 10 pF: 20 uV
    assert np.std(zeroed) > 1e-5
