"""Fine-tuning on measured states, without ngspice: a circuit the proxy does not know, failures, resuming, the class."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from helpers import design, proxy
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy

from analog_deq.draws import Stream, generator
from analog_deq.equilibrium.certificate import certify
from analog_deq.equilibrium.claim import Claim
from analog_deq.errors import SimulationError
from analog_deq.proxy.array import effective_map
from analog_deq.proxy.mapping import ConductanceMapping
from analog_deq.records import OK, Progress
from analog_deq.spec import CertificateSpec, DesignSpec
from analog_deq.train.checkpoint import Checkpoint
from analog_deq.train.deployed import DeployedNetwork
from analog_deq.train.finetune import FIRST_BATCH, FineTuned, FineTuning, ProgrammedNetwork, fine_tune
from analog_deq.train.loop import train_network
from analog_deq.train.models import ProxyModel
from analog_deq.train.projection import project
from analog_deq.train.spread import mismatch_spread
from analog_deq.train.tasks import load_task

torch.set_num_threads(1)

STATES = 8
SETTINGS = FineTuning(steps=18, batch=64, learning_rate=2e-2)


def digits() -> DesignSpec:
    training = {"steps": 200, "batch": 64, "learning_rate": 2e-2, "mismatch_draws": False, "read_noise": False}
    return design(STATES, 64, 10, training=training)


@pytest.fixture(scope="module")
def trained() -> Checkpoint:
    """A network trained through the proxy, as a checkpoint."""
    d, p = digits(), proxy()
    network, _ = train_network(d, load_task(d), ProxyModel(d, p), label="", progress=Progress())
    mapping = ConductanceMapping.of(d.neuron, d.crossbar, p.r_feedback_ohm)
    g_pos, g_neg = (g.detach().numpy() for g in mapping.program(network.weights()))
    deployed = DeployedNetwork.nominal(d, p, g_pos, g_neg)
    certificate = certify(deployed.w_state, deployed.act.max_slope, deployed.tau_s)
    readout = network.readout.detach().numpy(), network.readout_bias.detach().numpy()
    return Checkpoint(g_pos, g_neg, *readout, certificate, "", "", d.seed, {}, {})


@dataclass
class Circuit:
    """Something that can be programmed and measured. ``distorted``, its curve and gain are not the proxy's."""

    distorted: bool = True
    lost: tuple[int, ...] = ()
    die: int | None = None
    last: Any = None
    measured: int = 0
    model: DeployedNetwork = field(init=False)

    def program(self, g_pos: Tensor, g_neg: Tensor) -> None:
        d, p = digits(), proxy()
        self.model = DeployedNetwork.nominal(d, p, g_pos.numpy(), g_neg.numpy())
        if self.distorted:
            offset = np.linspace(-4e-3, 4e-3, STATES)
            own = effective_map(d, p, g_pos.numpy(), g_neg.numpy(), vos_v=offset, r_feedback=-0.2)
            sat, scale, shift = (torch.full((STATES,), v, dtype=torch.float64) for v in (0.8, 0.9, 0.3))
            act = self.model.act.varied(sat, scale, shift, torch.zeros_like(sat))
            self.model = dataclasses.replace(self.model, map=own, act=act)

    def __call__(self, x: Tensor, draw: object = None, *, nudge: Tensor | None = None) -> Tensor:
        self.measured += 1
        z = self.model.solve(x, domain_share=None).z
        status = np.full(len(x), OK, dtype=object)
        for row in self.lost:
            z[row], status[row] = torch.nan, "convergence: made to fail"
        self.last = Report(status)
        return z


@dataclass
class Report:
    status: np.ndarray
    decks: int = 2
    reused: bool = False


