"""The whole network in ngspice: reduced deck against flat deck, and the calibrated proxy against both."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import design, plan

from analog_deq.calibration.campaign import run_campaign
from analog_deq.calibration.measurement import Bench
from analog_deq.calibration.mismatch import neuron_sigmas
from analog_deq.draws import Stream, deviations, generator
from analog_deq.equilibrium.cell import System
from analog_deq.equilibrium.network_noise import network_covariance
from analog_deq.equilibrium.solve import equilibrium
from analog_deq.errors import NetlistError, SimulationError
from analog_deq.fit.fit import fit_proxy
from analog_deq.fit.parameters import ProxyParameters
from analog_deq.netlists.crossbar import CrossbarParameters
from analog_deq.netlists.deck import build_deck
from analog_deq.netlists.network import NetworkParameters, flat_network, port_names, reduced_network, saved_vectors
from analog_deq.netlists.neuron import NeuronCells, load_cells
from analog_deq.provenance import Provenance
from analog_deq.proxy.activation import TableActivation
from analog_deq.proxy.array import effective_map, linear_map
from analog_deq.proxy.mapping import ConductanceMapping
from analog_deq.records import OK, Dc, Op, Progress
from analog_deq.reduction import mesh, reduce_array
from analog_deq.resources import shipped
from analog_deq.spec import Cells, DesignSpec
from analog_deq.spice.runner import run_deck
from analog_deq.spice.simulator import Simulator
from analog_deq.tables import COLUMNS, SCHEMA, CalibrationTable
from analog_deq.train.deployed import DeployedNetwork
from analog_deq.train.network import Network
from analog_deq.verify.dies import draw_die, needs_reading, read_dies
from analog_deq.verify.dynamics import run_noise
from analog_deq.verify.lower import LoweredNetwork, MeasuredStates, supply_power_w
from analog_deq.verify.supply import with_exact_supply
from analog_deq.verify.sweeps import Bed, Sweep, run_sweeps

pytestmark = pytest.mark.spice

STATES, INPUTS = 4, 3
FULL_SCALE = 1.0
TIGHT: dict[str, float | str | bool] = {
    "reltol": 1e-9, "abstol": 1e-14, "vntol": 1e-10, "gmin": 1e-15, "method": "gear",
}  # fmt: skip


def cells() -> NeuronCells:
    return load_cells(Cells())


def programmed(d: DesignSpec) -> tuple[np.ndarray, np.ndarray]:
    """Conductances of a random class-A network whose inputs drive every state well into its curve."""
    network = Network(d, torch.Generator().manual_seed(3), max_slope=1.0)
    with torch.no_grad():
        network.weight.t.mul_(4.0)
        network.w_input.mul_(2.0)
        network.bias.mul_(6.0)
        g_pos, g_neg = ConductanceMapping.of(d.neuron, d.crossbar).program(network.weights())
    return g_pos.numpy(), g_neg.numpy()


def images(count: int = 3) -> np.ndarray:
    """DAC outputs on the codes of an 8-bit converter."""
    return np.round(np.random.default_rng(8).uniform(0, 1, (count, INPUTS)) * 127) / 127


def drawn_die(d: DesignSpec) -> tuple[Mapping[str, np.ndarray], np.ndarray]:
    """Deviations of every neuron and the relative errors of every conductance, (2, rows, states)."""
    rng = generator(d.seed, Stream.VERIFY_DIE, 0)
    neurons = deviations(rng, neuron_sigmas(cells(), d.mismatch), STATES)
    return neurons, 0.02 * rng.standard_normal((2, INPUTS + 1 + STATES, STATES))


def lowered(d: DesignSpec, simulator: Simulator, *, mismatch: bool = False, r_out: float = 10.0) -> LoweredNetwork:
    g_pos, g_neg = programmed(d)
    neurons: Mapping[str, np.ndarray] = {}
    if mismatch:
        neurons, errors = drawn_die(d)
        g_pos, g_neg = g_pos * (1 + errors[0]), g_neg * (1 + errors[1])
    return LoweredNetwork(d, cells(), g_pos, g_neg, simulator.klu, r_out, neurons)


def solved(
    net: LoweredNetwork, x: np.ndarray, simulator: Simulator, folder: Path, *, flat: bool, reltol: float = 1e-9
) -> MeasuredStates:
    deck = net.equilibria(x, flat=flat, reltol=reltol)
    return net.read_states(run_deck(deck, simulator=simulator, folder=folder, timeout_s=60.0).plots[0], x, flat=flat)


# --- reduced against flat -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mismatch", [False, True], ids=["nominal", "die"])
@pytest.mark.parametrize(("r_line", "both_ends"), [(0.0, False), (2.0, False), (20.0, True)])
def test_the_reduced_deck_equals_the_flat_deck(simulator, tmp_path, r_line, both_ends, mismatch):
    d = design(STATES, INPUTS, crossbar={"r_line_ohm": r_line, "both_word_ends": both_ends})
    net = lowered(d, simulator, mismatch=mismatch)
    flat = solved(net, images(), simulator, tmp_path, flat=True)
    reduced = solved(net, images(), simulator, tmp_path, flat=False)
    assert flat.z.shape == (3, STATES)
    assert np.abs(reduced.z - flat.z).max() <= 1e-6 * FULL_SCALE
    assert np.abs(reduced.ports_v - flat.ports_v).max() <= 1e-6 * d.neuron.z_unit_v
    assert np.abs(reduced.v - flat.v).max() <= 1e-6 * d.neuron.v_unit_v * 10
    # a one-way row feels neither the summing node's offset nor, through wires, the other rows: 2.4e-5 and 3.7e-5 here
    assert reduced.supply_w == pytest.approx(flat.supply_w, rel=1e-4 if mismatch or r_line > 2 else 1e-5)
    assert np.abs(flat.z).max() > 0.3  # the states do something
    assert np.abs(flat.z[0] - flat.z[1]).max() > 1e-2  # and the images differ


@pytest.mark.parametrize("mismatch", [False, True], ids=["nominal", "die"])
def test_the_full_mesh_is_the_array(simulator, tmp_path, mismatch):
    """The netlist generators alone, every port coupling kept: one image by .op, its flat twin beside it."""
    d = design(STATES, INPUTS)
    g_pos, g_neg = programmed(d)
    neurons: Mapping[str, np.ndarray] = {}
    if mismatch:
        neurons, errors = drawn_die(d)
        g_pos, g_neg = g_pos * (1 + errors[0]), g_neg * (1 + errors[1])
    array = CrossbarParameters(g_pos, g_neg, 2.0, 10.0)
    trim = np.array([1e-6, -2e-6, 0.5e-6, 0.0])
    parameters = NetworkParameters(d.neuron, d.operating, cells(), array, neurons, trim)
    volts = np.stack([[*images(1)[0], 1.0], [*-images(1)[0], -1.0]], axis=1).ravel() * d.neuron.z_unit_v
    admittance = reduce_array(g_pos, g_neg, r_line_ohm=2.0, r_dac_ohm=10.0)
    amps = -admittance.y_sources @ volts
    ports = {}
    for form, lines in (
        ("flat", flat_network(parameters, volts)),
        ("mesh", reduced_network(parameters, mesh(admittance.y_ports), amps)),
    ):
        deck = build_deck(form, lines, [Op()], save=saved_vectors(STATES), options=TIGHT, files=cells().files)
        plot = run_deck(deck, simulator=simulator, folder=tmp_path, timeout_s=60.0).plots[0]
        ports[form] = np.real(plot.columns([f"v({p})" for p in port_names(STATES)])[0])
    assert np.abs(ports["mesh"] - ports["flat"]).max() <= 1e-6 * d.neuron.z_unit_v


def test_rows_fed_from_both_ends_are_noisy_as_the_flat_deck_is_and_lose_less(simulator, tmp_path):
    """Spectra to 1e-6; and the states are nearer to those without wires than from one end."""
    states = {}
    for name, wires in (
        ("ideal", {"r_line_ohm": 0.0}), ("one", {"r_line_ohm": 20.0}),
        ("both", {"r_line_ohm": 20.0, "both_word_ends": True}),
    ):  # fmt: skip
        net = lowered(design(STATES, INPUTS, crossbar=wires), simulator)
        states[name] = solved(net, images(), simulator, tmp_path, flat=name != "both").z
    lost = {name: np.abs(states[name] - states["ideal"]).max() for name in ("one", "both")}
    assert 1e-3 < lost["both"] < lost["one"]  # by a twentieth: rows are short here, columns lose the rest
    spectra = [
        np.real(run_deck(net.noise(images()[0], [2], 1e3, 1e9, flat=f), simulator=simulator, folder=tmp_path).plots[0][
            "onoise_spectrum"
        ])
        for f in (False, True)
    ]  # fmt: skip
    assert spectra[0] == pytest.approx(spectra[1], rel=1e-6)


def test_a_driver_with_a_common_mode_is_found_out_and_gets_a_coupling_from_either_row(simulator, tmp_path):
    """1 mV of common mode: the folded deck would be wrong by 1e-2 of a state, and refuses to be read."""
    folder = shipped("netlists/cells")
    text = (folder / "driver_macro.cir").read_text().replace("Rd d 0", "Vc cm 0 1e-3\nGc 0 out_n cm 0 {2/ro}\nRd d 0")
    (tmp_path / "driver_macro.cir").write_text(text)
    (tmp_path / "driver.toml").write_text((folder / "driver_macro.toml").read_text())
    d = design(STATES, INPUTS)
    net = dataclasses.replace(lowered(d, simulator), cells=load_cells(Cells(driver=str(tmp_path / "driver.toml"))))
    x = images()
    plot = run_deck(net.equilibria(x, reltol=1e-9), simulator=simulator, folder=tmp_path, timeout_s=60.0).plots[0]
    assert net.mirror_error(plot) > 1e-3
    with pytest.raises(SimulationError, match="no mirror images"):
        net.read_states(plot, x)
    sweep = Sweep(net, x, np.zeros((len(x), STATES)))
    bed = Bed(simulator, tmp_path, 1)
    ours, flat = (run_sweeps([sweep], bed, Progress(), flat=f, reltol=1e-9)[0] for f in (False, True))
    assert ours.ok.all()
    assert np.abs(ours.states.z - flat.states.z).max() <= 1e-6 * FULL_SCALE


@pytest.mark.parametrize("mismatch", [False, True], ids=["nominal", "die"])
@pytest.mark.parametrize(("r_line", "both_ends"), [(0.0, False), (5.0, False), (20.0, True)])
def test_supply_and_converter_power_of_the_reduced_deck_are_the_flat_decks(
    simulator, tmp_path, r_line, both_ends, mismatch
):
    d = design(STATES, INPUTS, crossbar={"r_line_ohm": r_line, "both_word_ends": both_ends})
    net = lowered(d, simulator, mismatch=mismatch)
    sweep, bed = Sweep(net, images(), np.zeros((3, STATES))), Bed(simulator, tmp_path, 1)
    fast = run_sweeps([sweep], bed, Progress(), reltol=1e-9)
    (exact,) = with_exact_supply([sweep], fast, bed, Progress(), reltol=1e-9)
    assert exact.ok.all()
    lines = flat_network(net._parameters, net.source_volts(images()))
    sources = [f"i(bx{q})" for q in range(2 * (INPUTS + 1))]
    deck = build_deck(
        "flat", lines, [Dc("Vk", 0, 2, 1)], save=[*saved_vectors(STATES), *sources], options=TIGHT, files=cells().files
    )
    plot = run_deck(deck, simulator=simulator, folder=tmp_path, timeout_s=60.0).plots[0]
    assert exact.states.supply_w == pytest.approx(supply_power_w(plot, d), rel=1e-8)
    converters = -(net.source_volts(images()) * np.real(plot.columns(sources))).sum(axis=1)
    assert net.dac_power_w(images(), exact.states.ports_v) == pytest.approx(converters, rel=1e-7)
    assert np.abs(fast[0].states.supply_w / exact.states.supply_w - 1).max() > 1e-6  # what the one-way deck misses


def test_an_equilibrium_the_currents_do_not_hold_is_a_failure(simulator, tmp_path):
    """A driver whose resistance is not what calibration said: rows read from the one-way deck are wrong, and seen."""
    net = lowered(design(STATES, INPUTS, crossbar={"r_line_ohm": 50.0}), simulator, r_out=1e3)  # the cell has 10
    sweep, bed = Sweep(net, images(), np.zeros((3, STATES))), Bed(simulator, tmp_path, 1)
    (exact,) = with_exact_supply([sweep], run_sweeps([sweep], bed, Progress()), bed, Progress())
    assert not exact.ok.any()
    assert "do not hold the ports" in exact.status[0]


def test_an_image_alone_equals_the_image_in_a_sweep(simulator, tmp_path):
    net = lowered(design(STATES, INPUTS), simulator)
    sweep = solved(net, images(), simulator, tmp_path, flat=False)
    for k in range(3):
        alone = solved(net, images()[k : k + 1], simulator, tmp_path, flat=False)
        assert np.abs(alone.z[0] - sweep.z[k]).max() <= 1e-7


def test_inputs_of_the_wrong_length_are_refused():
    d = design(STATES, INPUTS)
    parameters = NetworkParameters(d.neuron, d.operating, cells(), CrossbarParameters(*programmed(d), 2.0, 10.0))
    with pytest.raises(NetlistError, match="7 DAC voltages for 8 DAC lines"):
        flat_network(parameters, np.zeros(7))
    with pytest.raises(NetlistError, match="5 port currents for 4 summing nodes or 12 ports"):
        reduced_network(parameters, [], np.zeros(5))
    with pytest.raises(NetlistError, match="one value a neuron"):
        NetworkParameters(d.neuron, d.operating, cells(), parameters.crossbar, {"r_feedback": np.zeros(3)})


# --- the proxy ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def calibrated(simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> ProxyParameters:
    """A proxy measured and fitted on the spot from a small plan."""
    d, small = design(STATES, INPUTS), plan(noise={"biases_h": [0.0, 0.7, 1.5]})  # noise is quadratic in the slope
    root = tmp_path_factory.mktemp("calibration")
    result = run_campaign(Bench(d, small, cells()), simulator=simulator, root=root, jobs=2, timeout_s=60.0)
    assert result.failed == 0
    tables = {
        name: CalibrationTable(
            name,
            rows,
            Provenance(schema_name=SCHEMA, schema_version=1, ngspice_version=simulator.version, units=COLUMNS[name]),
        )
        for name, rows in result.tables.items()
    }
    return fit_proxy(tables, d, small.tolerances, {}, {})


def test_the_fitted_proxy_knows_its_cells(calibrated):
    """What the shipped cells' contracts say, recovered from terminals only."""
    assert calibrated.driver.values["r_out_ohm"] == pytest.approx(10.0, rel=1e-4)
    assert 1 / calibrated.integrator.values["inverse_a0"] == pytest.approx(1e4, rel=0.01)
    assert calibrated.noise.values["en_v_per_rthz"] == pytest.approx(5e-9, rel=0.01)
    assert calibrated.crossbar.goodness.held_out < 1e-6
    assert calibrated.activation.goodness.held_out < 1e-4


