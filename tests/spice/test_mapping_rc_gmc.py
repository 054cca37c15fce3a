"""The rc and gmc families in ngspice: closed forms of one node, flat against reduced, proxy against whole network."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from analog_deq.fit.forms import BOLTZMANN
from analog_deq.mappings.node.family import NodeFamily
from analog_deq.mappings.node.fit import NodeProxy
from analog_deq.mappings.node.lower import NodeLowered
from analog_deq.mappings.node.netlist import Copy, bench
from analog_deq.mappings.registry import load_family
from analog_deq.netlists.deck import build_deck
from analog_deq.records import Noise, Progress
from analog_deq.spec import DesignSpec
from analog_deq.spice.simulator import Simulator, find_simulator
from analog_deq.train.deployed import ProxyStates
from analog_deq.verify.sweeps import Bed

pytestmark = pytest.mark.spice

INPUTS, STATES, LEAK, C_NODE = 3, 4, 20e-6, 10e-12
KELVIN = 300.15


def make_design(mapping: str, line: float = 0.0, r_dac: float = 10.0) -> DesignSpec:
    family: dict[str, Any] = {
        "c_node_f": C_NODE, "z_unit_v": 0.6, "v_unit_v": 0.1, "dies": 12,
        "activation_params": {"iss": 8e-6, "rl": 75e3},
    }  # fmt: skip
    family |= {"g_leak_siemens": LEAK} if mapping == "rc" else {}
    return DesignSpec.model_validate(
        {
            "schema": 1, "name": "small", "mapping": mapping, "family": family, "seed": 5,
            "sizes": {"inputs": INPUTS, "states": STATES, "outputs": 2},
            "crossbar": {"g_min_siemens": 1e-6, "g_max_siemens": 1e-4, "r_line_ohm": line, "r_dac_ohm": r_dac},
            "verify": {"transient_window_s": 3e-6 if mapping == "rc" else 0.8e-6}, "converters": {"dac_bits": 12},
        }
    )  # fmt: skip


def load(mapping: str, line: float = 0.0, r_dac: float = 10.0, both_ends: bool = False) -> NodeFamily:
    made = make_design(mapping, line, r_dac)
    if both_ends:
        wires = made.crossbar.model_copy(update={"both_word_ends": True})
        made = made.model_copy(update={"crossbar": wires})
    family = load_family(made)
    assert isinstance(family, NodeFamily)
    return family


@cache
def calibrated(mapping: str, root: Path) -> tuple[dict[str, Any], NodeProxy]:
    """Tables and proxy, made once for all tests."""
    family = load(mapping)
    tables = family.calibrate(Bed(find_simulator(), root, jobs=1), Progress())
    return tables, family.fit(tables)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nodes")


@pytest.fixture
def bed(simulator: Simulator, root: Path) -> Bed:
    return Bed(simulator, root, jobs=1)


def programmed(family: NodeFamily, proxy: NodeProxy) -> np.ndarray:
    """A class-A network of random weights, negative ones included, that its inputs drive well into its curve."""
    rng = np.random.default_rng(2)
    w = rng.standard_normal((INPUTS + 1 + STATES, STATES))
    w[INPUTS + 1 :] *= 0.6 / np.abs(w[INPUTS + 1 :]).sum(0)
    w[: INPUTS + 1] *= 2.5 / np.abs(w[: INPUTS + 1]).sum(0)
    return np.asarray(family.program(proxy, torch.as_tensor(w)).numpy())


def inputs(images: int) -> np.ndarray:
    return np.random.default_rng(3).uniform(-1, 1, (images, INPUTS))


def lowered(family: NodeFamily, g: np.ndarray, proxy: NodeProxy, die: int | None = None) -> NodeLowered:
    return family.lower(proxy, g, False, None if die is None else family.draw(die))


def test_a_passive_node_is_the_divider_of_its_rows(bed, root):
    """s = sum G V / (g_leak + sum G) with the voltages of the rows in the flat deck, nearly ideal DACs."""
    _, proxy = calibrated("rc", root)
    family, x = load("rc", r_dac=1e-4), inputs(1)
    g = programmed(family, proxy)
    outcome = bed.run([lowered(family, g, proxy).flat_deck(x[0])], Progress())[0]
    assert outcome.run is not None, outcome.status
    plot = outcome.run.plots[0]
    z = np.array([[float(np.real(plot[f"v({pin}{k})"])[0]) for k in range(STATES)] for pin in ("zp", "zn")])
    sources = 0.6 * np.append(x[0], 1.0)
    rows = np.stack([np.concatenate([sources, z[0]]), np.concatenate([-sources, z[1]])])
    s = (rows[:, :, None] * g).sum((0, 1)) / (LEAK + g.sum((0, 1)))
    found = [float(np.real(plot[f"v(s{k})"])[0]) for k in range(STATES)]
    assert np.abs(s).min() > 1e-3
    assert np.allclose(found, s, rtol=1e-6, atol=1e-9)


def test_a_passive_node_has_the_time_constant_of_its_capacitor_and_conductance(root):
    step = calibrated("rc", root)[0]["step"]
    assert (step["status"] == "ok").all()
    assert np.allclose(step["tau"], C_NODE / (step["load"] + LEAK), rtol=2e-3)  # the pair's gate adds 0.07 %


def test_a_passive_node_has_kt_over_c_of_noise(bed):
    family = load("rc")
    drives = ["Vx x 0 dc 0 ac 1", "Rx x s0 20k"]
    lines = bench([Copy()], drives, family.cells, family.design.operating)
    deck = build_deck("kT/C", lines, [Noise("v(s0)", "Vx", 50, 1e2, 1e10)], files=family.cells.files)
    outcome = bed.run([deck], Progress())[0]
    assert outcome.run is not None, outcome.status
    plot = outcome.run.plots[0]
    rms = np.sqrt(np.trapezoid(np.real(plot["onoise_spectrum"]) ** 2, plot.sweep))
    assert rms == pytest.approx(np.sqrt(BOLTZMANN * KELVIN / C_NODE), rel=5e-3)


def test_an_ota_load_is_its_transconductance_and_gives_no_more_than_its_tail_current(root):
    """gm = sqrt(kp W/L I) = 469 uS of the card's square law (5 % for its channel-length modulation), 40 uA at most."""
    transfer = calibrated("gmc", root)[0]["transfer"]
    rows = transfer[transfer["driver_load"] == 0]
    near = rows[rows["s"].abs() < 0.02]
    gm = np.polyfit(near["s"], near["i_in"], 1)[0]
    assert gm == pytest.approx(np.sqrt(110e-6 * 50 * 40e-6), rel=0.05)
    assert 38e-6 < rows["i_in"].max() < 44e-6
    assert -44e-6 < rows["i_in"].min() < -38e-6


