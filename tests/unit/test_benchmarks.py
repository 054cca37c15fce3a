"""Benchmark scripts: their rows and what is computed from times. Nothing is timed and no ngspice runs here."""

from __future__ import annotations

import importlib
import json
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from analog_deq.calibration.measurement import Bench
from analog_deq.calibration.mismatch import NeuronMismatch
from analog_deq.equilibrium.certificate import certify
from analog_deq.errors import SimulatorNotFoundError, SpecError
from analog_deq.fit.fit import fit_proxy
from analog_deq.fit.parameters import ProxyParameters
from analog_deq.pipeline.fine_tuning import SAME
from analog_deq.pipeline.inputs import Inputs, load_inputs
from analog_deq.records import Deck, Plot
from analog_deq.resources import shipped
from analog_deq.spec import Tolerances
from analog_deq.spice.simulator import Simulator
from analog_deq.statistics import wilson
from analog_deq.tables import PROXY_TABLES, read_table
from analog_deq.train.checkpoint import Checkpoint, write_checkpoint
from analog_deq.train.deployed import Readout
from analog_deq.train.finetune import FineTuning
from analog_deq.train.tasks import Score, Task
from analog_deq.verify.verdict import Check, VerifyReport

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
SCRIPTS = (
    "defects", "monte_carlo", "whole_network", "accuracy", "pyspice", "cells", "estimators", "equilibrium", "flagship",
    "spice_in_the_loop", "switched_cap",
    "mappings", "crossbar", "node_dies",
    "large_networks", "tiling",
    "sinh_network",
    "dies",
    "scaling",
    "programming",
    "memristor_devices", "node_dies",
    "coverage", "yield_three_sigma", "rare_failures",
    "attribution",
)  # fmt: skip
SHARED = ("rows", "gradient_figures", "noisy_cell", "measured_cell", "train_step", "wrong_circuits", "trained_digits")
KEYS = ["id", "ours", "peer", "peer_name", "ratio", "bar", "holds", "n", "spread", "machine"]
NOWHERE = Simulator(Path("/nonexistent/ngspice"), "46", False)


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, ModuleType]]:
    """The scripts and what they share, imported as they import each other."""
    sys.path.insert(0, str(FOLDER))
    try:
        yield {name: importlib.import_module(name) for name in (*SHARED, *SCRIPTS)}
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return load_inputs(shipped("data/designs") / "digits.toml", {})


def reference_proxy(inputs: Inputs) -> ProxyParameters:
    folder = shipped("calibration/reference") / "digits"
    tables = {name: read_table(folder / f"{name}.parquet") for name in PROXY_TABLES}
    return fit_proxy(tables, inputs.design, Tolerances(), {}, {})


def by_id(rows: Any) -> dict[str, Any]:
    """Rows by their id, each checked against the format."""
    found = {}
    for row in rows:
        content = json.loads(row.to_json())
        assert list(content) == KEYS
        assert content["id"] not in found
        assert isinstance(content["ours"], int | float)
        assert (content["holds"] is None) == (content["bar"] is None)
        assert (content["ratio"] is None) == (content["peer"] is None) == (content["peer_name"] is None)
        found[content["id"]] = row
    return found


# --- the shared part ------------------------------------------------------------------------------------------------


def test_speed_row_divides_the_smallest_times(modules: dict[str, ModuleType]) -> None:
    speed_row = modules["rows"].speed_row
    row = speed_row("a", "m", [0.2, 0.4], [8.0, 6.0], "peer", bar=15.0, per=(2, 4))
    assert (row.ours, row.peer, row.ratio, row.n) == (0.1, 1.5, pytest.approx(15.0), 2)
    assert row.spread == {"ours": (0.1, 0.2), "peer": (1.5, 2.0)}
    assert speed_row("a", "m", [1.0], [20.0], "peer", bar=20.0).holds is True
    assert speed_row("a", "m", [1.0], [19.9], "peer", bar=20.0).holds is False
    by_id([row])


