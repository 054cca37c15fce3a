"""The flagship study without a simulator: points, methods, the ideal gradient, windows, means and tables."""

from __future__ import annotations

import importlib
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import design, proxy
from torch import Tensor

from analog_deq.netlists.library import load_cell
from analog_deq.netlists.neuron import load_cells
from analog_deq.records import OK, Progress
from analog_deq.spec import Cells, read_design
from analog_deq.study import campaign, plan, table
from analog_deq.study.early_read import WindowModel, early_errors, tau_of
from analog_deq.study.hardware import Hardware, cells_of, vary
from analog_deq.study.lab import Lab
from analog_deq.study.methods import METHODS
from analog_deq.study.tuning import Fitted, Ideal, tune
from analog_deq.train.deployed import DeployedNetwork
from analog_deq.train.loop import new_network
from analog_deq.train.models import IdealModel, ProxyModel
from analog_deq.train.tasks import load_task
from analog_deq.verify.in_the_loop import SpiceForward

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


class Settled:
    """A circuit that is the nominal proxy itself, in the place of ngspice."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.bed, self.trim_a = lab, lab.bed, None

    def program(self, g_pos: Tensor, g_neg: Tensor) -> None:
        self.model = DeployedNetwork.nominal(self.lab.design, self.lab.hardware.proxy, g_pos.numpy(), g_neg.numpy())

    def __call__(self, x: Tensor, draw: Any = None, *, nudge: Tensor | None = None) -> Tensor:
        return self.model.solve(x, domain_share=None).z

    def measure(self, x: Tensor, *, nudge: Tensor | None = None) -> Any:
        solved = self.model.solve(x, domain_share=None)
        return SimpleNamespace(z=solved.z.numpy(), reading=solved.reading.numpy(), ok=np.ones(len(x), bool))


class Bench(Lab):
    """A lab whose circuit is the proxy."""

    def circuit(self) -> SpiceForward:
        return Settled(self)  # type: ignore[return-value]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    small = design(
        4, 16, 16, task="net16", certificate={"weight_class": "C", "margin": 0.05},
        training={"steps": 12, "batch": 32, "pretrain_steps": 30, "mismatch_draws": False, "read_noise": False},
        task_options={"test_samples": 50}, crossbar={"g_min_siemens": 1e-6, "g_max_siemens": 100e-6},
    )  # fmt: skip
    hardware = Hardware(small, load_cells(Cells()), None, proxy())  # type: ignore[arg-type]
    bed = campaign.Bed(None, tmp_path / "runs")  # type: ignore[arg-type]
    return Bench(hardware, plan.POINTS["nominal"], load_task(small), bed, tmp_path / "networks")


def test_a_fixed_parameter_is_in_every_instance_and_is_not_drawn() -> None:
    shipped = load_cell("diffpair")
    cell = vary(shipped, {"drl": 0.2}, {"dvt": 5e-3})
    pins = {"in": "a", "out_p": "b", "out_n": "c", "vdd": "d", "vss": "e"}
    assert "drl=0.2" in cell.instance("X1", pins)
    assert cell.mismatch_sigmas == {"dvt": 5e-3, "diss": shipped.mismatch_sigmas["diss"]}
    assert cell.sha256 != shipped.sha256
    assert vary(shipped, {}, {}) is shipped


def test_points_change_only_what_they_name() -> None:
    base = read_design(campaign_designs() / "qp16.toml")
    for name, point in plan.POINTS.items():
        made, cells = plan.design_of(base, point, 3), cells_of(base, point)
        assert made.task_options.instance == 3
        assert made.crossbar.levels == (16 if name == "distorted" else base.crossbar.levels)
        assert cells.synapse.mismatch_sigmas["dg"] == (0.1 if name == "mm10" else 0.02)
        for slot, values in point.params.items():
            assert values.keys() <= cells.named[slot].contract.params.keys()
    seeds = {plan.design_of(base, plan.POINTS["mm10"], s).seed for s in range(6)}
    assert len(seeds) == 6


def campaign_designs() -> Path:
    return Path(__file__).resolve().parents[2] / "data/designs"


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_leaves_something_that_predicts(lab: Lab, method: str) -> None:
    used = lab.feed_forward() if method.startswith("feed-forward") else lab
    errors = used.errors(METHODS[method](lab))
    assert errors.failed == 0
    assert errors.n == 50
    # the circuit is the proxy here; ngspice's own readings are held to it elsewhere
    assert errors.spice == pytest.approx(errors.proxy, abs=1e-9)
    assert 0.0 < errors.spice < 2.0


def test_the_feed_forward_net_has_as_many_parameters_and_no_feedback(lab: Lab) -> None:
    wide = lab.feed_forward()
    own, other = (d.sizes.states for d in (lab.design, wide.design))
    assert abs(own * (own + 33) - other * 33) <= 33 / 2
    assert wide.feed_forward() is wide
    assert not wide.trained("start").w_state().any()


def test_a_refit_on_the_circuit_is_no_worse_on_the_samples_it_saw(lab: Lab) -> None:
    before, after = METHODS["naive"](lab), METHODS["naive + die refit"](lab)
    x, y = lab.task.x_train[: plan.REFIT_SAMPLES], lab.task.y_train[: plan.REFIT_SAMPLES]
    errors = [lab.task.score(d.readout.outputs(d.read(x)[0]), y).value for d in (before, after)]
    assert errors[1] < errors[0]


def test_networks_are_trained_once_and_read_back(lab: Lab) -> None:
    first = lab.trained("proxy")
    again = replace(lab).kept("proxy", "proxy", lambda: pytest.fail("trained twice"))
    for name, value in first.named_parameters():
        assert torch.equal(value, again.get_parameter(name))


def test_the_fitted_gradient_is_the_proxy_s_where_the_circuit_is_the_proxy(lab: Lab) -> None:
    network, x = lab.trained("proxy"), lab.task.x_train[:8]
    model = ProxyModel(lab.design, lab.hardware.proxy)
    circuit = lab.circuit()
    programmed = torch.stack(model.mapping.program(network.weights()))
    circuit.program(*programmed.detach())
    gradients = []
    for reading in (Fitted(lab).read(network, programmed, x, circuit)[0], model(network, x, 0).z):
        network.zero_grad()
        reading.square().sum().backward(retain_graph=True)
        assert network.w_input.grad is not None
        gradients.append(network.w_input.grad.clone())
    # one is quantised by the ADC before it is squared, the other after: they differ by its step
    assert torch.allclose(gradients[0], gradients[1], rtol=0.05, atol=0.02 * float(gradients[1].abs().max()))


def test_the_ideal_gradient_is_that_of_tanh_at_the_value_measured(lab: Lab) -> None:
    network, x = lab.trained("naive"), lab.task.x_train[:8]
    circuit = lab.circuit()
    model = ProxyModel(lab.design, lab.hardware.proxy)
    programmed = torch.stack(model.mapping.program(network.weights()))
    circuit.program(*programmed.detach())
    reading, ok = Ideal().read(network, programmed, x, circuit)
    assert bool(ok.all())
    assert torch.allclose(reading.detach(), torch.as_tensor(circuit.measure(x).reading))
    network.zero_grad()
    weights = torch.linspace(-1, 1, reading.numel(), dtype=torch.float64).reshape(reading.shape)
    (reading * weights).sum().backward()
    found = network.w_input.grad
    network.zero_grad()
    (IdealModel(lab.design)(network, x, 0).z * weights).sum().backward()
    assert found is not None
    assert network.w_input.grad is not None
    assert torch.allclose(found, network.w_input.grad, atol=1e-5)


def test_tuning_lowers_the_loss_and_leaves_its_start_alone(lab: Lab) -> None:
    start = lab.trained("naive")
    kept = start.w_input.detach().clone()
    tuned = tune(lab, start, lab.circuit(), "fitted", steps=20, batch=64)
    assert torch.equal(start.w_input, kept)
    errors = [lab.errors(lab.deploy(network)).proxy for network in (start, tuned)]
    assert errors[1] < errors[0]


def test_a_long_window_reads_the_equilibrium(lab: Lab) -> None:
    network, x = lab.trained("naive"), lab.task.x_test[:10]
    window = WindowModel(lab.design, lab.hardware.proxy, 60.0)(network, x, 0).z
    model = ProxyModel(lab.design, lab.hardware.proxy)
    settled = model(new_like(lab, network, model), x, 0).z
    assert torch.allclose(window, settled, atol=2 / 2**lab.design.converters.adc_bits)
    assert tau_of(lab.design) == pytest.approx(2e-7)


def new_like(lab: Lab, network: Any, model: Any) -> Any:
    """The same matrices: a class-C module rescales its own with the slope bound."""
    assert model.max_slope
    made = new_network(lab.design, IdealModel(lab.design))
    made.load_state_dict(network.state_dict())
    return made


def test_errors_over_time_end_at_the_equilibrium(lab: Lab) -> None:
    network = lab.trained("proxy")
    found = early_errors(lab, network)
    assert len(found.raw) == len(plan.READ_TIMES_TAU) + 1
    assert found.raw[-1] == pytest.approx(lab.errors(METHODS["proxy"](lab)).proxy, abs=1e-12)
    assert found.raw[0] > found.raw[-1]


def row(seed: int, method: str, spice: float, status: str = OK) -> campaign.Row:
    return campaign.Row("net16", "nominal", method, seed, spice, spice, 400, 0, status)


def test_differences_are_paired_by_seed_with_a_t_interval() -> None:
    rows = [row(s, "proxy", 0.1 + 0.05 * s) for s in range(3)]
    rows += [row(s, "feed-forward", 0.12 + 0.05 * s + 0.01 * (s - 1)) for s in range(3)]
    rows += [row(3, "proxy", 9.0), row(4, "feed-forward", 9.0, "SimulationError: lost")]
    mean = table.paired(rows, "net16", "nominal", "proxy", "feed-forward")
    assert mean is not None
    assert mean.n == 3
    assert mean.value == pytest.approx(-0.02)
    # t(0.975, 2) = 4.3027; the standard deviation of -0.01, -0.02, -0.03 is 0.01
    assert mean.half == pytest.approx(4.30265 * 0.01 / math.sqrt(3), rel=1e-4)
    assert table.direction(mean) == "no difference shown"
    text = table.report(rows, [], [])
    assert "-0.0200 ±0.0248" in text
    assert "claim does not hold" in text
    assert "seed 4: 0 samples lost; SimulationError: lost" in text


def test_the_gain_of_a_read_time_is_paired_and_its_cost_is_at_the_equilibrium() -> None:
    rows = []
    for seed in range(2):
        for name, low in (("naive", 0.5), ("proxy", 0.6), ("window 3", 0.1)):
            raw = tuple(low + 0.1 * k + 0.3 * seed for k in range(6))
            rows.append(campaign.EarlyRow("net16", name, seed, raw, tuple(v / 2 for v in raw)))
    lines = list(table.early_pairs(rows, "net16"))
    assert lines[2:] == ["| 3 tau | -0.5000 ±0.0000 | -0.2000 ±0.0000 | -0.5000 ±0.0000 | 2 |"]


def test_a_finished_campaign_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, int]] = []

    def once(lab: Any, task: str, method: str, seed: int) -> campaign.Row:
        ran.append((method, seed))
        return campaign.Row(task, "nominal", method, seed, 0.5, 0.5, 400, 0, OK)

    monkeypatch.setattr(campaign, "run_method", once)
    monkeypatch.setattr(campaign, "lab_of", lambda *_: None)
    arguments = (["qp16"], ["nominal"], [0, 1], None, tmp_path, Progress())
    first = list(campaign.run_methods(*arguments))  # type: ignore[arg-type]
    count = len(ran)
    assert count == len(first) == 2 * len(plan.WITHOUT_DIE)
    assert list(campaign.run_methods(*arguments)) == first  # type: ignore[arg-type]
    assert len(ran) == count


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module("flagship")
    finally:
        sys.path.remove(str(BENCHMARKS))


def test_rows_of_the_benchmark_name_each_figure_once(script: ModuleType) -> None:
    rows = [row(s, m, 0.1 + 0.01 * s) for s in range(2) for m in ("proxy", "feed-forward")]
    found = [json.loads(r.to_json()) for r in script.benchmark_rows(rows, "here")]
    assert [r["id"] for r in found] == [
        "flagship.net16.nominal.proxy", "flagship.net16.nominal.feed_forward",
        "flagship.net16.nominal.proxy_minus_feed_forward",
    ]  # fmt: skip
    assert found[2]["ours"] == 0.0


def test_the_page_shows_the_results_that_are_kept(script: ModuleType) -> None:
    assert script.write_page() == script.PAGE.read_text(), "run python benchmarks/flagship.py --docs"
