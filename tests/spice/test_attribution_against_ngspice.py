"""Causes switched off in ngspice cost what the proxy's attribution says, on a small network calibrated on the spot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import design, plan

from analog_deq.attribution.attribute import die_causes, present, trim_inputs
from analog_deq.attribution.causes import DESIGN_CAUSES, READ_CAUSES, Cause, mismatch_cause, netlist_without
from analog_deq.attribution.cells import with_parameters
from analog_deq.attribution.setting import Setting
from analog_deq.calibration.campaign import run_campaign
from analog_deq.calibration.measurement import Bench
from analog_deq.equilibrium.certificate import certify
from analog_deq.fit.fit import fit_proxy
from analog_deq.netlists.neuron import NeuronCells, load_cells
from analog_deq.provenance import Provenance
from analog_deq.proxy.mapping import ConductanceMapping, quantise
from analog_deq.records import Progress
from analog_deq.spec import Cells
from analog_deq.spice.simulator import Simulator
from analog_deq.tables import COLUMNS, SCHEMA, CalibrationTable
from analog_deq.train.checkpoint import Checkpoint
from analog_deq.train.deployed import DeployedNetwork, Readout
from analog_deq.train.network import Network
from analog_deq.train.tasks.task import Task
from analog_deq.verify.dies import draw_die, run_dies
from analog_deq.verify.mismatch_response import NeuronResponse, drawn_dies, measure_response
from analog_deq.verify.removal import Removal
from analog_deq.verify.sweeps import Bed
from analog_deq.verify.switched_off import SwitchedOff

pytestmark = pytest.mark.spice

STATES, INPUTS, OUTPUTS, IMAGES = 4, 8, 2, 12
READ_S = 0.5e-6
NETWORK = design(STATES, INPUTS, OUTPUTS, verify={"trim_images": 8, "images_per_die": 6, "transient_window_s": READ_S})
PLAN = plan(noise={"biases_h": [0.0, 0.7, 1.5]})


class Built:
    """A random class-A network of the shipped cells with its proxy, and where to simulate it."""

    def __init__(self, simulator: Simulator, root: Path) -> None:
        torch.set_num_threads(1)
        cells: NeuronCells = load_cells(Cells())
        result = run_campaign(Bench(NETWORK, PLAN, cells), simulator=simulator, root=root, jobs=2, timeout_s=60.0)
        source = Provenance(schema_name=SCHEMA, schema_version=1, ngspice_version=simulator.version)
        tables = {
            name: CalibrationTable(name, rows, source.model_copy(update={"units": COLUMNS[name]}))
            for name, rows in result.tables.items()
        }
        proxy = fit_proxy(tables, NETWORK, PLAN.tolerances, {}, {})
        made = Network(NETWORK, torch.Generator().manual_seed(3), max_slope=1.0)
        fine = NETWORK.model_copy(update={"crossbar": NETWORK.crossbar.model_copy(update={"levels": 0})})
        with torch.no_grad():
            made.weight.t.mul_(4.0)
            made.bias.mul_(6.0)
            both = [
                torch.stack(ConductanceMapping.of(d.neuron, d.crossbar).program(made.weights())).numpy()
                for d in (NETWORK, fine)
            ]
        deployed = DeployedNetwork.nominal(NETWORK, proxy, *both[0])
        certificate = certify(deployed.w_state, deployed.act.max_slope, deployed.tau_s)
        readout = made.readout.detach().numpy(), made.readout_bias.detach().numpy()
        net = Checkpoint(*both[0], *readout, certificate, "", "", NETWORK.seed, {}, {}, None, both[1])
        rng = np.random.default_rng(11)
        x = torch.as_tensor(rng.uniform(-1, 1, (2 * IMAGES, INPUTS)))
        y, index = (x.sum(1) > 0).long(), np.arange(IMAGES)
        task = Task("classification", x[:IMAGES], y[:IMAGES], x[IMAGES:], y[IMAGES:], index, index)
        self.bed = Bed(simulator, root, jobs=2)
        self.setting = Setting.of(NETWORK, proxy, net, cells)
        readers = Readout(torch.as_tensor(readout[0]), torch.as_tensor(readout[1]), NETWORK.converters.adc_bits)
        self.base = SwitchedOff(self.setting, task, readers, self.bed, Progress())
        self.response: NeuronResponse = measure_response(NETWORK, proxy, PLAN, cells, self.bed, Progress())


@pytest.fixture(scope="module")
def built(simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return Built(simulator, tmp_path_factory.mktemp("attribution"))


def assert_agrees(removals: list[Removal], causes: list[Cause]) -> None:
    assert [r.cause for r in removals] == [c.name for c in causes]
    for removal in removals:
        assert removal.status == "ok", removal
        assert removal.failed == 0
        assert removal.agrees, removal


def test_nominal_causes_off_in_the_netlist_agree_with_the_proxy(built: Built) -> None:
    causes = present(built.setting, DESIGN_CAUSES)
    removals = built.base.design(causes, IMAGES)
    assert_agrees(removals, causes)
    assert {"sigma shape", "finite gain", "wires", "source resistance", "levels", "DAC"} <= {c.name for c in causes}
    for removal in removals:  # every switch does something, or agreement would mean nothing
        assert removal.moves_spice > 10 * removal.disagreement_fs, removal


def test_mismatch_off_in_the_netlist_agrees_with_the_proxy(built: Built) -> None:
    draws = drawn_dies(built.base.lowered(built.setting), built.response, range(2), built.bed, Progress())
    causes = die_causes(draws)
    assert {c.name for c in causes} >= {"opamp.vos", "activation.dvt", "driver.vos", "r_feedback", "synapse"}
    removals = built.base.dies(causes, draws, 6)
    assert_agrees(removals, causes)
    assert max(r.moves_spice for r in removals) > 10 * removals[0].stated_fs
    offset = next(r for r in removals if r.cause == "opamp.vos")
    deck = built.base.deck(mismatch_cause("opamp.vos"), offset)
    assert deck is not None
    (outcome,) = built.bed.run([deck], Progress())
    assert outcome.run is not None
    assert offset.die is not None
    assert offset.image is not None
    off = netlist_without(built.setting, mismatch_cause("opamp.vos"))
    assert off is not None
    network = built.base.lowered(off)
    x = built.base.task.x_test
    inputs = quantise(x[[offset.image]], off.design.converters.dac_bits).numpy()
    alone = draw_die(network, offset.die).read_states(outcome.run.plots[0], inputs).z[0]
    trim = trim_inputs(off.design, built.base.task)
    again = run_dies(network, off.deployed(), x, trim, [offset.die], built.bed, Progress())[0]
    place = int(np.flatnonzero(again.images == offset.image)[0])
    assert alone == pytest.approx(again.trimmed.states.z[place], abs=1e-4)


def test_causes_in_time_off_in_the_netlist_agree_with_the_proxy(built: Built) -> None:
    """Read long before all have settled: the window costs per cents, the op-amps' bandwidth tenths."""
    draws = drawn_dies(built.base.lowered(built.setting), built.response, range(1), built.bed, Progress())
    named = ("settling window", "GBW", "slew")
    causes = [*(c for c in READ_CAUSES if c.name in named), mismatch_cause("c_feedback")]
    removals = built.base.read(causes, draws, 4)
    assert_agrees(removals, causes)
    moved = {r.cause: r.moves_spice for r in removals}
    assert moved["settling window"] > 1.0
    assert moved["GBW"] > 0.1


