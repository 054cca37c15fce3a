"""Bad input, whatever it is: exit 2, one message that names file, place, value and mend, and nothing written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from harness import DESIGN, PLAN, run_cli, snapshot
from safetensors import safe_open
from safetensors.numpy import save_file

from analog_deq.resources import shipped

pytestmark = [pytest.mark.pipeline, pytest.mark.spice]

RUN = ("run", "tiny.toml")
TRAIN = ("train", "tiny.toml", "--proxy", "proxy.json")
VERIFY = ("verify", "net.safetensors", "--design", "tiny.toml", "--proxy", "proxy.json")
FIT = ("fit", "tables", "--design", "tiny.toml", "--out", "new.json")
OWN = (*RUN, "--cell", "opamp=own.toml")
Make = Callable[[Path], None]


def nothing(folder: Path) -> None:
    pass


def design(old: str, new: str, file: str = "tiny.toml") -> Make:
    """The design (or another text file) with one place changed."""

    def make(folder: Path) -> None:
        text = (folder / file).read_text()
        assert text.count(old) >= 1
        (folder / file).write_text(text.replace(old, new, 1))

    return make


def content(file: str, data: bytes | str) -> Make:
    return lambda folder: (folder / file).write_bytes(data.encode() if isinstance(data, str) else data) and None


def own_cell(old: str, new: str, file: str = "own.toml") -> Make:
    """A copy of the shipped macro op-amp beside the design, with one place changed."""

    def make(folder: Path) -> None:
        cells = shipped("netlists/cells")
        (folder / "opamp_macro.cir").write_text((cells / "opamp_macro.cir").read_text())
        (folder / "own.toml").write_text((cells / "opamp_macro.toml").read_text())
        design(old, new, file)(folder)

    return make


def netlist(line: str) -> Make:
    """The copied op-amp with one more line in its subcircuit."""
    return own_cell(".ends", f"{line}\n.ends", "opamp_macro.cir")


def limits(old: str, new: str) -> Make:
    def make(folder: Path) -> None:
        (folder / "limits.toml").write_text((shipped("data/limits") / "default.toml").read_text())
        design(old, new, "limits.toml")(folder)

    return make


def cut(file: str, keep: int) -> Make:
    return lambda folder: (folder / file).write_bytes((folder / file).read_bytes()[:keep]) and None


def conductance(value: float) -> Make:
    """One programmed conductance of the checkpoint replaced."""

    def make(folder: Path) -> None:
        path = folder / "net.safetensors"
        with safe_open(path, framework="numpy") as file:
            metadata, tensors = file.metadata(), {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
        tensors["g_neg"][3, 2] = value
        save_file(tensors, path, metadata=metadata)

    return make


def edited_proxy(folder: Path) -> None:
    """A proxy that says something else, of the same hardware: another file than the checkpoint's."""
    proxy = json.loads((folder / "proxy.json").read_text())
    proxy["integrator"]["values"]["s0_v"] += 1e-6
    (folder / "proxy.json").write_text(json.dumps(proxy))


def without_table(folder: Path) -> None:
    (folder / "tables" / "noise.parquet").unlink()


def folder_for_design(folder: Path) -> None:
    (folder / "tiny.toml").unlink()
    (folder / "tiny.toml").mkdir()


def case(name: str, make: Make, arguments: tuple[str, ...], *words: str):
    return pytest.param(make, arguments, words, id=name)


