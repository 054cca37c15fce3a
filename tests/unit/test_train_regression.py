"""Training of regressions and of every weight class, without ngspice: claims held, analytic starts, fair baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import design, proxy

from analog_deq.equilibrium.cell import HardClip, System, Tanh
from analog_deq.equilibrium.certificate import certify
from analog_deq.equilibrium.solve import equilibrium
from analog_deq.errors import EquilibriumError, OutOfDomainError, SpecError
from analog_deq.pipeline.stages import method_line
from analog_deq.proxy.activation import TableActivation
from analog_deq.records import Progress
from analog_deq.spec import DesignSpec
from analog_deq.train import solving
from analog_deq.train.baselines import baseline_scores, feed_forward_design
from analog_deq.train.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from analog_deq.train.deployed import DeployedNetwork
from analog_deq.train.loop import new_network, train_network
from analog_deq.train.models import IdealModel, ProxyModel
from analog_deq.train.network import Network
from analog_deq.train.scoring import deploy, deployed_score, ideal_score, refitted_score
from analog_deq.train.solving import settle, step_fraction
from analog_deq.train.stage import OURS, pretrained, require_class, train_stage
from analog_deq.train.tasks import load_task
from analog_deq.train.tasks.quadratic_program import FULL_SCALE, qp_instance
from analog_deq.train.tasks.task import Score

torch.set_num_threads(1)

FAST = {"steps": 20, "batch": 32, "learning_rate": 1e-2, "pretrain_learning_rate": 1e-2}
SOLVER = {"init": "analytic", "analytic_gain": 1.0, "readout": "identity", "saturation": True}


def qp(**changes: Any) -> DesignSpec:
    """The QP design on the synthetic cells, whose weights reach 1.24: gain 1."""
    training = {**FAST, **SOLVER, **changes.pop("training", {})}
    base: dict[str, Any] = {
        "task": "qp16",
        "certificate": {"weight_class": "C", "margin": 0.02},
        "training": training,
        **changes,
    }
    return design(16, 16, 16, **base)


def net(weight_class: str = "C", states: int = 12, **training: Any) -> DesignSpec:
    certificate = {"weight_class": weight_class}
    return design(states, 16, 16, task="net16", certificate=certificate, training={**FAST, **training})


# --- solving --------------------------------------------------------------------------------------------------------


def random_monotone(n: int = 8, gain: float = 6.0) -> torch.Tensor:
    q = torch.as_tensor(np.random.default_rng(0).standard_normal((n, n)))
    return torch.eye(n, dtype=torch.float64) - gain * (q @ q.T / n + 0.05 * torch.eye(n))


def test_newton_and_damped_picard_find_the_same_state_and_gradient() -> None:
    w, u = random_monotone(), torch.as_tensor(np.random.default_rng(1).standard_normal((5, 8)))
    results = []
    for kind in ("newton", "picard"):
        matrix = w.clone().requires_grad_()
        if kind == "newton":
            z = settle(matrix, u, Tanh(), "C", tol=1e-10)
        else:
            damping = step_fraction(w, 1.0)
            z, _ = equilibrium(System(matrix, u, Tanh()), tol=1e-10, max_iterations=20_000, damping=damping)
        z.square().sum().backward()
        assert matrix.grad is not None
        results.append((z.detach(), matrix.grad))
    assert torch.allclose(results[0][0], results[1][0], atol=1e-8)
    assert torch.allclose(results[0][1], results[1][1], atol=1e-7)


def test_where_newton_fails_picard_is_tried_and_then_it_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    w, u = random_monotone(), torch.ones(2, 8, dtype=torch.float64)
    expected = settle(w, u, Tanh(), "C", tol=1e-8)
    monkeypatch.setattr(solving, "NEWTON_STEPS", 1)
    assert torch.allclose(settle(w, u, Tanh(), "C", tol=1e-8), expected, atol=1e-6)
    monkeypatch.setattr(solving, "PICARD_STEPS", 2)
    with pytest.raises(EquilibriumError, match="did not converge"):
        settle(w, u, Tanh(), "C", tol=1e-8)


def test_the_step_is_whole_where_nothing_asks_for_less() -> None:
    assert step_fraction(torch.zeros(3, 3, dtype=torch.float64), 1.0) == 1.0
    assert step_fraction(-9 * torch.eye(3, dtype=torch.float64), 1.0) == pytest.approx(0.12)


# --- the network ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight_class", ["A", "B", "C", "free"])
def test_a_network_holds_the_claim_of_its_class_before_and_after_training(weight_class: str) -> None:
    d = net(weight_class)
    model = IdealModel(d)
    for network in (new_network(d, model), train(d, model)):
        claim = network.claim()
        if weight_class == "free":
            assert claim is None
        else:
            assert claim is not None
            assert claim.weight_class == weight_class
            claim.check(network.w_state().detach(), 1.0)
    assert float(network.w_state().detach().abs().max()) > 0


def test_the_bound_of_a_class_is_the_designs() -> None:
    changed = design(4, 16, 16, task="net16", certificate={"weight_class": "C", "margin": 0.3})
    assert Network(changed, torch.Generator().manual_seed(0)).weight.margin == 0.3
    changed = design(4, 16, 16, task="net16", certificate={"weight_class": "B", "gamma": 0.7})
    assert Network(changed, torch.Generator().manual_seed(0)).weight.gamma == 0.7


@pytest.mark.parametrize("weight_class", ["C", "free"])
@pytest.mark.parametrize("max_slope", [1.0, 0.97])
def test_an_analytic_network_is_the_solver_itself(weight_class: str, max_slope: float) -> None:
    d = qp(certificate={"weight_class": weight_class}, training={"analytic_gain": 16.0})
    network = Network(d, torch.Generator().manual_seed(0), max_slope=max_slope)
    matrix, q, minimiser = qp_instance(0)
    assert torch.allclose(network.w_state(), torch.eye(16) - 16 * torch.as_tensor(matrix), atol=1e-10)
    x = torch.as_tensor(q[:20] / FULL_SCALE)
    u = (x @ network.w_input.T + network.bias).detach()
    z, _ = equilibrium(System(network.w_state().detach(), u, HardClip()), solver="newton", tol=1e-9)
    assert float((network.outputs(z) - torch.as_tensor(minimiser[:20])).abs().max()) < 1e-8


def test_an_identity_readout_is_not_trained() -> None:
    network = train(qp(), IdealModel(qp()))
    assert torch.equal(network.readout, torch.eye(16, dtype=torch.float64))
    assert not network.readout.requires_grad
    assert float(network.readout_bias.abs().max()) == 0.0
    assert float(network.bias.detach().abs().max()) > 0.0  # the rest is


# --- learning -------------------------------------------------------------------------------------------------------


def train(d: DesignSpec, model: Any, **options: Any) -> Network:
    return train_network(d, load_task(d), model, label="test", progress=Progress(), **options)[0]


@pytest.mark.parametrize("weight_class", ["A", "B", "C", "free"])
def test_a_regression_learns_in_every_class(weight_class: str) -> None:
    d = net(weight_class, steps=100)
    _, log = train_network(d, load_task(d), IdealModel(d), label="test", progress=Progress())
    assert log.loss[-1] < 0.3 * log.loss[0]  # 100 steps of 32 samples


def test_training_goes_on_from_a_start_and_the_start_stays_as_it_was() -> None:
    d = net(pretrain_steps=30)
    start = pretrained(d, load_task(d), Progress())
    assert start is not None
    before = {name: p.detach().clone() for name, p in start.named_parameters()}
    _, log = train_network(d, load_task(d), IdealModel(d), start=start, label="test", progress=Progress())
    _, fresh = train_network(d, load_task(d), IdealModel(d), label="test", progress=Progress())
    assert log.loss[0] < 0.5 * fresh.loss[0]
    assert all(torch.equal(p, before[name]) for name, p in start.named_parameters())
    assert pretrained(net(), load_task(net()), Progress()) is None


def test_the_ideal_start_has_its_own_steps_and_rate() -> None:
    d = net(learning_rate=1e-9)
    still, moved = train(d, IdealModel(d)), train(d, IdealModel(d), ideal_steps=15)
    first = new_network(d, IdealModel(d))
    assert torch.allclose(still.w_input, first.w_input, atol=1e-6)
    assert float((moved.w_input - first.w_input).detach().abs().max()) > 1e-2


def test_saturating_designs_pay_no_penalty_beyond_the_calibrated_range() -> None:
    task = load_task(qp())
    for saturation, paid in ((True, False), (False, True)):
        d = qp(training={"saturation": saturation, "mismatch_draws": False, "read_noise": False})
        model = ProxyModel(d, proxy())
        network = new_network(d, model)
        with torch.no_grad():
            network.bias.fill_(1.2)
            network.w_input.fill_(1.2)
        penalty = model(network, task.x_train[:8].abs() + 0.5, 0).penalty.detach()
        assert (float(penalty) > 0) is paid


# --- deployment -----------------------------------------------------------------------------------------------------


def test_only_where_the_curve_ends_flat_is_saturation_no_extrapolation() -> None:
    d = qp()
    network = deploy(d, proxy(), new_network(d, ProxyModel(d, proxy())))
    h = torch.tensor([[-9.0, 9.0, 0.5]], dtype=torch.float64)
    low, high = network.act.end_slopes
    # 0.98 tanh(h / 1.15) at 4: its slope there is 3.2e-3
    assert float(low) == pytest.approx(float(high), rel=0.01)
    assert float(high) == pytest.approx(0.98 / 1.15 / np.cosh(3.98 / 1.15) ** 2, rel=0.1)
    assert network.extrapolated(h).tolist() == [[True, True, False]]
    with pytest.raises(OutOfDomainError, match="leave the calibrated range"):
        network.require_inside(h, 0.0)
    flat = torch.linspace(-4, 4, 161, dtype=torch.float64).clamp(-1, 1)
    table = TableActivation(
        -4.0, 0.05, flat, torch.zeros_like(flat), *(torch.ones((), dtype=torch.float64) * k for k in (1, 1, 0, 0))
    )
    clipping = DeployedNetwork(d, network.proxy, network.map, table, network.tau_scale)
    assert not bool(clipping.extrapolated(h).any())
    clipping.require_inside(h, 0.0)
    strict = qp(training={"saturation": False})
    assert bool(DeployedNetwork(strict, network.proxy, network.map, table, network.tau_scale).extrapolated(h).any())


def test_baselines_of_a_regression_start_alike_and_have_as_many_parameters() -> None:
    d = qp()
    task = load_task(d)
    scores = baseline_scores(d, proxy(), task, None, Progress())
    wide = feed_forward_design(d)
    label = f"feed-forward, {wide.sizes.states} states"
    assert list(scores) == [
        "analytic (ideal tanh)", "analytic, deployed", "analytic + refitted readout", "digital (ideal tanh)",
        "naive deployment", "naive + refitted readout", "noise-injection training",
        f"{label}, proxy training", f"{label}, refitted readout",
    ]  # fmt: skip
    assert all(score.n == 400 and score.low <= score.value <= score.high for score in scores.values())
    # a circuit of gain 1 behind a smooth curve: far from exact, far better than no answer
    assert 0.1 < scores["analytic (ideal tanh)"].value < 0.5
    assert scores["analytic (ideal tanh)"] == ideal_score(task, IdealModel(d), new_network(d, IdealModel(d)))
    own = 16 * (16 + 16 + 1 + 16)
    assert abs(wide.sizes.states * (16 + 1 + 16) - own) <= (16 + 1 + 16) / 2
    assert (wide.training.init, wide.training.readout) == ("random", "trained")


def test_a_refitted_readout_is_no_worse_where_the_own_one_is_off() -> None:
    d = qp()
    task = load_task(d)
    network = new_network(d, ProxyModel(d, proxy()))
    assert refitted_score(d, proxy(), task, network).value < deployed_score(d, proxy(), task, network).value


def test_the_stage_of_a_regression_returns_its_scores_and_a_certificate_of_the_mapped_matrix() -> None:
    d = net("A", pretrain_steps=20)
    trained = train_stage(d, proxy(), load_task(d), baselines=False, progress=Progress())
    assert list(trained.scores) == [OURS, "proxy training + refitted readout"]
    assert trained.certificate.weight_class == "A"
    assert trained.g_pos.shape == (16 + 1 + 12, 12)
    assert trained.scores[OURS].value < 1.0


def test_a_matrix_outside_its_class_is_refused() -> None:
    grown = certify(torch.full((3, 3), 0.9, dtype=torch.float64), 1.0)
    with pytest.raises(EquilibriumError, match="the mapped matrix is not class A"):
        require_class(net("A"), grown)
    require_class(net("free"), grown)
    require_class(net("C"), certify(torch.zeros(3, 3, dtype=torch.float64), 1.0))  # class A is a class C


def test_scores_survive_the_file(tmp_path: Path) -> None:
    d = net("A")
    trained = train_stage(d, proxy(), load_task(d), baselines=False, progress=Progress())
    made = Checkpoint(
        trained.g_pos.numpy(), trained.g_neg.numpy(), trained.readout.weight.numpy(), trained.readout.bias.numpy(),
        trained.certificate, "0" * 64, "1" * 64, d.seed, trained.scores, {},
    )  # fmt: skip
    write_checkpoint(made, tmp_path / "net.safetensors")
    assert read_checkpoint(tmp_path / "net.safetensors").scores == trained.scores


def test_a_summary_line_says_what_kind_of_score_it_is() -> None:
    regression, labels = load_task(qp()), load_task(design(8, 64, 10))
    score = Score(0.0294, 0.028, 0.031, 400)
    expected = ("relative error, naive", "2.94 % (2.80 to 3.10 %, n = 400)")
    assert method_line(regression, "naive", score) == expected
    assert method_line(labels, "naive", Score.of_labels(474, 500)) == ("test accuracy, naive", "94.8 % (474 of 500)")


# --- the design -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "net16"}, 'only the task "qp16" has a circuit by construction'),
        ({"sizes": {"inputs": 16, "states": 20, "outputs": 16}}, "needs as many states as outputs, not 20, 16"),
    ],
)
def test_an_analytic_start_needs_its_task_and_sizes(changes: dict[str, Any], message: str) -> None:
    content = {**qp().model_dump(by_alias=True, exclude_unset=True), **changes}
    with pytest.raises(ValueError, match=message):
        DesignSpec.model_validate(content)


def test_an_instance_changes_the_data_and_not_the_sizes() -> None:
    first, second = (load_task(qp(task_options={"instance": k})) for k in (0, 1))
    assert first.x_train.shape == second.x_train.shape
    assert not torch.equal(first.y_train, second.y_train)
    with pytest.raises(SpecError, match="16 inputs and 16 outputs"):
        load_task(design(4, 3, 2, task="net16"))
