"""With no ngspice: fit and train work on the shipped reference tables; what simulates says how to install it.

These tests need no ngspice, so they carry no mark and run everywhere.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from harness import run_cli, snapshot, write_design

from analog_deq.resources import shipped
from analog_deq.train.checkpoint import read_checkpoint

ABSENT = {"ANALOG_DEQ_NGSPICE": "/no/such/ngspice"}
INSTALL = "sudo apt-get install ngspice"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with proxy.json of the reference tables and a network of the digits hardware, briefly trained."""
    folder = tmp_path_factory.mktemp("trained")
    text = (shipped("data/designs") / "digits.toml").read_text()
    text, count = re.subn(r"(?m)^steps = \d+$", "steps = 20", text)
    assert count == 1
    (folder / "short.toml").write_text(text)
    for arguments in (
        ("fit", "--design", "digits", "--out", "proxy.json"),
        ("train", "short.toml", "--proxy", "proxy.json", "--no-baselines", "--out", "net.safetensors"),
    ):
        done = run_cli(*arguments, cwd=folder, **ABSENT)
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr
    return folder


def test_fit_and_train_work_on_the_reference_tables(trained: Path) -> None:
    net = read_checkpoint(trained / "net.safetensors")
    assert net.g_pos.shape == (64 + 1 + 32, 32)
    assert 0 < net.certificate.gamma < 1
    assert net.scores["proxy training (ours)"].value > 0.25  # twenty steps are few, but chance is a tenth


@pytest.mark.parametrize(
    "arguments",
    [
        ("calibrate", "digits"),
        ("run", "digits"),
        ("verify", "net.safetensors", "--design", "short.toml", "--proxy", "proxy.json"),
    ],
    ids=lambda a: a[0],
)
def test_simulating_commands_say_how_to_install_it(trained: Path, arguments: tuple[str, ...]) -> None:
    before = snapshot(trained)
    done = run_cli(*arguments, cwd=trained, **ABSENT)
    assert done.returncode == 3
    assert INSTALL in done.stderr
    assert "'/no/such/ngspice' is not an executable" in done.stderr
    assert snapshot(trained) == before


def test_an_empty_path_is_no_ngspice_either(tmp_path: Path) -> None:
    write_design(tmp_path)
    before = snapshot(tmp_path)
    done = run_cli("calibrate", "tiny.toml", "--json", cwd=tmp_path, PATH="", ANALOG_DEQ_NGSPICE="")
    assert done.returncode == 3
    assert INSTALL in done.stderr
    assert '"type": "SimulatorNotFoundError"' in done.stdout
    assert snapshot(tmp_path) == before