@pytest.mark.parametrize("mapping", ["rc", "gmc"])
@pytest.mark.parametrize(("line", "both_ends"), [(0.0, False), (20.0, False), (20.0, True)])
def test_reduced_and_flat_decks_rest_at_the_same_point_on_a_mismatched_die(mapping, line, both_ends, bed, root):
    _, proxy = calibrated(mapping, root)
    family = load(mapping, line, both_ends=both_ends)
    die = lowered(family, programmed(family, proxy), proxy, die=1)
    flat = die.run_equilibria(inputs(3), None, bed, Progress(), flat=True)
    reduced = die.run_equilibria(inputs(3), None, bed, Progress())
    assert flat.ok.all()
    assert reduced.ok.all()
    assert np.abs(flat.z).max() > 0.3
    assert np.abs(flat.z - reduced.z).max() < 1e-6
    assert np.allclose(flat.supply_w, reduced.supply_w, rtol=1e-5)


@pytest.mark.parametrize("mapping", ["rc", "gmc"])
@pytest.mark.parametrize("line", [0.0, 20.0])
def test_the_proxy_predicts_rest_settling_and_noise_of_the_whole_network(mapping, line, bed, root):
    _, proxy = calibrated(mapping, root)
    family = load(mapping, line)
    g = programmed(family, proxy)
    deployed, circuit = family.deploy(proxy, g), lowered(family, g, proxy)
    x = torch.as_tensor(inputs(6))
    seen, solved = deployed.inputs(x).numpy(), deployed.solve(x)
    found = circuit.run_equilibria(seen, solved, bed, Progress())
    assert found.ok.all()
    assert np.abs(found.z - solved.reading.numpy()).max() < 2e-4
    settled = circuit.run_settling(seen[:2], found.z[:2], 4e-3, bed, Progress())
    assert [s.status for s in settled] == ["ok", "ok"]
    assert np.allclose([s.t_s for s in settled], deployed.settling_s(x[:2], 4e-3), rtol=0.03)
    noise = circuit.run_noise(seen[0], [0, 2], bed, Progress())
    assert np.allclose(deployed.noise_rms(x[:1])[0][[0, 2]], noise, rtol=0.03)


@pytest.mark.parametrize("mapping", ["rc", "gmc"])
def test_a_dies_own_terminal_measurements_predict_its_states(mapping, bed, root):
    """Each neuron's curves and each cell's conductance, measured alone, say where the whole die rests."""
    _, proxy = calibrated(mapping, root)
    family = load(mapping, line=2.0)
    g, x, drawn = programmed(family, proxy), torch.as_tensor(inputs(4)), family.draw(1)
    extracted = family.extract(proxy, g, drawn, bed, Progress())
    nominal = family.deploy(proxy, g).solve(x).reading.numpy()
    found = family.lower(proxy, g, False, drawn).run_equilibria(extracted.inputs(x).numpy(), None, bed, Progress())
    assert found.ok.all()
    error = np.abs(found.z - extracted.solve(x).reading.numpy()).max()
    assert error < 1e-3
    assert error < 0.05 * np.abs(found.z - nominal).max()


def test_a_die_moves_its_states_by_more_than_the_proxy_errs(bed, root):
    """Mismatch is in the decks: a drawn die is not the nominal circuit."""
    _, proxy = calibrated("rc", root)
    family = load("rc")
    g, x = programmed(family, proxy), torch.as_tensor(inputs(3))
    deployed = family.deploy(proxy, g)
    solved: ProxyStates = deployed.solve(x)
    found = lowered(family, g, proxy, die=0).run_equilibria(deployed.inputs(x).numpy(), solved, bed, Progress())
    assert found.ok.all()
    assert 5e-3 < float(np.sqrt(np.mean((found.z - solved.reading.numpy()) ** 2))) < 0.15