CASES = [
    # the design
    case("wrong key", design("seed =", "sed ="), RUN, "tiny.toml: sed: unknown key", "known here", "seed"),
    case("negative resistance", design("10e3", "-10e3"), RUN, "tiny.toml", "r_feedback_ohm = -10000.0", "greater"),
    case("NaN conductance", design("100e-6", "nan"), RUN, "tiny.toml", "g_max_siemens = nan", "finite"),
    case("a word for a number", design("= 8", '= "many"'), RUN, "tiny.toml", "sizes.states = 'many'", "integer"),
    case("no sizes", design("states = 8\n", ""), RUN, "tiny.toml: sizes.states: missing; add it"),
    case("binary file", content("tiny.toml", b"\x93\xff\x00" * 50), RUN, "tiny.toml", "UTF-8"),
    case("malformed TOML", design("seed = 7", "seed = = 7"), RUN, "tiny.toml", "line 5", "mend that line"),
    case("a folder", folder_for_design, RUN, "tiny.toml", "is a folder"),
    case("no such design", nothing, ("run", "nope.toml"), "nope.toml: no such file", "digits"),
    case("other task sizes", design("= 64", "= 63"), RUN, "tiny.toml", "sizes.inputs = 63", "64 inputs"),
    case("too few images", design("images_per_die = 10", "images_per_die = 99"), RUN, "tiny.toml", "99", "72 test"),
    case("no test images", design("= 0.04", "= 0.0001"), RUN, "tiny.toml", "images_per_die", "only 0 test images"),
    case("no such plan", design("plan.toml", "plann.toml"), RUN, "plann.toml: no such file"),
    # the plan
    case("plan without design", nothing, ("calibrate", "plan.toml"), "plan.toml: design: missing; name the design"),
    case("wrong key in plan", design("dies = 24", "die = 24", "plan.toml"), RUN, "plan.toml: mismatch.die: unknown"),
    case("NaN load", design("[0.1e-3", "[nan", "plan.toml"), RUN, "plan.toml: transfer.loads_siemens.0 = nan"),
    # cells
    case("unknown cell", nothing, (*RUN, "--cell", "opamp=nope"), "cells.opamp", "'nope'", "opamp_macro"),
    case("unknown role", nothing, (*RUN, "--cell", "amp=opamp_macro"), "amp", "no such role", "opamp"),
    case("wrong role", nothing, (*RUN, "--cell", "opamp=diffpair"), "cells.opamp = 'diffpair'", "role is 'activation'"),
    case("unknown cell in design", design("[sizes]", '[cells]\nopamp = "x"\n[sizes]'), RUN, "tiny.toml: cells.opamp"),
    case("no such contract", nothing, OWN, "own.toml: no such file"),
    case("missing pin", own_cell('in_n = "inn"\n', ""), OWN, "own.toml", "role opamp needs the pin 'in_n'", "add"),
    case("pin not in netlist", own_cell('= "inn"', '= "minus"'), OWN, "own.toml", "minus", "in_n"),
    case("netlist gone", own_cell('"opamp_macro.cir"', '"gone.cir"'), OWN, "gone.cir", "own.toml"),
    case("negative resistor", netlist("Rx out 0 -50"), OWN, "opamp_macro.cir:", "'Rx out 0 -50'", "positive"),
    case("NaN in a netlist", netlist("Rx out 0 nan"), OWN, "opamp_macro.cir:", "nan"),
    case("control block", netlist(".control\nshell touch X\n.endc"), OWN, "opamp_macro.cir:", "'.control'"),
    case("command comment", netlist("*#shell touch X"), OWN, "opamp_macro.cir:", "*#shell touch X", "remove it"),
    # tables and proxies
    case("cut table", cut("tables/noise.parquet", 300), FIT, "noise.parquet", "not a readable Parquet file"),
    case("no table", without_table, FIT, "noise.parquet: no such table", "analog-deq calibrate"),
    case("tables of other hardware", design("10e3", "11e3"), FIT, "transfer.parquet", "other hardware", "calibrate"),
    case("no reference tables", nothing, ("fit", "--design", "tiny.toml"), "'tiny'", "analog-deq calibrate"),
    case("proxy of other hardware", design("10e3", "11e3"), VERIFY, "proxy.json", "other hardware", "calibrate"),
    case("other cell than measured", nothing, (*VERIFY, "--cell", "opamp=opamp_2stage"), "other hardware"),
    case("cut proxy", cut("proxy.json", 500), TRAIN, "proxy.json: not readable"),
    # checkpoints
    case("cut checkpoint", cut("net.safetensors", 500), VERIFY, "net.safetensors", "not a readable safetensors file"),
    case("NaN in a checkpoint", conductance(np.nan), VERIFY, "net.safetensors: g_neg", "not finite and positive"),
    case("negative in a checkpoint", conductance(-1e-6), VERIFY, "net.safetensors: g_neg", "not finite and positive"),
    case("checkpoint of another proxy", edited_proxy, VERIFY, "net.safetensors", "another proxy", "train again"),
    case("checkpoint of another split", design("seed = 7", "seed = 8"), VERIFY, "net.safetensors", "another design"),
    case("checkpoint of other sizes", design("states = 8", "states = 9"), VERIFY, "net.safetensors", "another design"),
    # limits and options
    case("wrong key in limits", limits("max = 0.2", "most = 0.2"), (*VERIFY, "--limits", "limits.toml"),
         "limits.toml: check.0.most: unknown key", "known here: id, quantity"),
    case("wrong key in limits of a run", limits("max = 0.2", "most = 0.2"), (*RUN, "--limits", "limits.toml"), "most"),
    case("no such limits", nothing, (*RUN, "--limits", "strict"), "strict: no such file", "default"),
    case("negative die", nothing, ("netlist", "network", "--design", "tiny.toml", "--checkpoint", "net.safetensors",
         "--proxy", "proxy.json", "--die", "-1", "--out", "new/net.cir"), "--die", "-1"),
    case("no such image", nothing, ("netlist", "network", "--design", "tiny.toml", "--checkpoint", "net.safetensors",
         "--proxy", "proxy.json", "--image", "72", "--out", "new/net.cir"), "--image 72", "0 to 71"),
    case("no checkpoint", nothing, ("netlist", "network", "--design", "tiny.toml", "--out", "n.cir"), "--checkpoint"),
    case("no role", nothing, ("netlist", "cell", "--design", "tiny.toml", "--out", "n.cir"), "--cell", "opamp"),
    case("no dies", nothing, (*RUN, "--dies", "0"), "--dies", "0"),
    case("no time", nothing, ("calibrate", "tiny.toml", "--timeout", "nan"), "--timeout", "nan"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "arguments", "words"), CASES)
