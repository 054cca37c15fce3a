"""The memristor mapping in ngspice: signs, amplifiers, wires, noise; and the proxy against its whole network."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from memristor_circuit import STATES, small_design, small_programmed

from analog_deq.fit.forms import BOLTZMANN
from analog_deq.mappings.memristor import MAPPING
from analog_deq.mappings.memristor.calibration import Copy, neuron_bench
from analog_deq.mappings.memristor.netlist import column_ports, flat_array, physical
from analog_deq.netlists.deck import build_deck
from analog_deq.records import Noise, Op, Progress
from analog_deq.verify.sweeps import Bed

pytestmark = pytest.mark.spice

OPTIONS: dict[str, float | str | bool] = {"reltol": 1e-9, "abstol": 1e-16, "vntol": 1e-12, "gmin": 1e-16}
X = torch.tensor([[0.2, 0.9, 0.4], [0.7, 0.0, 1.0], [0.1, 0.3, 0.6]], dtype=torch.float64)


@pytest.fixture(scope="session")
def bed(simulator, tmp_path_factory):
    return Bed(simulator, tmp_path_factory.mktemp("memristor"), jobs=1)


@pytest.fixture(scope="session")
def calibrated(bed):
    """Family and proxy of a small design by synapse, each measured and fitted once."""
    known = {}

    def of(synapse, **changes):
        key = (synapse, *sorted(changes.items()))
        if key not in known:
            family = MAPPING.load(small_design(synapse, **changes))
            known[key] = (family, family.fit(family.calibrate(bed, Progress())))
        return known[key]

    return of


def solve(bed, deck):
    (outcome,) = bed.run([deck], Progress())
    assert outcome.run is not None, outcome.status
    return outcome.run.plots[0]


def test_currents_of_the_columns_are_sums_of_their_own_devices_with_the_signs_of_the_rows(bed):
    """Ideal wires: column 2i sees programmed[0, :, i], column 2i + 1 programmed[1, :, i], rows inputs, bias, states."""
    family, programmed = MAPPING.load(small_design(r_line_ohm=0.0)), small_programmed()
    g = physical(programmed)
    volts = np.array([0.05, -0.1, 0.02, 0.1, -0.07, 0.03])
    names = [f"x{k}" for k in range(4)] + ["zp0", "zp1"]
    lines = [family.cells.synapse.include_line]
    lines += flat_array(g, {}, STATES, family.spec, family.cells.synapse, r_line_ohm=0.0, r_dac_ohm=1e-6)
    lines += [f"V{n} {n} 0 {v!r}" for n, v in zip(names, volts.tolist(), strict=True)]
    lines += [f"V{n} {n} 0 0" for n in column_ports(STATES)]
    plot = solve(
        bed,
        build_deck("columns", lines, [Op()], save=[f"i(v{n})" for n in column_ports(STATES)], options=OPTIONS,
                   files=[family.cells.synapse.file]),
    )  # fmt: skip
    found = np.array([float(np.real(plot[f"i(v{n})"][0])) for n in column_ports(STATES)])
    by_hand = [sum(volts * programmed[side, :, i]) for i in range(STATES) for side in (0, 1)]
    assert found == pytest.approx(by_hand, rel=1e-7)
    assert {np.sign(v) for v in by_hand} == {1.0} or len({np.sign(v) for v in by_hand}) == 2


def test_an_amplifiers_gain_is_that_of_its_resistors_and_its_open_loop(bed):
    family = MAPPING.load(small_design(opamp_params={"a0": 200.0}))
    load, h = 4e-4, 1.0
    lines = [*neuron_bench([Copy(load, h=h)], family.design, family.spec, family.cells), "Vx x 0 0"]
    plot = solve(
        bed, build_deck("gain", lines, [Op()], save=["v(vp0)", "v(vn0)", "v(zp0)"], options=OPTIONS,
                        files=family.cells.files),
    )  # fmt: skip
    r, amps = family.spec.r_feedback_ohm, h / 2 * family.spec.v_unit_v / family.spec.r_feedback_ohm
    # v = -R i / (1 + (1 + R G) / A0), A0 with the output resistance of 50 ohm against R_F in it
    a0 = 200.0 * r / (r + 50.0)
    expected = -r * amps / (1 + (1 + r * load) / a0)
    assert float(np.real(plot["v(vp0)"][0])) == pytest.approx(expected, rel=1e-3)
    assert float(np.real(plot["v(vn0)"][0])) == pytest.approx(-expected, rel=1e-3)
    assert float(np.real(plot["v(zp0)"][0])) > 0.05


@pytest.mark.parametrize("synapse", ["resistor_synapse", "rram_cmo"])
def test_the_whole_network_is_the_same_flat_and_reduced(bed, calibrated, synapse):
    family, proxy = calibrated(synapse)
    programmed = small_programmed(synapse)
    lowered = family.lower(proxy, programmed, bed.simulator.klu)
    guess = family.deploy(proxy, programmed).solve(X, domain_share=None)
    reduced, flat = (lowered.run_equilibria(X.numpy(), guess, bed, Progress(), flat=flat) for flat in (False, True))
    assert reduced.ok.all()
    assert flat.ok.all()
    assert np.abs(reduced.z - flat.z).max() <= 1e-6
    assert reduced.supply_w == pytest.approx(flat.supply_w, rel=1e-6)
    walked = solve(bed, lowered.walk(X[1].numpy()))
    on_the_way = np.linspace(0, 1, len(walked.sweep))[:, None] * X[1].numpy()
    z, watts = lowered.read_states(walked, on_the_way, every=1)
    assert np.abs(z[-1] - reduced.z[1]).max() <= 1e-6
    assert watts[-1] == pytest.approx(reduced.supply_w[1], rel=1e-6)


@pytest.mark.parametrize("r_line_ohm", [0.0, 5.0])
def test_the_proxy_predicts_the_flat_network_of_devices_that_bend(bed, calibrated, r_line_ohm):
    family, proxy = calibrated("rram_hfox", r_line_ohm=r_line_ohm)
    programmed = small_programmed()
    network = family.deploy(proxy, programmed)
    x = network.inputs(X)
    guess = network.solve(X)
    found = family.lower(proxy, programmed, bed.simulator.klu).run_equilibria(
        x.numpy(), guess, bed, Progress(), flat=True
    )
    assert found.ok.all()
    error = found.z - guess.reading.numpy()
    assert np.sqrt(np.mean(error**2)) <= 2e-4
    straight = proxy.model_copy(update={"law": proxy.law.model_copy(update={"values": {"a": 0.0, "b": 0.0}})})
    assert np.abs(found.z - family.deploy(straight, programmed).solve(X).reading.numpy()).max() > 5e-4


def test_devices_that_bend_behind_wires_are_the_same_flat_and_reduced(bed, calibrated):
    """The reduced deck bends a row's voltage; what wires add comes back as currents, from Newton's read."""
    family, proxy = calibrated("rram_hfox", r_line_ohm=50.0)
    assert proxy.sinh_v == pytest.approx(0.43, rel=1e-3)
    programmed = small_programmed()
    guess = family.deploy(proxy, programmed).solve(X)
    lowered = family.lower(proxy, programmed, bed.simulator.klu)
    reduced, flat = (lowered.run_equilibria(X.numpy(), guess, bed, Progress(), flat=flat) for flat in (False, True))
    assert np.abs(reduced.z - flat.z).max() <= 1e-5
    assert np.abs(guess.reading.numpy() - flat.z).max() > 5e-5  # what the correction is for


def test_noise_of_feedback_and_array_at_an_amplifier_is_johnsons(bed):
    family = MAPPING.load(small_design(opamp_params={"en": 1e-11}))
    load, r = 3e-4, family.spec.r_feedback_ohm
    lines = [*neuron_bench([Copy(load)], family.design, family.spec, family.cells), "Vx x 0 dc 0 ac 1"]
    lines = [line.removesuffix(" noisy=0") if line.startswith("Rl") else line for line in lines]
    deck = build_deck("noise", lines, [Noise("v(vp0)", "Vx", 5, 1e4, 1e6)], options=OPTIONS, files=family.cells.files)
    density = float(np.real(solve(bed, deck)["onoise_spectrum"])[0])
    gain = 1 / (1 + (1 + r * load) / 1e4)
    assert density == pytest.approx(math.sqrt(4 * BOLTZMANN * 300.15 * (1 / r + load)) * r * gain, rel=2e-3)


def test_settling_and_noise_of_the_network_are_as_predicted(bed, calibrated):
    family, proxy = calibrated("rram_hfox", r_line_ohm=5.0)
    programmed = small_programmed(seed=8)
    network, lowered = family.deploy(proxy, programmed), family.lower(proxy, programmed, bed.simulator.klu)
    x = network.inputs(X).numpy()
    ends = lowered.run_equilibria(x, None, bed, Progress())
    settled = lowered.run_settling(x, ends.z, 4e-3, bed, Progress())
    predicted = network.settling_s(X, 4e-3)
    assert [s.t_s for s in settled] == pytest.approx(predicted, rel=0.05)
    assert max(s.end_error for s in settled) < 1e-4
    assert all(s.energy_j == pytest.approx(w * s.t_s, rel=0.2) for s, w in zip(settled, ends.supply_w, strict=True))
    rms = lowered.run_noise(x[0], [0, 1], bed, Progress())
    assert network.noise_rms(X[:1])[0] == pytest.approx(rms, rel=0.1)


def test_a_die_is_drawn_from_its_number_and_read_before_it_is_reduced(bed, calibrated):
    family, proxy = calibrated("rram_cmo")
    programmed = small_programmed("rram_cmo")
    first, again, other = (family.lower(proxy, programmed, bed.simulator.klu, family.draw(k)) for k in (0, 0, 1))
    assert np.array_equal(first.errors["dg"], again.errors["dg"])
    assert not np.array_equal(first.errors["dg"], other.errors["dg"])
    assert first.seen is None
    reduced, flat = (first.run_equilibria(X.numpy(), None, bed, Progress(), flat=flat) for flat in (False, True))
    assert np.abs(reduced.z - flat.z).max() <= 1e-6


def test_an_older_array_shows_less_of_what_was_programmed(bed, calibrated):
    young, _ = calibrated("pcm", r_line_ohm=0.0)
    _, proxy = calibrated("pcm", r_line_ohm=0.0, age_s=86400.0)
    (seen,) = proxy.synapse.seen_arrays(np.array([2.4e-5]))
    expected = 2.4e-5 * (86400.0 / 20.0) ** -max(0.0244 - 0.0155 * math.log(2.4e-5 / 25e-6), 0.049)
    assert young.spec.age_s is None
    assert float(seen[0]) == pytest.approx(expected, rel=1e-3)