@pytest.mark.parametrize(("r_line", "both_ends"), [(0.0, False), (2.0, False), (2.0, True)])
def test_the_network_settles_where_the_proxy_says(simulator, tmp_path, calibrated, r_line, both_ends):
    d = design(STATES, INPUTS, crossbar={"r_line_ohm": r_line, "both_word_ends": both_ends})
    net = DeployedNetwork.nominal(d, calibrated, *programmed(d))
    x = images(8)
    proxy = net.solve(torch.as_tensor(x)).reading.numpy()
    circuit = solved(lowered(d, simulator), x, simulator, tmp_path, flat=False).z
    assert np.sqrt(np.mean((proxy - circuit) ** 2)) < 5e-4 * FULL_SCALE
    assert np.abs(proxy - circuit).max() < 1.5e-3 * FULL_SCALE


def test_trim_and_offset_move_the_circuit_as_they_move_the_proxy(simulator, tmp_path, calibrated):
    """Sign and size: a trim current into each summing node and an op-amp offset, each unlike its neighbours."""
    d, x = design(STATES, INPUTS), images(2)
    g_pos, g_neg = programmed(d)
    trim, vos = np.array([2e-6, -3e-6, 1e-6, 0.5e-6]), np.array([0.5e-3, 1e-3, -1e-3, 0.2e-3])
    nominal = DeployedNetwork.nominal(d, calibrated, g_pos, g_neg)
    moved = dataclasses.replace(nominal, map=effective_map(d, calibrated, g_pos, g_neg, trim_a=trim, vos_v=vos))
    proxy = moved.solve(torch.as_tensor(x)).reading.numpy()
    die = LoweredNetwork(d, cells(), g_pos, g_neg, simulator.klu, 10.0, {"opamp.vos": vos}, trim)
    for flat in (False, True):
        circuit = solved(die, x, simulator, tmp_path, flat=flat).z
        assert np.abs(proxy - circuit).max() < 1.5e-3 * FULL_SCALE
    still = nominal.solve(torch.as_tensor(x)).reading.numpy()
    assert np.abs(proxy - still).max() > 0.03 * FULL_SCALE


