"""The sixth mapping of docs/mappings.md, from calibration to verdict: what the docs promise of a new family."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from analog_deq.cli import cli
from analog_deq.mappings import registry
from analog_deq.verify.report_schema import require_report

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"


@pytest.fixture(scope="module")
def toy():
    spec = importlib.util.spec_from_file_location("toy_mapping", EXAMPLES / "toy_mapping.py")
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["toy_mapping"] = module
    spec.loader.exec_module(module)
    registry.MAPPINGS["toy"] = module.MAPPING
    yield module
    del registry.MAPPINGS["toy"], sys.modules["toy_mapping"]


@pytest.fixture(scope="module")
def signoff(toy, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    result = CliRunner().invoke(cli, ["run", str(EXAMPLES / "toy.toml"), "--runs", str(runs), "--json"])
    assert result.exit_code in (0, 1, 4), result.output
    return next(runs.glob("verify/*/report.json")).parent


@pytest.fixture(scope="module")
def report(signoff):
    return json.loads((signoff / "report.json").read_text())


def test_the_whole_pipeline_judges_every_check_of_the_limits(report):
    require_report(report)
    status = {check["id"]: check["status"] for check in report["checks"]}
    assert "not_measured" not in status.values()
    decided = {name: value for name, value in status.items() if value in {"fail", "inconclusive"}}
    assert decided.keys() <= {"net.acc_drop", "net.class_agreement", "net.accuracy"}, report["checks"]


def test_an_exact_proxy_equals_its_circuit(report):
    value = {check["id"]: check["value"] for check in report["checks"]}
    assert value["net.fixed_point_max"] < 1e-3  # %FS: ngspice's own tolerance
    assert value["net.settle_err"] < 1.0
    assert value["net.noise_ratio"] == pytest.approx(1.0, abs=0.01)
    assert value["net.accuracy"] > 80


def test_any_sample_replays_to_its_recorded_digits(signoff):
    result = CliRunner().invoke(cli, ["replay", str(signoff), "--random", "12", "--json"])
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["rows"]
    assert {row["same"] for row in rows} == {True}
    assert len({row["die"] for row in rows}) > 1  # the nominal circuit and dies


def test_a_column_current_has_the_sign_of_its_weight(toy):
    g = np.full((2, 3, 1), 1e-6)
    g[0, 0, 0], g[1, 1, 0] = 5e-6, 3e-6  # x: +4 uS, bias: -2 uS, state: 0
    lines = toy.network_lines(toy.ToySettings(transresistance_ohm=1e4, r_ohm=1.0, c_f=1e-12), g)
    resistors = {line.split()[0]: line.split()[1:] for line in lines if line.startswith("Rg")}
    assert resistors["Rg0_0_0"] == ["x0p", "s0", repr(1 / 5e-6)]
    assert resistors["Rg1_1_0"] == ["bn", "s0", repr(1 / 3e-6)]


def test_a_wrong_key_of_the_family_is_one_error(toy, tmp_path):
    text = (EXAMPLES / "toy.toml").read_text().replace("r_ohm = 100e3", "r_ohm = -1")
    design = tmp_path / "toy.toml"
    design.write_text(text)
    result = CliRunner().invoke(cli, ["run", str(design), "--runs", str(tmp_path / "runs")])
    assert result.exit_code == 2
    assert f"{design}: family.r_ohm: Input should be greater than 0" in result.output
    assert not (tmp_path / "runs").exists()


def test_an_unknown_mapping_names_the_known_ones(tmp_path):
    design = tmp_path / "other.toml"
    design.write_text((EXAMPLES / "toy.toml").read_text().replace('mapping = "toy"', 'mapping = "nonesuch"'))
    result = CliRunner().invoke(cli, ["run", str(design), "--runs", str(tmp_path / "runs")])
    assert result.exit_code == 2
    assert "no such mapping; known: opamp_integrator" in result.output
