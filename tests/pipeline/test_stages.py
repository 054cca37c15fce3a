"""The four stages from the command line: what they write, what they reuse, and that no failure goes missing."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from harness import EXIT_CODES, PLAN, STAGES, Finished, Invoke, checks_of, report_of, snapshot

from analog_deq.pipeline.inputs import load_inputs, matching_checkpoint, matching_proxy
from analog_deq.verify.attach import MOST_ROWS
from analog_deq.verify.replay import Replay

pytestmark = [pytest.mark.pipeline, pytest.mark.spice]

IMAGES, DIES, IMAGES_PER_DIE = 72, 3, 10
CHECK_KEYS = {
    "id", "quantity", "value", "unit", "limit", "margin", "n", "failed_samples", "interval", "status", "severity",
    "judge", "detail", "waived", "worst", "replay", "by_corner", "worst_corner", "lapsed", "confidence",
}  # fmt: skip
VERIFY = ("verify", "net.safetensors", "--design", "tiny.toml", "--proxy", "proxy.json", "--out", "signoff")


def samples_of(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "samples.csv")


def test_the_exit_code_is_the_verdict(tiny: Finished) -> None:
    verdict = report_of(tiny.folder)["verdict"]
    assert tiny.returncode == EXIT_CODES[verdict] == tiny.result["exit_code"]
    assert verdict == tiny.result["verdict"] == "inconclusive"  # 72 images and 3 dies are too few for the claims
    assert "Warning" not in tiny.stderr


def test_every_limit_that_few_samples_can_prove_is_met(tiny: Finished) -> None:
    unproven = {key: check["status"] for key, check in checks_of(tiny.folder).items() if check["severity"] == "error"}
    assert {key for key, status in unproven.items() if status != "pass"} == {
        "net.class_agreement", "net.acc_drop", "net.yield_mismatch",
    }  # fmt: skip
    assert "fail" not in unproven.values()


def test_a_run_leaves_the_report_in_every_form(tiny: Finished) -> None:
    names = {path.name for path in tiny.signoff.iterdir()}
    assert {"report.html", "report.json", "junit.xml", "samples.csv", "failures.csv", "signoff.md", "decks"} <= names
    assert {"provenance.json", "waves"} <= names
    provenance = json.loads((tiny.signoff / "provenance.json").read_text())
    assert provenance["verdict"] == report_of(tiny.folder)["verdict"]
    assert "reltol=1e-06" in provenance["options"]["equilibrium"]
    assert "xmu=0.48" in provenance["options"]["transient"]
    assert "corners" in provenance["campaign"]
    assert "<html" in (tiny.signoff / "report.html").read_text()[:500]
    report = report_of(tiny.folder)
    assert set(report) == {
        "schema", "verdict", "title", "design", "summary", "checks", "sections", "tables", "provenance",
    }  # fmt: skip
    assert all(set(check) == CHECK_KEYS for check in report["checks"])
    suite = ElementTree.parse(tiny.signoff / "junit.xml").getroot()
    assert len(suite.findall("testcase")) == len(report["checks"]) == int(suite.get("tests", ""))
    for check in report["checks"]:
        if check["worst"] is not None and check["worst"]["deck"]:
            assert (tiny.signoff / check["worst"]["deck"]).is_file(), check["id"]


def test_every_failing_row_has_its_replay_line_and_a_deck_that_gives_its_answer(tiny: Finished) -> None:
    failures = pd.read_csv(tiny.signoff / "failures.csv", keep_default_na=False)
    samples = samples_of(tiny.signoff)
    assert len(failures) > 3
    assert set(failures["trim"]) == {"none", "trimmed"}
    for k, row in failures.iterrows():
        number = int(row["replay"].removeprefix("analog-deq replay . --row "))
        assert samples.loc[number, ["die", "trim", "image"]].tolist() == row[["die", "trim", "image"]].tolist()
        if int(str(k)) < MOST_ROWS:
            record = json.loads((tiny.signoff / row["deck"]).with_name("replay.json").read_text())
            assert float(record["values"]["predicted"]) == row["predicted"]
            alone = float(record["values"]["rms_error_percent_fs"])
            assert alone == pytest.approx(row["rms_error_percent_fs"], abs=1e-3)  # solved from another start
        else:
            assert row["deck"] == ""


def test_json_output_is_one_object_that_names_what_was_written(tiny: Finished) -> None:
    result = tiny.result  # json.loads refuses anything before or after the object
    assert set(result) == {"schema", "command", "exit_code", "verdict", "stages"}
    assert [stage["stage"] for stage in result["stages"]] == list(STAGES)
    assert not any(stage["reused"] for stage in result["stages"])
    assert all((tiny.folder / path).exists() for stage in result["stages"] for path in stage["outputs"].values())
    assert result["stages"][-1]["checks"] == report_of(tiny.folder)["checks"]


def test_each_simulated_equilibrium_is_one_row(tiny: Finished) -> None:
    samples = samples_of(tiny.signoff)
    assert len(samples) == IMAGES + 2 * DIES * IMAGES_PER_DIE
    assert not samples.duplicated(["die", "trim", "image"]).any()
    nominal = samples[samples["die"] == -1]
    assert sorted(nominal["image"]) == list(range(IMAGES))
    checks = checks_of(tiny.folder)
    correct = int((nominal["predicted"] == nominal["label"]).sum())
    assert checks["net.accuracy"]["value"] == pytest.approx(100 * correct / IMAGES)
    rms = math.sqrt((nominal["rms_error_percent_fs"] ** 2).mean())
    assert checks["net.fixed_point_err"]["value"] == pytest.approx(rms, rel=1e-6)
    failures = samples_of(tiny.signoff.parent / tiny.signoff.name).query("predicted != label or status != 'ok'")
    assert len(pd.read_csv(tiny.signoff / "failures.csv")) == len(failures)


def test_the_same_run_again_is_reused_and_writes_nothing(tiny: Finished, tmp_path: Path, cli) -> None:
    again = tmp_path / "again"
    shutil.copytree(tiny.folder, again)
    before = snapshot(again)
    done = cli("run", "tiny.toml", cwd=again)
    assert done.returncode == tiny.returncode, done.stderr
    assert snapshot(again) == before
    for stage in STAGES:
        assert f"== {stage}: reused from " in done.stderr
        assert f"{stage}  reused, finished earlier" in done.stdout


def test_the_stages_alone_on_files_give_the_same_sign_off(simulated: Path, tiny: Finished, invoke) -> None:
    for given in ("proxy.json", "net.safetensors", "tables"):
        (simulated / given).rename(simulated / f"given-{given}")
    for arguments in (
        ("calibrate", "tiny.toml", "--out", "tables"),
        ("fit", "tables", "--design", "tiny.toml", "--out", "proxy.json"),
        ("train", "tiny.toml", "--proxy", "proxy.json", "--out", "net.safetensors"),
        VERIFY,
    ):
        done = invoke(*arguments, cwd=simulated)
        assert done.exit_code == (tiny.returncode if arguments is VERIFY else 0), done.stderr
        assert "reused from" not in done.stderr
    assert checks_of(simulated / "signoff") == checks_of(tiny.folder)
    assert samples_of(simulated / "signoff").equals(samples_of(tiny.signoff))
    assert (simulated / "signoff" / "decks").is_dir()


def test_a_fit_that_misses_its_tolerance_stops_and_says_by_how_much(work: Path, invoke) -> None:
    (work / "plan.toml").write_text(f"{PLAN}\n[tolerances]\ntau = 1e-6\n")
    before = snapshot(work)
    done = invoke("fit", "tables", "--design", "tiny.toml", "--out", "new.json", cwd=work)
    assert done.exit_code == 2
    found = re.search(r"tau: held-out error (\S+) relative, max exceeds the tolerance 1e-06 by (\S+)x", done.stderr)
    assert found is not None, done.stderr
    assert float(found[2]) == pytest.approx(float(found[1]) / 1e-6, rel=1e-2)
    assert {name for name in snapshot(work) if name not in before} <= {"runs", "runs/fit"}


# ------------------------------------------------------------------ fail closed


def test_a_missed_limit_is_a_failed_row_and_exit_1(simulated: Path, tiny: Finished, invoke) -> None:
    text = (simulated / "limits.toml").read_text()
    head, tail = text.split('id = "net.residual"')
    (simulated / "strict.toml").write_text(head + 'id = "net.residual"' + tail.replace("max = 0.01", "max = 1e-9", 1))
    done = invoke(*VERIFY, "--limits", "strict.toml", cwd=simulated)
    assert done.exit_code == 1, done.stderr
    strict, loose = checks_of(simulated / "signoff"), checks_of(tiny.folder)
    assert strict["net.residual"]["status"] == "fail"
    changed = {key for key in strict if strict[key]["status"] != loose[key]["status"]}
    assert changed == {"net.residual"}
    assert "verdict: FAIL" in done.stdout


def test_too_few_dies_for_the_claim_are_inconclusive_and_exit_4(simulated: Path, invoke) -> None:
    (simulated / "yield.toml").write_text(
        'schema = 1\n[[check]]\nid = "net.yield_mismatch"\nquantity = "yield"\nunit = "%"\nmin = 90\njudge = "yield"\n'
    )
    done = invoke(*VERIFY, "--limits", "yield.toml", cwd=simulated)
    assert done.exit_code == 4, done.stderr
    row = checks_of(simulated / "signoff")["net.yield_mismatch"]
    assert (row["value"], row["n"], row["status"]) == (100.0, DIES, "inconclusive")
    assert row["interval"][0] == pytest.approx(100 * 0.05 ** (1 / 3), rel=1e-6)  # Clopper-Pearson, none of 3 failing
    assert "29 in all are needed" in row["detail"]


def test_an_image_that_cannot_be_simulated_is_a_failed_sample(work: Path, tiny: Finished, invoke, fake_ngspice) -> None:
    inputs = load_inputs(work / "tiny.toml", {})
    proxy, net = matching_proxy(work / "proxy.json", inputs), matching_checkpoint(work / "net.safetensors", inputs)
    image = 5
    replay = Replay(inputs.design, proxy, net, inputs.cells, inputs.task(), False, False)
    (line,) = [x for x in replay.deck("equilibrium", image).text.splitlines() if x.startswith("Ij0 ")]
    # the current into the first summing node tells this image from all others, in whatever sweep it is; not its last
    # digits, which change with the number of images that were reduced together
    current = line.split()[-1][:13]
    fake_ngspice(f"grep -q -F -e '{current}' deck.cir && echo 'Error: made to fail' && exit 1")
    done = invoke(*VERIFY, cwd=work)
    assert done.exit_code == 1, done.stderr
    assert "are simulated again to isolate a failing image" in done.stderr
    samples, before = samples_of(work / "signoff"), samples_of(tiny.signoff)
    lost = samples[samples["status"] != "ok"]
    assert len(samples) == len(before)
    assert lost[["die", "image", "predicted"]].to_numpy().tolist() == [[-1, image, -1]]
    assert "made to fail" in lost["status"].iloc[0]
    assert lost["rms_error_percent_fs"].isna().all()  # never 0.0
    listed = pd.read_csv(work / "signoff" / "failures.csv")
    assert listed[listed["status"] != "ok"]["image"].tolist()[0] == image
    checks = checks_of(work / "signoff")
    assert checks["run.failed"]["value"] >= 1
    for key in ("run.failed", "net.converged", "net.fixed_point_err", "net.residual"):
        assert checks[key]["status"] == "fail", key
    assert checks["net.converged"]["value"] == pytest.approx(100 * (IMAGES - 1) / IMAGES)


@pytest.mark.parametrize(
    ("title", "rows"),
    [
        ("settling of the whole network", {"net.settle_err", "net.settle_end"}),
        ("output noise of the whole network", {"net.noise_ratio"}),
        ("transfer and frequency response of mismatched neurons", {"net.die_fixed_point_err"}),
    ],
)
def test_a_measurement_that_cannot_be_simulated_fails_its_rows(
    simulated: Path, tiny: Finished, invoke, fake_ngspice, title: str, rows: set[str]
) -> None:
    for folder in (simulated / "runs" / "spice").iterdir():
        if title in (folder / "deck.cir").read_text():
            shutil.rmtree(folder)
    fake_ngspice(f"grep -q '{title}' deck.cir && exit 1")
    done = invoke(*VERIFY, cwd=simulated)
    assert done.exit_code == 1, done.stderr
    checks, before = checks_of(simulated / "signoff"), checks_of(tiny.folder)
    assert set(checks) == set(before)
    for key in rows:
        assert (checks[key]["value"], checks[key]["status"]) == (None, "fail"), key
    unlisted = {"net.die_fixed_point_err"}  # its samples are measurements of neurons, not of images
    if not rows & unlisted:
        assert checks["run.failed"]["status"] == "fail"
        status = pd.read_csv(simulated / "signoff" / "failures.csv")["status"]
        assert status.str.contains("exit code 1|did not|simulation").any()


def test_a_verdict_over_killed_simulations_is_not_reused(
    simulated: Path, tiny: Finished, invoke, fake_ngspice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was killed says nothing of the circuit: the same command simulates again what was lost."""
    settling = "settling of the whole network"
    for folder in (simulated / "runs" / "spice").iterdir():
        if settling in (folder / "deck.cir").read_text():
            shutil.rmtree(folder)
    fake_ngspice(f"grep -q '{settling}' deck.cir && kill -9 $$")
    lost = invoke(*VERIFY, cwd=simulated)
    assert lost.exit_code == 1, lost.stderr
    assert checks_of(simulated / "signoff")["run.failed"]["status"] == "fail"
    assert "killed by SIGKILL" in (simulated / "signoff" / "failures.csv").read_text()
    monkeypatch.undo()
    again = invoke(*VERIFY, cwd=simulated)
    assert again.exit_code == tiny.returncode, again.stderr
    found, before = checks_of(simulated / "signoff"), checks_of(tiny.folder)
    assert {key: (c["value"], c["status"]) for key, c in found.items()} == {
        key: (c["value"], c["status"]) for key, c in before.items()
    }