def test_the_network_is_as_noisy_as_the_proxy_says(simulator, tmp_path, calibrated):
    """Every node at two images, the loop closed: rms within 1 % of ``.noise``, a 0.1 ms mean within 1 % (n = 8)."""
    d = design(STATES, INPUTS)
    net = DeployedNetwork.nominal(d, calibrated, *programmed(d))
    bed, x = Bed(simulator, tmp_path / "runs", jobs=2), torch.as_tensor(images(2))
    d = d.model_copy(update={"verify": d.verify.model_copy(update={"noise_nodes": STATES})})
    circuit = dataclasses.replace(lowered(d, simulator), design=d)
    for image in range(2):
        result = run_noise(circuit, net, x, image, bed, Progress())
        assert result.status == OK
        assert result.rms_proxy / result.rms_spice == pytest.approx(np.ones(STATES), abs=0.01)
        # a long read window sees the density at low frequency: of the network, amplified by its loop
        slope, window = net.act.slope(net.solve(x[image : image + 1]).h), 1e-4
        mean = network_covariance(d, calibrated, net.w_state, net.map.load, slope, net.tau_s, window_s=window)[0]
        f, power = result.frequency_hz, result.density**2
        fine = np.logspace(np.log10(f[0]), np.log10(5e7), 200_001)
        for node in range(STATES):
            spectrum = np.exp(np.interp(np.log(fine), np.log(f), np.log(power[:, node])))
            measured = np.trapezoid(spectrum * np.sinc(fine * window) ** 2, fine)
            assert float(mean[node, node]) == pytest.approx(measured, rel=0.02)