def test_op_amps_that_slew_agree_with_the_proxy(built: Built) -> None:
    """At 0.3 V/us an integrator of 0.16 V a unit and 200 ns slews for the first of its time constants."""
    rate = 0.3e6
    cells = built.setting.cells
    assert cells is not None
    assert cells.opamp is not None
    slow = replace(cells, opamp=with_parameters(cells.opamp, {"sr": rate}))
    base = replace(built.base, setting=replace(built.setting, cells=slow, slew_v_per_s=rate))
    draws = drawn_dies(base.lowered(built.setting), built.response, range(1), built.bed, Progress())
    causes = [c for c in READ_CAUSES if c.name == "slew"]
    removals = base.read(causes, draws, 4)
    assert_agrees(removals, causes)
    assert removals[0].moves_spice > 1.0
    assert removals[0].moves_proxy == pytest.approx(removals[0].moves_spice, rel=0.1)


def test_a_neurons_response_to_its_mismatch_is_what_the_cells_say(built: Built) -> None:
    """vos is an offset of the integrator, dvt of the activation's input, R_F's error one of R_F."""
    linear = built.response.linear
    assert linear["opamp.vos"][0] == pytest.approx(1.0, rel=1e-3)
    assert linear["activation.dvt"][5] == pytest.approx(1 / NETWORK.neuron.v_unit_v, rel=1e-3)
    assert linear["r_feedback"][1] == pytest.approx(1.0, rel=1e-3)
    assert linear["activation.diss"][3] == pytest.approx(1.0, rel=0.02)
    assert linear["driver.vos"][6] == pytest.approx(1 / NETWORK.neuron.z_unit_v, rel=1e-3)