def test_a_network_of_which_nothing_simulates_still_gets_its_verdict(
    work: Path, tiny: Finished, invoke, fake_ngspice
) -> None:
    fake_ngspice("sleep 2")
    done = invoke(*VERIFY, "--timeout", "0.02", cwd=work)
    assert done.exit_code == 1, done.stderr
    samples = samples_of(work / "signoff")
    assert len(samples) == IMAGES + 2 * DIES * IMAGES_PER_DIE
    assert set(samples["status"]) == {"timeout: killed after its limit of 0.02 s"}
    assert (samples["predicted"] == -1).all()
    assert np.isnan(samples["rms_error_percent_fs"]).all()
    checks = checks_of(work / "signoff")
    assert set(checks) == set(checks_of(tiny.folder))
    assert checks["run.failed"]["value"] >= len(samples)
    assert checks["net.yield_mismatch"]["value"] == 0
    assert not any(
        row["status"] == "pass" for key, row in checks.items() if key.startswith("net.") and key != "net.gamma"
    )
    assert json.loads((work / "signoff" / "report.json").read_text())["verdict"] == "fail"


def test_a_design_in_tiles_is_trained_and_verified_in_tiles(work: Path, invoke: Invoke) -> None:
    """Tables and proxy are those of the untiled design: what calibration measures is the same."""
    text = (work / "tiny.toml").read_text().replace("dies = 3", "dies = 1") + "\n[tiling]\nrows = 37\ncolumns = 4\n"
    (work / "tiny.toml").write_text(text)
    old = invoke(*VERIFY, cwd=work)
    assert "trained for another design" in old.output
    trained = invoke("train", "tiny.toml", "--proxy", "proxy.json", "--out", "net.safetensors", cwd=work)
    assert trained.exit_code == 0, trained.output
    done = invoke(*VERIFY, cwd=work)
    assert done.exit_code in EXIT_CODES.values(), done.output
    checks = checks_of(work / "signoff")
    for key in ("net.fixed_point_err", "net.anchor_err", "run.failed", "net.noise_ratio", "net.settle_err"):
        assert checks[key]["status"] == "pass", key
    wires = invoke(
        "netlist", "crossbar", "--design", "tiny.toml", "--checkpoint", "net.safetensors", "--out", "x.cir", cwd=work
    )
    assert wires.exit_code == 0, wires.output
    lines = (work / "x.cir").read_text().splitlines()
    assert sum(line.startswith("Rr") for line in lines) == 2 * 73 * 8
    assert "Rr0_4 r0 r0_4 2.0" in lines  # the second tile's row begins at the driver