def test_the_implicit_gradient_is_that_of_the_circuit(simulator, tmp_path, calibrated):
    """d reading / d g_pos[bias, j] of every neuron j: the proxy's adjoint against two ngspice equilibria (flat)."""
    d = design(STATES, INPUTS)
    g_pos, g_neg = programmed(d)
    g_pos[INPUTS] += 5e-6  # room for a step to either side
    x = images(1)
    leaf, other = torch.as_tensor(g_pos).clone().requires_grad_(), torch.as_tensor(g_neg)
    effective = linear_map(d, calibrated, leaf, other)
    u = torch.as_tensor(x) @ effective.w_input.T + effective.bias
    z, _ = equilibrium(System(effective.w_state, u, TableActivation.nominal(calibrated.activation)), tol=1e-12)
    reading = effective.readout(z, torch.as_tensor(x))
    for j in range(STATES):
        step = 1e-6
        ends = []
        for sign in (1, -1):
            moved = g_pos.copy()
            moved[INPUTS, j] += sign * step
            net = LoweredNetwork(d, cells(), moved, g_neg, simulator.klu, 10.0)
            ends.append(solved(net, x, simulator, tmp_path, flat=True).z[0])
        measured = (ends[0] - ends[1]) / (2 * step)
        implicit = np.array(
            [float(torch.autograd.grad(reading[0, k], leaf, retain_graph=True)[0][INPUTS, j]) for k in range(STATES)]
        )
        assert np.linalg.norm(implicit - measured) < 0.01 * np.linalg.norm(measured)
        assert abs(measured[j]) > 1e3  # units of z per siemens: 1 uS of bias moves its own state by more than 1e-3