def test_bad_input_is_refused(
    work: Path, invoke, make: Make, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    make(work)
    before = snapshot(work)
    done = invoke(*arguments, cwd=work)
    assert done.exit_code == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("Error: ") == 1
    assert "Traceback" not in done.stderr
    missing = [word for word in words if word not in done.stderr]
    assert not missing, done.stderr
    assert snapshot(work) == before, "something was written (the file X would be a shell command's)"


def test_every_wrong_key_is_named_at_once(work: Path, invoke) -> None:
    (work / "tiny.toml").write_text(DESIGN.replace("seed", "sed").replace("dac", "dca").replace("levels", "level"))
    done = invoke(*RUN, cwd=work)
    assert done.exit_code == 2
    assert {"sed", "crossbar.level"} <= {line.split(": ")[-3].strip() for line in done.stderr.splitlines()}


def test_the_same_from_a_process_of_its_own(work: Path) -> None:
    (work / "plan.toml").write_text(PLAN.replace("window_s = 3e-6", "window_s = -3e-6"))
    before = snapshot(work)
    done = run_cli("run", "tiny.toml", "--json", cwd=work)
    assert done.returncode == 2
    assert "plan.toml: settling.window_s = -3e-06" in done.stderr
    error = json.loads(done.stdout)["error"]
    assert error["type"] == "SpecError"
    assert error["message"] in done.stderr
    assert snapshot(work) == before


def test_a_bad_design_leaves_a_finished_run_as_it_is(tiny, tmp_path: Path, invoke) -> None:
    shutil.copytree(tiny.folder, tmp_path / "copy")
    design("seed = 7", "seed = -7")(tmp_path / "copy")
    before = snapshot(tmp_path / "copy")
    assert invoke(*RUN, cwd=tmp_path / "copy").exit_code == 2
    assert snapshot(tmp_path / "copy") == before