class Notes(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def tune(start: Checkpoint, forward: Circuit, how: FineTuning = SETTINGS, **rest: Any) -> FineTuned:
    d = digits()
    return fine_tune(d, proxy(), load_task(d), start, forward, how, progress=rest.pop("progress", Progress()), **rest)


def loss_on(circuit: Circuit, tuned: FineTuned) -> float:
    """Loss on all test images, measured on the circuit, read through the nominal rows as training reads them."""
    d, task = digits(), load_task(digits())
    circuit.program(tuned.g_pos, tuned.g_neg)
    nominal = DeployedNetwork.nominal(d, proxy(), tuned.g_pos.numpy(), tuned.g_neg.numpy())
    reading = nominal.map.readout(circuit(task.x_test).numpy(), nominal.inputs(task.x_test).numpy())
    outputs = torch.as_tensor(reading) @ tuned.readout.weight.T + tuned.readout.bias
    return float(cross_entropy(outputs, task.y_test, label_smoothing=d.training.label_smoothing))


# --- learning ---------------------------------------------------------------------------------------------------------


def test_measured_states_close_a_gap_that_the_proxy_cannot_see(trained):
    """The same start, steps, batches and gradient; only the states of one are the circuit's."""
    start = tune(trained, Circuit(), FineTuning(steps=1, learning_rate=1e-12))
    before, at_home = loss_on(Circuit(), start), loss_on(Circuit(distorted=False), start)
    blind = loss_on(Circuit(), tune(trained, Circuit(distorted=False)))
    seeing = loss_on(Circuit(), tune(trained, Circuit()))
    gap = before - at_home
    assert gap > 0.2  # what the distortion costs
    assert seeing < before - 0.5 * gap
    assert blind > before - 0.1 * gap


def test_the_loss_is_taken_at_the_measured_state(trained):
    d, task, circuit = digits(), load_task(digits()), Circuit()
    record = tune(trained, circuit, FineTuning(steps=1)).log[0]
    batch = generator(d.seed, Stream.FINE_TUNING, FIRST_BATCH).integers(0, len(task.x_train), 64)
    circuit.program(*(torch.as_tensor(g) for g in (trained.g_pos, trained.g_neg)))
    z = circuit(task.x_train[batch])
    nominal = DeployedNetwork.nominal(d, proxy(), trained.g_pos, trained.g_neg)
    reading = torch.as_tensor(nominal.map.readout(z.numpy(), nominal.inputs(task.x_train[batch]).numpy()))
    codes = 2 ** (d.converters.adc_bits - 1) - 1
    read = torch.round(reading.clamp(-1, 1) * codes) / codes
    outputs = read @ torch.as_tensor(trained.readout_weight).T + torch.as_tensor(trained.readout_bias)
    expected = cross_entropy(outputs, task.y_train[batch], label_smoothing=d.training.label_smoothing)
    assert record.loss == pytest.approx(float(expected), rel=1e-4)  # beside it, the range penalty
    distance = 100 * (z - nominal.solve(task.x_train[batch], domain_share=None).z).abs()
    assert record.max_percent_fs == pytest.approx(float(distance.max()), rel=1e-5)
    assert record.rms_percent_fs == pytest.approx(float(distance.square().mean().sqrt()), rel=1e-5)


@pytest.mark.parametrize("linearize", ["solved", "measured"])
def test_both_places_of_the_jacobian_descend(trained, linearize):
    how = dataclasses.replace(SETTINGS, linearize=linearize)
    log = tune(trained, Circuit(), how).log
    assert np.mean([r.loss for r in log[-5:]]) < np.mean([r.loss for r in log[:5]]) - 0.05


# --- when the proxy is not the circuit's ------------------------------------------------------------------------------


def test_a_refit_is_asked_for_with_the_figures(trained):
    notes = Notes()
    log = tune(trained, Circuit(), FineTuning(steps=3), progress=notes).log
    assert all(record.refit for record in log)
    assert log[0].rms_percent_fs > log[0].limit_percent_fs == log[0].sigma_percent_fs
    (note,) = [text for text in notes.notes if "refit asked" in text]  # once, not at every step
    assert f"{log[0].rms_percent_fs:.3g} %FS rms" in note
    assert f"{log[0].sigma_percent_fs:.3g} %FS that mismatch explains" in note
    assert "run calibrate and fit again" in note


def test_no_refit_is_asked_for_where_the_proxy_is_right(trained):
    notes = Notes()
    log = tune(trained, Circuit(distorted=False), FineTuning(steps=2), progress=notes).log
    assert not any(record.refit for record in log)
    assert notes.notes == []
    assert log[0].rms_percent_fs < 1e-4 < log[0].sigma_percent_fs


def test_a_die_is_held_to_the_worst_die_drawn(trained):
    nominal, die = (tune(trained, Circuit(die=k), FineTuning(steps=1)).log[0] for k in (None, 3))
    assert die.sigma_percent_fs == nominal.sigma_percent_fs
    assert die.limit_percent_fs > 1.1 * die.sigma_percent_fs


def test_the_mismatch_spread_is_that_of_the_linear_response(trained):
    """Of dies that differ in what the trim leaves alone: z moves by (I - D W)^-1 D times a uniform bias."""
    d, p = digits(), proxy()
    still = p.mismatch.model_copy(
        update={"mean": [float(name in ("sat", "in_scale")) for name in p.mismatch.names],
                "covariance": (0 * np.array(p.mismatch.covariance)).tolist()}
    )  # fmt: skip
    exact = p.conductance.model_copy(update={"values": {"mean": 0.0, "sigma": 0.0}})
    p = p.model_copy(update={"mismatch": still, "conductance": exact})
    programmed = torch.stack([torch.as_tensor(trained.g_pos), torch.as_tensor(trained.g_neg)])
    nominal = DeployedNetwork.nominal(d, p, trained.g_pos, trained.g_neg)
    x = nominal.inputs(load_task(d).x_train[:32])
    slope = nominal.act.slope(nominal.solve(x, domain_share=None).h)
    eye = torch.eye(STATES, dtype=torch.float64)
    response = torch.linalg.solve(eye - slope[:, :, None] * nominal.w_state, torch.diag_embed(slope))
    step = 2 * d.trim.range_a / (2**d.trim.bits - 1) * p.r_feedback_ohm / d.neuron.v_unit_v
    expected = step / 12**0.5 * float(response.square().sum(-1).mean().sqrt())
    found = mismatch_spread(d, p, programmed, x, dies=120)
    assert found.sigma == pytest.approx(expected, rel=0.1)
    assert found.sigma < found.largest < 3 * found.sigma


# --- failures and resuming --------------------------------------------------------------------------------------------


def test_failed_samples_are_counted_and_left_out(trained):
    whole = tune(trained, Circuit(), FineTuning(steps=1)).log[0]
    broken = tune(trained, Circuit(lost=(0, 5, 63)), FineTuning(steps=1))
    record = broken.log[0]
    assert (whole.failed, record.failed) == (0, 3)
    assert np.isfinite([record.loss, record.rms_percent_fs, record.max_percent_fs]).all()
    assert record.loss != whole.loss
    assert torch.isfinite(broken.readout.weight).all()


def test_a_step_of_which_nothing_was_measured_is_an_error(trained):
    circuit = Circuit(lost=tuple(range(64)))
    with pytest.raises(SimulationError, match="step 0: none of 64 equilibria was found; the first: convergence: made"):
        tune(trained, circuit)


def test_a_resumed_run_is_the_uninterrupted_one(trained):
    how = dataclasses.replace(SETTINGS, steps=6)
    states: list[dict[str, Tensor]] = []
    whole = tune(trained, Circuit(), how, after_step=lambda s: states.append({k: v.clone() for k, v in s.items()}))
    assert len(states) == 6
    for done in (1, 4, 6):
        circuit = Circuit()
        again = tune(trained, circuit, how, resume=states[done - 1])
        assert circuit.measured == 6 - done
        assert torch.equal(again.g_pos, whole.g_pos)
        assert torch.equal(again.readout.weight, whole.readout.weight)
        assert torch.equal(again.readout.bias, whole.readout.bias)
        assert again.log[:done] == whole.log[:done]
        timeless = [[dataclasses.replace(r, seconds=0.0) for r in run.log] for run in (again, whole)]
        assert timeless[0] == timeless[1]


# --- the class --------------------------------------------------------------------------------------------------------


def test_it_starts_at_exactly_what_the_array_holds(trained):
    d, p = digits(), proxy()
    mapping = ConductanceMapping.of(d.neuron, d.crossbar, p.r_feedback_ohm)
    network = ProgrammedNetwork(d, trained, mapping, 1.0)
    network.keep_certified()
    with torch.no_grad():
        g_pos, g_neg = mapping.program(network.weights)
    assert g_pos.numpy() == pytest.approx(trained.g_pos, rel=1e-12)
    assert g_neg.numpy() == pytest.approx(trained.g_neg, rel=1e-12)


def test_the_tuned_network_holds_its_class(trained):
    how = FineTuning(steps=15, learning_rate=0.1)  # far more than the bound allows, were it not kept
    tuned = tune(trained, Circuit(), how)
    assert tuned.certificate.weight_class == "A"
    start = ConductanceMapping.of(digits().neuron, digits().crossbar).scale_ohm * (tuned.g_pos - tuned.g_neg)
    assert float(start[-STATES:].abs().max()) > 0.05


def test_a_class_c_network_is_tuned_and_stays_one(trained, monkeypatch):
    """W = I - 2.5 Q, far outside class A; the rate is more than its margin would bear, were it not kept."""
    d, p = digits(), proxy()
    certificate = CertificateSpec(weight_class="C", margin=0.2)
    training = d.training.model_copy(update={"saturation": True})
    d = d.model_copy(update={"certificate": certificate, "training": training})
    monkeypatch.setattr("test_finetune.digits", lambda: d)
    rng = np.random.default_rng(3)
    vectors, _ = np.linalg.qr(rng.standard_normal((STATES, STATES)))
    q = vectors @ np.diag(np.geomspace(0.12, 1.0, STATES)) @ vectors.T
    mapping = ConductanceMapping.of(d.neuron, d.crossbar, p.r_feedback_ohm)
    weights = mapping.scale_ohm * torch.as_tensor(trained.g_pos - trained.g_neg)
    weights[-STATES:] = torch.as_tensor(np.eye(STATES) - 2.5 * q)
    g_pos, g_neg = (g.numpy() for g in mapping.program(weights))
    start = dataclasses.replace(trained, g_pos=g_pos, g_neg=g_neg)
    deployed = DeployedNetwork.nominal(d, p, g_pos, g_neg)
    assert certify(deployed.w_state, deployed.act.max_slope).weight_class == "C"
    tuned = tune(start, Circuit(), FineTuning(steps=8, learning_rate=0.2))
    assert tuned.certificate.weight_class == "C"
    assert np.abs(tuned.g_pos.numpy() - g_pos)[-STATES:].max() > 1e-6


@settings(deadline=None)
@given(st.integers(0, 500), st.sampled_from("ABC"), st.floats(0.2, 20.0))
def test_a_projected_matrix_is_of_its_class_and_stays(seed, weight_class, scale):
    rng = np.random.default_rng(seed)
    w = torch.as_tensor(scale * rng.standard_normal((5, 5)))
    weights, slope = torch.as_tensor(rng.uniform(0.3, 1.0, 5)), torch.as_tensor(rng.uniform(0.5, 1.5, 5))
    bound = 0.3 if weight_class == "C" else 0.9
    moved = project(w, weight_class, weights, bound, slope)
    claim = (
        Claim("C", float("nan"), weights, 0.999 * bound)
        if weight_class == "C"
        else Claim(weight_class, bound * (1 + 1e-9), weights)
    )
    claim.check(moved, slope)
    assert torch.allclose(project(moved, weight_class, weights, bound, slope), moved, rtol=1e-9, atol=1e-12)
    inside = 0.01 * w / w.abs().max()
    assert torch.equal(project(inside, weight_class, weights, bound, slope), inside)


def test_free_weights_are_left_alone():
    w = torch.full((3, 3), 7.0)
    assert project(w, "none", torch.ones(3), 0.9, 1.0) is w