# --- dies whose conductances only ngspice knows -----------------------------------------------------------------------


@pytest.fixture
def pcm(simulator: Simulator) -> LoweredNetwork:
    """A nominal network of PCM cells."""
    crossbar = {"g_min_siemens": 0.5e-6, "g_max_siemens": 25e-6}
    neuron = {"r_feedback_ohm": 40e3, "c_feedback_f": 5e-12}
    d = design(STATES, INPUTS, crossbar=crossbar, neuron=neuron)
    return LoweredNetwork(d, load_cells(Cells(synapse="pcm")), *programmed(d), simulator.klu, 10.0)


def test_a_read_die_is_the_same_network_flat_and_reduced(simulator, tmp_path, pcm):
    """Programming error and drift exponent of every cell are parameters of the flat deck; the reduced one is read."""
    die = draw_die(pcm, 3)
    assert needs_reading(pcm)
    assert {name: values.shape for name, values in die.errors.items()} == dict.fromkeys(
        ("dg", "dnu"), (2, INPUTS + 1 + STATES, STATES)
    )
    with pytest.raises(ValueError, match="needs their conductances as seen"):
        die.equilibria(images())
    bed = Bed(simulator, tmp_path / "runs", jobs=1)
    (known,), lost = read_dies([die], bed, Progress())
    assert lost == {}
    nominal = np.stack([pcm.g_pos, pcm.g_neg])
    drawn = np.maximum(nominal + die.errors["dg"], 1e-8)  # read at 20 s, where the drift has not begun
    assert known.seen == pytest.approx(drawn, rel=1e-4)
    assert np.abs(known.seen / nominal - 1).max() > 0.1
    flat = solved(die, images(), simulator, tmp_path, flat=True)
    reduced = solved(known, images(), simulator, tmp_path, flat=False)
    assert np.abs(reduced.z - flat.z).max() <= 1e-6 * FULL_SCALE
    still = solved(pcm, images(), simulator, tmp_path, flat=False)
    assert np.abs(still.z - flat.z).max() > 0.01 * FULL_SCALE


def test_a_die_that_cannot_be_read_is_named_and_has_no_array(simulator, tmp_path, pcm):
    good, synapse = draw_die(pcm, 0), pcm.cells.synapse
    shorted = dataclasses.replace(synapse, netlist=synapse.netlist.replace("R1 row", "V9 row 0 0\nR1 row"))
    bad = dataclasses.replace(good, cells=dataclasses.replace(pcm.cells, synapse=shorted))
    known, lost = read_dies([good, bad], Bed(simulator, tmp_path / "runs", jobs=1), Progress())
    assert list(lost) == [1]
    assert lost[1].startswith("conductances not read: ")
    assert known[0].seen is not None
    assert known[1].seen is None


def test_a_cell_of_its_resistance_alone_is_multiplied_in(simulator):
    d = design(STATES, INPUTS)
    nominal = lowered(d, simulator)
    die = draw_die(nominal, 3)
    assert (needs_reading(nominal), die.errors) == (False, {})
    assert np.std(np.stack([die.g_pos / nominal.g_pos, die.g_neg / nominal.g_neg])) == pytest.approx(0.02, rel=0.3)
