"""``train --forward spice``: what it writes, that it resumes to the same bits, and that no failure goes missing."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from harness import snapshot

from analog_deq.pipeline.inputs import load_inputs, matching_checkpoint
from analog_deq.resources import shipped
from analog_deq.statistics import wilson
from analog_deq.train.checkpoint import Checkpoint, read_checkpoint

pytestmark = [pytest.mark.pipeline, pytest.mark.spice]

IMAGES, STEPS = 72, 4
TRAIN = ("train", "tiny.toml", "--proxy", "proxy.json")
TUNE = (*TRAIN, "--forward", "spice", "--from", "net.safetensors", "--batch", "16")
FOUR = (*TUNE, "--steps", str(STEPS), "--jobs", "2", "--out", "tuned.safetensors")
BEFORE, AFTER = "before fine-tuning, in ngspice", "after fine-tuning on measured states, in ngspice"
KEYS = {
    "loss", "steps", "time_per_step_s", "decks", "decks_from_earlier_runs", "failed_samples", "distance to the proxy",
    "refit", "certificate", f"test accuracy, {BEFORE}", f"test accuracy, {AFTER}",
}  # fmt: skip


def stage_of(stdout: str) -> dict[str, Any]:
    (stage,) = json.loads(stdout)["stages"]
    return stage


def same_network(a: Checkpoint, b: Checkpoint) -> bool:
    return all(
        np.array_equal(getattr(a, n), getattr(b, n)) for n in ("g_pos", "g_neg", "readout_weight", "readout_bias")
    )


def weak_opamp(folder: Path) -> None:
    """A copy of the macro op-amp with an open-loop gain of 30."""
    for suffix in ("toml", "cir"):
        text = (shipped("netlists/cells") / f"opamp_macro.{suffix}").read_text()
        old, new = ("default = 1e4", "default = 30.0") if suffix == "toml" else ("a0=1e4", "a0=30.0")
        assert text.count(old) == 1
        (folder / f"weak.{suffix}").write_text(text.replace(old, new).replace("opamp_macro.cir", "weak.cir"))


def test_it_writes_a_network_and_its_log(work: Path, invoke) -> None:
    done = invoke(*FOUR, "--json", cwd=work)
    assert done.exit_code == 0, done.stderr
    stage = stage_of(done.stdout)
    assert (stage["stage"], stage["reused"]) == ("train", False)
    assert set(stage["summary"]) == KEYS
    assert stage["outputs"] == {"checkpoint": "tuned.safetensors", "log": "tuned.finetune.csv"}
    start, tuned = read_checkpoint(work / "net.safetensors"), read_checkpoint(work / "tuned.safetensors")
    assert not same_network(start, tuned)
    assert set(tuned.scores) == {*start.scores, BEFORE, AFTER}
    for name in (BEFORE, AFTER):
        score = tuned.scores[name]
        assert (score.n, (score.low, score.high)) == (IMAGES, wilson(score.correct, IMAGES))
        assert f"({score.correct} of {IMAGES};" in stage["summary"][f"test accuracy, {name}"]
    assert (tuned.provenance["forward"], tuned.provenance["steps"]) == ("spice", STEPS)
    assert tuned.certificate.weight_class == "A"
    inputs = load_inputs(work / "tiny.toml", {})
    matching_checkpoint(work / "tuned.safetensors", inputs, work / "proxy.json")  # verify will take it

    log = pd.read_csv(work / "tuned.finetune.csv")
    assert log["step"].tolist() == list(range(STEPS))
    assert (log["failed"] == 0).all()
    assert (log["rms_percent_fs"] < 0.01).all()  # the proxy was fitted to this very circuit
    assert (log["sigma_percent_fs"] > 0.1).all()
    assert not log["refit"].any()
    assert stage["summary"]["refit"].startswith("not asked")
    runs = work / "runs"
    assert sorted(path.name for path in runs.iterdir()) == ["finetune", "states"]  # decks of good runs are not kept
    assert len(list((runs / "finetune").iterdir())) == 1
    assert sum(path.stat().st_size for path in runs.rglob("*") if path.is_file()) < 1e6


def test_the_accuracy_is_that_of_verification(work: Path, tiny, invoke) -> None:
    """One step that changes nothing: before and after are what verify measured on the same network."""
    arguments = (*TUNE, "--steps", "1", "--learning-rate", "1e-12", "--out", "same.safetensors")
    assert invoke(*arguments, cwd=work).exit_code == 0
    scores = read_checkpoint(work / "same.safetensors").scores
    samples = pd.read_csv(tiny.signoff / "samples.csv").query("die == -1")
    correct = int((samples["predicted"] == samples["label"]).sum())
    assert scores[BEFORE].correct == scores[AFTER].correct == correct


def test_what_was_measured_is_not_measured_again(work: Path, invoke) -> None:
    first = stage_of(invoke(*FOUR, "--json", cwd=work).stdout)
    assert first["summary"]["decks_from_earlier_runs"] == 0
    kept = read_checkpoint(work / "tuned.safetensors")
    before = snapshot(work / "runs")
    again = stage_of(invoke(*FOUR, "--json", cwd=work).stdout)
    assert again["reused"]
    assert snapshot(work / "runs") == before
    shutil.rmtree(work / "runs" / "finetune")
    third = stage_of(invoke(*FOUR, "--json", cwd=work).stdout)
    assert not third["reused"]
    assert third["summary"]["decks_from_earlier_runs"] == third["summary"]["decks"] == STEPS
    assert same_network(read_checkpoint(work / "tuned.safetensors"), kept)


def test_an_interrupted_run_goes_on_to_the_same_bits(work: Path, invoke, fake_ngspice) -> None:
    assert invoke(*FOUR, cwd=work).exit_code == 0
    whole = read_checkpoint(work / "tuned.safetensors")
    log = pd.read_csv(work / "tuned.finetune.csv").drop(columns=["seconds", "reused"])
    shutil.rmtree(work / "runs")
    (work / "tuned.safetensors").unlink()
    fake_ngspice("sleep 0.2")

    with (work / "stderr").open("w") as stderr:
        child = subprocess.Popen(
            [sys.executable, "-m", "analog_deq.cli", *FOUR],
            cwd=work, stdout=subprocess.DEVNULL, stderr=stderr,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
        try:
            end = time.monotonic() + 100
            while not list((work / "runs").glob("finetune/*.partial/state.safetensors")):
                assert child.poll() is None, (work / "stderr").read_text()
                assert time.monotonic() < end
                time.sleep(0.01)
            child.send_signal(signal.SIGINT)
            assert child.wait(timeout=30) == 130
        finally:
            child.kill()
            child.wait()
    assert "run the same command again" in (work / "stderr").read_text()
    assert not (work / "tuned.safetensors").exists()
    assert not list((work / "runs").rglob(".*"))

    done = invoke(*FOUR, cwd=work)
    assert done.exit_code == 0, done.stderr
    assert re.search(r"resumed after [123] steps", done.stderr), done.stderr
    assert same_network(read_checkpoint(work / "tuned.safetensors"), whole)
    again = pd.read_csv(work / "tuned.finetune.csv").drop(columns=["seconds", "reused"])
    assert again.equals(log)
    assert not list((work / "runs" / "finetune").glob("*.partial"))


def test_a_die_is_trimmed_and_named(work: Path, invoke) -> None:
    done = invoke(*TUNE, "--steps", "2", "--die", "1", "--out", "die.safetensors", "--json", cwd=work)
    assert done.exit_code == 0, done.stderr
    assert "die 1: trimmed on 10 training images, 0 currents clipped" in done.stderr
    net = read_checkpoint(work / "die.safetensors")
    assert "after fine-tuning on measured states, in ngspice, die 1" in net.scores
    assert net.provenance["die"] == 1
    assert np.abs(net.provenance["trim_a"]).max() > 1e-8
    log = pd.read_csv(work / "die.finetune.csv")
    assert (log["rms_percent_fs"] > 0.1).all()  # a die is not the nominal circuit
    assert (log["limit_percent_fs"] > log["sigma_percent_fs"]).all()


def test_other_hardware_is_refused_unless_its_proxy_is_named(work: Path, invoke) -> None:
    weak_opamp(work)
    other = (*TUNE, "--steps", "2", "--cell", "opamp=weak.toml", "--out", "weak.safetensors")
    before = snapshot(work)
    done = invoke(*other, cwd=work)
    assert done.exit_code == 2
    assert "other hardware" in done.stderr
    assert "--proxy-of" in done.stderr
    assert snapshot(work) == before
    done = invoke(*other, "--proxy-of", "tiny.toml", "--json", cwd=work)
    assert done.exit_code == 0, done.stderr
    assert "refit asked at step 0" in done.stderr
    assert stage_of(done.stdout)["summary"]["refit"].startswith("asked at 2 of 2 steps")
    net = read_checkpoint(work / "weak.safetensors")
    inputs = load_inputs(work / "tiny.toml", {})
    assert net.provenance["proxy_of"] == inputs.hardware_sha256()
    assert net.provenance["refit_asked"] == 2
    weak = load_inputs(work / "tiny.toml", {"opamp": str(work / "weak.toml")})
    matching_checkpoint(work / "weak.safetensors", weak)
    (work / "refitted.json").write_text((work / "proxy.json").read_text() + "\n")
    matching_checkpoint(work / "weak.safetensors", weak, work / "refitted.json")  # what refit asks for may be used


WRONG = {
    "no start": ((*TRAIN, "--forward", "spice"), "--from net.safetensors"),
    "no spice": ((*TRAIN, "--steps", "3"), "--steps belongs to --forward spice"),
    "no spice, a die": ((*TRAIN, "--die", "3"), "--die belongs to --forward spice"),
    "no steps": ((*TUNE, "--steps", "0"), "--steps"),
    "no rate": ((*TUNE, "--learning-rate", "0"), "--learning-rate"),
    "no such start": ((*TRAIN, "--forward", "spice", "--from", "new.safetensors"), "new.safetensors"),
    "not a network": ((*TRAIN, "--forward", "spice", "--from", "proxy.json"), "not a readable safetensors file"),
    "baselines": ((*TUNE, "--baselines"), "--baselines belongs to --forward proxy"),
    "another split": ((*TUNE, "--proxy-of", "other.toml"), "seed differs"),
}


@pytest.mark.parametrize(("arguments", "words"), WRONG.values(), ids=WRONG)
def test_wrong_use_is_one_message_and_writes_nothing(work: Path, invoke, arguments, words) -> None:
    (work / "other.toml").write_text((work / "tiny.toml").read_text().replace("seed = 7", "seed = 8"))
    before = snapshot(work)
    done = invoke(*arguments, cwd=work)
    assert done.exit_code == 2, done.stderr
    assert done.stderr.count("Error: ") == 1
    assert words in done.stderr
    assert snapshot(work) == before


def test_without_ngspice_it_says_so_and_writes_nothing(work: Path, invoke, monkeypatch) -> None:
    monkeypatch.setenv("ANALOG_DEQ_NGSPICE", "/no/such/ngspice")
    before = snapshot(work)
    done = invoke(*TUNE, cwd=work)
    assert done.exit_code == 3
    assert "sudo apt-get install ngspice" in done.stderr
    assert snapshot(work) == before


def test_samples_that_fail_are_counted_and_a_step_of_them_is_an_error(work: Path, invoke, fake_ngspice) -> None:
    """Sweeps fail, so that every image is simulated alone and then walked to; about a quarter of those fail too."""
    fake_ngspice("grep -q 'Vk kk' deck.cir && exit 1; [ $(( $(cksum < deck.cir | cut -d' ' -f1) % 4 )) = 0 ] && exit 1")
    done = invoke(*TUNE, "--steps", "1", "--out", "tuned.safetensors", cwd=work)
    assert done.exit_code == 0, done.stderr
    log = pd.read_csv(work / "tuned.finetune.csv")
    assert 0 < log["failed"][0] < 16
    assert np.isfinite(log["loss"]).all()
    assert re.search(rf"\d+ of {IMAGES} test samples could not be simulated; the first: ", done.stderr)
    shutil.rmtree(work / "runs")
    fake_ngspice("exit 1")
    done = invoke(*FOUR, cwd=work)
    assert done.exit_code == 3
    assert f"none of {IMAGES} test samples was simulated" in done.stderr