def test_bars_of_single_figures_are_upper_limits(modules: dict[str, ModuleType]) -> None:
    rows = modules["rows"]
    assert [rows.value_row("a", "m", v, 3, bar=1e-6).holds for v in (0.0, 1e-6, 2e-6)] == [True, True, False]
    assert [rows.time_row("a", "m", [t, 9.0], bar=4.0, per=2.0).holds for t in (8.0, 8.1)] == [True, False]
    found = by_id([rows.value_row("a", "m", 1.0, 3, interval=(0.5, 2.0)), rows.time_row("b", "m", [3.0, 4.0])])
    assert found["a"].spread == {"ours": (0.5, 2.0)}
    assert found["b"].spread == {"ours": (3.0, 4.0)}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_figure_that_is_no_number_is_no_row(modules: dict[str, ModuleType], value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        modules["rows"].value_row("a", "m", value, 1).to_json()


def test_sides_take_turns(modules: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules["rows"], "SETTLE_S", 0.0)
    calls: list[str] = []
    times = modules["rows"].interleave({name: lambda name=name: calls.append(name) for name in "ab"}, 3)
    assert "".join(calls) == "abbaab"
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 3, "b": 3}
    assert min(min(seconds) for seconds in times.values()) >= 0.0


def test_a_bar_that_does_not_hold_is_said_and_exits_0(
    modules: dict[str, ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = modules["rows"]
    made = [rows.speed_row("slow.s", "some machine", [1.0], [2.0], "peer", bar=20.0)]
    assert rows.show(made, as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["holds"] is False
    assert rows.show(made, as_json=False) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[1].split()[:6] == ["slow.s", "1", "2", "2", "20", "NO"]
    assert table[-1] == "machine: some machine"


def test_a_failure_keeps_the_rows_before_it_and_its_exit_code(
    modules: dict[str, ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> Iterator[Any]:
        yield modules["rows"].value_row("first", "m", 1.0, 1)
        raise SimulatorNotFoundError("no ngspice here")

    for as_json in (True, False):
        assert modules["rows"].show(broken(), as_json=as_json) == 3
        printed = capsys.readouterr()
        assert "first" in printed.out
        assert "no ngspice here" in printed.err


def test_machine_is_described_without_its_name(modules: dict[str, ModuleType]) -> None:
    text = modules["rows"].machine_name(NOWHERE)
    assert "cores" in text
    assert text.endswith("ngspice 46 Sparse")
    assert platform.node() not in text.split()


@pytest.mark.parametrize("name", SCRIPTS)
def test_help(modules: dict[str, ModuleType], capsys: pytest.CaptureFixture[str], name: str) -> None:
    with pytest.raises(SystemExit) as ended:
        modules[name].main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "--json" in text
    assert f"example: python benchmarks/{name}.py" in text


def test_a_script_runs_as_documented() -> None:
    command = [sys.executable, str(FOLDER / "accuracy.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "--report" in done.stdout


@pytest.mark.parametrize("arguments", [["--repeats", "0"], ["--blocks", "64", "-1"], ["--draws", "x"]])
def test_counts_are_checked(
    modules: dict[str, ModuleType], capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        modules["monte_carlo"].main(arguments)
    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_every_script_is_in_the_readme() -> None:
    text = (FOLDER / "README.md").read_text()
    scripts = {path.name for path in FOLDER.glob("*.py")}
    assert scripts == {f"{name}.py" for name in (*SCRIPTS, *SHARED)}
    assert [name for name in scripts if name not in text] == []


# --- Monte Carlo ----------------------------------------------------------------------------------------------------


def passed(monte_carlo: ModuleType, build: float, deck: list[float], process: list[float]) -> Any:
    return monte_carlo.Pass(build, np.array(deck), np.array(process))


def test_monte_carlo_rows(modules: dict[str, ModuleType]) -> None:
    monte_carlo = modules["monte_carlo"]
    sides = {
        "ours": [passed(monte_carlo, 0.2, [0.9, 1.9], [0.8, 1.6])],
        "tuned": [passed(monte_carlo, 0.02, [0.24, 0.49], [0.2, 0.4])],
        "installed": [passed(monte_carlo, 0.02, [0.49, 0.99], [0.4, 0.8])],
    }
    found = by_id(monte_carlo.case_rows("static", "m", sides, [0], (100, 10)))
    row = found["monte_carlo.static.tuned.s_per_draw"]
    assert (row.ours, row.peer) == (pytest.approx(0.01), pytest.approx(0.025))  # half the building is the deck's
    assert row.bar == monte_carlo.BAR
    assert found["monte_carlo.static.installed.s_per_draw"].ratio == pytest.approx(5.0)
    row = found["monte_carlo.static.tuned.process_s_per_draw"]
    assert (row.ratio, row.bar) == (pytest.approx(2.5), None)
    both = by_id(monte_carlo.case_rows("both", "m", sides, range(2), (100, 10)))
    assert both["monte_carlo.both.tuned.s_per_draw"].ours == pytest.approx(0.03)
    assert sides["ours"][0].total_s == pytest.approx(3.0)


def test_a_pass_simulates_every_draw_once(modules: dict[str, ModuleType], inputs: Inputs) -> None:
    monte_carlo = modules["monte_carlo"]
    bench = Bench(inputs.design, inputs.plan, inputs.cells)
    measurement = NeuronMismatch()
    dies = measurement.samples(bench)[:5]
    seen: list[str] = []

    def run(deck: Deck, simulator: Simulator, folder: Path) -> tuple[tuple[Plot, ...], float]:
        assert folder.is_dir()
        seen.append(deck.text)
        return (), 0.25

    done = monte_carlo.one_pass(lambda part: measurement.decks(bench, part), dies, 2, NOWHERE, run)
    kinds = len(measurement.decks(bench, dies[:1]))
    assert len(seen) == 3 * kinds
    assert done.process_s.tolist() == [0.75] * kinds
    assert len(done.plots) == 3
    for die in dies:  # one deck of each kind, and no more, holds this die's own mismatch
        assert sum(repr(die.deviations["opamp.vos"]) in text for text in seen) == kinds


def test_static_difference_is_in_units_of_h_and_z(modules: dict[str, ModuleType], inputs: Inputs) -> None:
    monte_carlo = modules["monte_carlo"]
    bench = Bench(inputs.design, inputs.plan, inputs.cells)
    neuron = inputs.design.neuron

    def plot(copies: int, **shift: float) -> tuple[tuple[Plot, ...], ...]:
        names = [f"v({signal}{k})" for signal in ("v", "zp", "zn") for k in range(copies)]
        data = np.zeros((4, len(names)))
        for name, value in shift.items():
            data[2, names.index(f"v({name})")] = value
        return ((Plot("DC transfer characteristic", tuple(names), data),),)

    alone = monte_carlo.Pass(0.0, np.zeros(1), np.zeros(1), (plot(1), plot(1), plot(1)))
    z = 2e-6 * neuron.z_unit_v  # of both rows, apart: 2e-6 units
    together = monte_carlo.Pass(0.0, np.zeros(1), np.zeros(1), (plot(2), plot(2, zp0=z, zn0=-z)))
    assert monte_carlo.static_difference(bench, together, alone, 2) == pytest.approx(2e-6)
    together = monte_carlo.Pass(
        0.0, np.zeros(1), np.zeros(1), (plot(2, v1=-3e-6 * neuron.v_unit_v, zp0=z, zn0=z), plot(2))
    )
    assert monte_carlo.static_difference(bench, together, alone, 2) == pytest.approx(3e-6)


# --- the whole network ----------------------------------------------------------------------------------------------


def test_transient_rows(modules: dict[str, ModuleType]) -> None:
    seconds = {
        "reduction": [0.1, 0.2], "reduced_1": [0.3, 0.4], "reduced_3": [0.7, 0.9],
        "flat_1": [10.0, 11.0], "flat_3": [26.0, 27.0],
    }  # fmt: skip
    found = by_id(modules["whole_network"].transient_rows("m", seconds, 3))
    prefix = "whole_network.transient"
    assert found[f"{prefix}.s_per_image"].ratio == pytest.approx(26.0 / 0.7)
    assert found[f"{prefix}.with_reduction.s_per_image"].ours == pytest.approx(0.8 / 3)
    row = found[f"{prefix}.further_image.s"]
    assert (row.ours, row.peer, row.holds) == (pytest.approx(0.2), pytest.approx(8.0), True)
    assert found["whole_network.reduction.s_per_weight_set"].ours == 0.1
    seconds = {"reduction": [0.1], "reduced_1": [0.3], "flat_1": [3.0]}
    found = by_id(modules["whole_network"].transient_rows("m", seconds, 1))
    assert found[f"{prefix}.s_per_image"].holds is False
    assert f"{prefix}.further_image.s" not in found


def test_equilibrium_rows(modules: dict[str, ModuleType]) -> None:
    whole_network = modules["whole_network"]
    images, flat_images = whole_network.EQUILIBRIA, whole_network.FLAT_EQUILIBRIA
    seconds = {"reduced": [0.004 * images, 0.006 * images], "flat": [0.08 * flat_images, 0.1 * flat_images]}
    found = by_id(whole_network.equilibrium_rows("m", seconds, [6.0, 7.0]))
    prefix = "whole_network.equilibria"
    assert found[f"{prefix}.s_per_image"].ours == pytest.approx(0.004)
    assert found[f"{prefix}.s_per_image"].holds is True
    assert found[f"{prefix}.against_rest.s_per_image"].ratio == pytest.approx(1500.0)
    assert found[f"{prefix}.against_sweep.s_per_image"].ratio == pytest.approx(20.0)


def test_random_network_is_a_programmed_class_a_network(modules: dict[str, ModuleType], inputs: Inputs) -> None:
    design = inputs.design
    draw = modules["whole_network"].random_conductances
    g_pos, g_neg = draw(design)
    np.testing.assert_array_equal(g_pos, draw(design)[0])
    array, n = design.crossbar, design.sizes.states
    assert g_pos.shape == (design.sizes.inputs + 1 + n, n)
    step = (array.g_max_siemens - array.g_min_siemens) / (array.levels - 1)
    for g in (g_pos, g_neg):
        levels = (g - array.g_min_siemens) / step
        np.testing.assert_allclose(levels, levels.round(), atol=1e-9)
        assert levels.min() >= 0
        assert levels.max() <= array.levels - 1 + 1e-9
    scale = design.neuron.r_feedback_ohm * design.neuron.z_unit_v / design.neuron.v_unit_v
    w = scale * (g_pos - g_neg)[-n:].T
    rounding = n * scale * step / 2
    assert np.abs(w).sum(axis=1).max() <= design.certificate.gamma + rounding
    assert np.abs(np.linalg.eigvals(w)).max() > 0.5  # a slow mode: settling is not the neurons' own time constant


def test_a_checkpoint_needs_its_proxy(modules: dict[str, ModuleType]) -> None:
    with pytest.raises(SpecError, match="--proxy"):
        modules["whole_network"].build_circuit(Path("net.safetensors"), None, NOWHERE)


# --- accuracy -------------------------------------------------------------------------------------------------------

LADDER = {
    name: Score.of_labels(correct, 500)
    for name, correct in (("proxy training (ours)", 475), ("naive + refitted readout", 470), ("W_fb = 0", 460))
}


def check(name: str, value: float | None, n: int = 500, interval: tuple[float, float] | None = None) -> Check:
    return Check(name, "", "%", value, None, None, n, interval, "info", None, "", "info", "each")


def written(folder: Path, *checks: Check) -> list[str]:
    """Arguments naming a report and a checkpoint written into ``folder``."""
    provenance = {"ngspice_version": "46", "solver": "KLU"}
    report = VerifyReport(checks, provenance, "a title", "digits").to_dict()
    (folder / "report.json").write_text(json.dumps(report))
    certificate = certify(torch.tensor([[0.5]]), 1.0, 1e-7)
    ones = np.ones((2, 1))
    net = Checkpoint(ones, ones, ones.T, ones[0], certificate, "0" * 64, "0" * 64, 1, LADDER, {})
    write_checkpoint(net, folder / "net.safetensors")
    return ["--report", str(folder / "report.json"), "--checkpoint", str(folder / "net.safetensors")]


def test_accuracy_rows(modules: dict[str, ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = written(
        tmp_path,
        check("net.accuracy", 94.8, interval=(92.5, 96.4)),
        check("net.class_agreement", 99.6),
        check("net.fixed_point_err", 0.25),
        check("net.fixed_point_max", None),
        check("net.noise_ratio", 0.95, 4, (0.95, 1.02)),
    )
    assert modules["accuracy"].main([*arguments, "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(list(line) == KEYS for line in lines)
    found = {line["id"].removeprefix("accuracy."): line for line in lines}
    assert len(found) == len(lines)
    ours = found["software.proxy_training_ours_percent"]
    assert (ours["ours"], ours["n"], ours["peer"], ours["bar"]) == (95.0, 500, None, None)
    assert ours["spread"]["ours"] == pytest.approx([100 * edge for edge in wilson(475, 500)])
    assert found["software.w_fb_0_percent"]["ours"] == 92.0
    assert found["ngspice.ours_percent"]["spread"] == {"ours": [92.5, 96.4]}
    assert found["proxy.fixed_point_rms_percent_fs"]["holds"] is False
    assert "proxy.fixed_point_max_percent_fs" not in found  # not measured: no row, and no invented figure
    assert found["proxy.noise_ratio_distance_from_1"]["ours"] == pytest.approx(0.05)
    assert found["proxy.noise_ratio_distance_from_1"]["holds"] is True
    # 2 labels of 500 differ: the exact one-sided 95 % bound of that share is 1.25 %
    differing = found["ngspice.labels_differing_upper_bound_percent"]
    assert differing["ours"] == pytest.approx(1.254, abs=5e-3)
    assert differing["holds"] is True
    assert ours["machine"].endswith("ngspice 46 KLU")


def test_label_agreement_has_no_bar_on_few_images(modules: dict[str, ModuleType]) -> None:
    few = by_id(modules["accuracy"].spice_rows("m", {"net.class_agreement": check("net.class_agreement", 100.0, 100)}))
    row = few["accuracy.ngspice.labels_differing_upper_bound_percent"]
    assert row.bar is None
    assert row.ours == pytest.approx(100 * (1 - 0.05 ** (1 / 100)), rel=1e-6)  # 0 of n: the bound is 1 - 0.05^(1/n)


def test_accuracy_refuses_another_file(
    modules: dict[str, ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = written(tmp_path)
    (tmp_path / "report.json").write_text("not json")
    assert modules["accuracy"].main(arguments) == 2
    assert "report.json" in capsys.readouterr().err


# --- the equilibrium core -------------------------------------------------------------------------------------------


def test_a_case_is_certified_and_as_slow_as_asked_for(modules: dict[str, ModuleType]) -> None:
    train_step = modules["train_step"]
    for rho, modes in ((0.47, 1), (0.86, 1), (0.73, 8)):
        case = train_step.class_a_case(64, rho, modes=modes)
        case.claim.check(case.w, 1.0)
        u = case.begin().detach()[:4].double()
        w, z = case.w.detach().double(), torch.zeros(4, 64, dtype=torch.float64)
        for _ in range(300):
            z = torch.tanh(z @ w.mT + u)
        radii = torch.linalg.eigvals((1 - z * z).unsqueeze(-1) * w).abs().amax(-1)
        assert float(radii.mean()) == pytest.approx(rho, abs=0.03)


def test_both_sides_come_near_the_exact_gradient_and_ours_is_no_worse(modules: dict[str, ModuleType]) -> None:
    train_step = modules["train_step"]
    case = train_step.class_a_case(64, 0.73)
    peer = train_step.Peer(case, 1e-3, "fixed_point_iter")
    peer.step()
    error = case.error()
    assert 1e-6 < error < 0.05
    tol = train_step.matched_tolerance(lambda tol: train_step.ours(case, tol), case, 1e-3, error)
    train_step.ours(case, tol)
    assert case.error() <= error
    train_step.ours_generic(case, 1e-6)
    assert case.error() < 1e-4
    train_step.ours(case, 1e-6, "picard", "dense")
    assert case.error() < 1e-5


def test_training_step_rows(modules: dict[str, ModuleType]) -> None:
    equilibrium = modules["equilibrium"]
    seconds = {
        "ours": [0.2, 0.3], "ours_anderson": [0.2, 0.2], "generic": [0.4, 0.4], "peer": [0.8, 0.9],
        "same": [0.6, 0.6], "anderson": [2.2, 2.2], "floor": [0.05, 0.1],
    }  # fmt: skip
    found = by_id(equilibrium.speed_rows("e", "m", seconds, 2, equilibrium.BARS[64]))
    assert (found["e.s"].ours, found["e.s"].ratio, found["e.s"].holds) == (0.1, pytest.approx(4.0), True)
    assert found["e.against_anderson.s"].holds is True
    assert found["e.generic.s"].ratio == pytest.approx(2.0)
    assert found["e.same_activation.s"].bar is None
    assert (found["e.over_floor.relative"].ours, found["e.over_floor.relative"].holds) == (pytest.approx(4.0), False)


# --- SPICE in the loop ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["digits", "qp16", "net16"])
def test_wrong_circuits_are_other_hardware_for_the_same_task(
    modules: dict[str, ModuleType], tmp_path: Path, base: str
) -> None:
    wrong = modules["wrong_circuits"]
    made = {
        name: load_inputs(wrong.write_design(base, circuit, 1, tmp_path / name), {})
        for name, circuit in wrong.CIRCUITS.items()
    }
    assert len({one.hardware_sha256() for one in made.values()}) == len(made)
    home = made["nominal"]
    shipped_one = load_inputs(shipped("data/designs") / f"{base}.toml", {})
    assert home.hardware_sha256() == shipped_one.hardware_sha256()
    assert home.design.seed == shipped_one.design.seed + 1
    if base != "digits":
        assert home.design.task_options.instance == 1
    for one in made.values():  # what fine-tuning through a proxy of other hardware asks for
        assert all(getattr(one.design, name) == getattr(home.design, name) for name in SAME)
    harsh = made["harsh_all"]
    opamp, pair = harsh.cells.named["opamp"], harsh.cells.named["activation"]
    assert opamp.contract.params["a0"].default == 200.0
    assert opamp.contract.params["vos"].default == 0.0  # a common offset is the circuit's own, not mismatch
    assert "{vos+0.005}" in opamp.netlist
    assert pair.contract.params["rl"].default == 3.5e3
    assert (harsh.design.operating.temperature_celsius, harsh.design.operating.vdd_v) == (125.0, 0.81)


def test_a_derived_cell_changes_what_it_names_or_says_so(modules: dict[str, ModuleType], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing matches"):
        modules["wrong_circuits"].Derived("diffpair", {"no_such": "1"}).write(tmp_path)


def test_loosened_tolerances_are_the_only_change_of_a_plan(modules: dict[str, ModuleType], tmp_path: Path) -> None:
    wrong = modules["wrong_circuits"]
    plans = [
        load_inputs(wrong.write_design("digits", wrong.CIRCUITS["nominal"], 0, tmp_path / str(k), k), {}).plan
        for k in (1.0, 10.0)
    ]
    tight, loose = (plan.model_dump(exclude={"design"}) for plan in plans)
    before, after = tight.pop("tolerances"), loose.pop("tolerances")
    assert tight == loose
    assert after == {name: pytest.approx(10 * value) for name, value in before.items()}


def test_proxy_steps_measure_nothing_and_never_ask_for_a_refit(modules: dict[str, ModuleType], inputs: Inputs) -> None:
    loop, proxy = modules["spice_in_the_loop"], reference_proxy(inputs)
    n, rows = inputs.design.sizes.states, inputs.design.sizes.inputs + 1 + inputs.design.sizes.states
    g_pos, g_neg = modules["whole_network"].random_conductances(inputs.design)
    assert g_pos.shape == (rows, n)
    certificate = certify(torch.zeros(n, n, dtype=torch.float64), 1.0)
    readout = 0.1 * np.random.default_rng(0).standard_normal((10, n))
    net = Checkpoint(g_pos, g_neg, readout, np.zeros(10), certificate, "0" * 64, "0" * 64, 1, {}, {})
    done = loop.through_proxy(inputs.design, proxy, inputs.task(), net, FineTuning(steps=2, batch=8))
    assert [record.decks for record in done.log] == [0, 0]
    assert max(record.max_percent_fs for record in done.log) < 1e-4
    assert not any(record.refit for record in done.log)
    assert not np.allclose(done.readout.weight.numpy(), readout, atol=1e-3)


def test_failed_samples_are_wrong_labels_and_left_out_of_errors(modules: dict[str, ModuleType]) -> None:
    per_sample = modules["spice_in_the_loop"].per_sample
    x, index = torch.zeros(3, 2, dtype=torch.float64), np.arange(3)
    eye, zeros = torch.eye(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    reading, ok = np.array([[0.5, 0.0], [np.nan, np.nan], [0.0, 0.5]]), np.array([True, False, True])
    labels = torch.tensor([0, 0, 0])
    task = Task("classification", x, labels, x, labels, index, index)
    assert per_sample(task, Readout(eye, zeros, 12), reading, ok).tolist() == [True, False, False]
    regression = Task("regression", x, x, x, x, index, index, 0.5)
    errors = per_sample(regression, Readout(eye, zeros, 12), reading, ok)
    np.testing.assert_allclose(errors, [[1, 0], [np.nan, np.nan], [0, 1]], atol=1e-3)
    row = modules["spice_in_the_loop"].score_row("c", "m", errors)
    assert (row.n, row.ours) == (2, pytest.approx(100 * 0.5**0.5, rel=1e-3))


def test_loop_rows_pool_seeds_and_pair_samples(modules: dict[str, ModuleType]) -> None:
    loop = modules["spice_in_the_loop"]
    right, half = np.ones(100, dtype=bool), np.arange(100) % 2 == 0
    log = pd.DataFrame(
        {"rms_percent_fs": [5.0, 1.0], "sigma_percent_fs": [2.0, 2.0], "failed": [0, 1], "refit": [True, False]}
    )
    scores = dict.fromkeys(loop.AGAINST, half) | {"fine_tuned": right, "fine_tuned_and_refit": right}
    found = {k: loop.Found(scores, (5.0 + k, 20.0), (1.0, 4.0), log, True) for k in range(2)}
    rows = by_id(loop.circuit_rows("c", "m", found))
    pooled = rows["c.all_seeds.before.accuracy_percent"]
    assert (pooled.ours, pooled.n) == (50.0, 200)
    assert pooled.spread["ours"] == pytest.approx([100 * edge for edge in wilson(100, 200)])
    gain = rows["c.all_seeds.fine_tuned_over_before.points"]
    assert gain.ours == 50.0
    assert gain.spread["ours"][0] > 40.0
    assert rows["c.all_seeds.fine_tuned_over_before.mcnemar_p"].ours < 1e-12
    assert rows["c.distance_before_rms_percent_fs"].ours == 5.5
    assert rows["c.log.refit_asked_percent"].ours == 50.0
    assert rows["c.log.failed_samples"].ours == 2.0
    assert rows["c.fit_refused"].ours == 1.0


def test_loop_rows_of_a_regression(modules: dict[str, ModuleType]) -> None:
    loop = modules["spice_in_the_loop"]
    errors = np.random.default_rng(0).normal(size=(50, 4))
    rows = by_id(loop.gain_rows("c", "m", 0.5 * errors, errors))
    value = rows["c.points"]
    assert value.ours == pytest.approx(50 * np.sqrt(np.mean(errors**2)))
    assert value.spread["ours"][0] > 0
    assert "c.mcnemar_p" not in rows
