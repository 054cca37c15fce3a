"""What the tests of the pipeline share: a small design, how a user starts a command, and how its files are read.

8 states, 60 training steps, 72 test images, 3 dies x 10 images, and a plan with few loads, 24 dies and a small
crossbar. All tolerances are the shipped ones: the fits of the macro op-amp do not need the many points of the
shipped plan. Only the claims suffer: 72 images and 3 dies prove neither 98 % agreement nor 90 % yield, so the
verdict of this design is inconclusive, which is itself tested.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import Result

from analog_deq.resources import shipped
from analog_deq.verify.checks.trajectory import Trajectory
from analog_deq.verify.registry import CHECKS

DESIGN = """\
schema = 1
name = "tiny"
plan = "plan.toml"
limits = "limits.toml"
seed = 7

[sizes]
inputs = 64
states = 8
classes = 10

[neuron]
r_feedback_ohm = 10e3
c_feedback_f = 20e-12

[crossbar]
g_min_siemens = 1e-6
g_max_siemens = 100e-6
levels = 64
r_line_ohm = 2.0

[training]
steps = 60
batch = 32
learning_rate = 2e-2
test_fraction = 0.04

[verify]
transients = 4
transitions = 4
start_images = 1
noise_nodes = 2
dies = 3
images_per_die = 10
trim_images = 10
anchor_images = 1
"""

PLAN = """\
schema = 1
name = "small"

[transfer]
loads_siemens = [0.1e-3, 0.5e-3, 1.0e-3, 2.0e-3, 4.0e-3]

[settling]
steps_h = [0.25]
window_s = 3e-6
loads_siemens = [0.1e-3, 0.5e-3, 1.0e-3, 2.0e-3, 4.0e-3]

[noise]
loads_siemens = [0.1e-3, 0.5e-3, 1.0e-3, 4.0e-3]
biases_h = [0.0, 1.0]
per_decade = 10

[mismatch]
dies = 24
block = 24
conductances_siemens = [1e-6, 10e-6, 50e-6, 100e-6]

[crossbar]
rows = 2
columns = 2
r_lines_ohm = [0.0, 2.0]
"""

STAGES = ("calibrate", "fit", "train", "verify")
EXIT_CODES = {"pass": 0, "fail": 1, "inconclusive": 4}

Command = Callable[..., subprocess.CompletedProcess[str]]
Invoke = Callable[..., Result]


def write_design(folder: Path) -> None:
    (folder / "tiny.toml").write_text(DESIGN)
    (folder / "plan.toml").write_text(PLAN)
    write_limits(folder)


def write_limits(folder: Path) -> None:
    """``limits.toml``: the rows of the shipped sheet that need no simulation beyond the base campaign.

    The further checks have tests of their own; every run of these tests would repeat them.
    """
    further = {name for check in CHECKS for name in check.ids} - set(Trajectory.ids)
    head, *rows = (shipped("data/limits") / "default.toml").read_text().split("[[check]]\n")
    kept = [row for row in rows if not any(f'id = "{name}"\n' in row for name in further)]
    (folder / "limits.toml").write_text("[[check]]\n".join([head.split("[campaign]")[0], *kept]))


def run_cli(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """``analog-deq arguments`` in ``cwd``; keywords are environment variables."""
    return subprocess.run(
        [sys.executable, "-m", "analog_deq.cli", *arguments],
        cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of the last change of everything below ``folder``."""
    return {str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def report_of(folder: Path) -> dict[str, Any]:
    """The only report.json below ``folder``."""
    (path,) = folder.glob("**/report.json")
    return json.loads(path.read_text())


def checks_of(folder: Path) -> dict[str, dict[str, Any]]:
    return {check["id"]: check for check in report_of(folder)["checks"]}


@dataclass(frozen=True)
class Finished:
    """``run tiny.toml --json`` as it ended. Tests may read ``folder`` and must write elsewhere."""

    folder: Path
    returncode: int
    stdout: str
    stderr: str

    @property
    def result(self) -> dict[str, Any]:
        return json.loads(self.stdout)

    def output(self, stage: str, name: str) -> Path:
        return self.folder / self.result["stages"][STAGES.index(stage)]["outputs"][name]

    @property
    def signoff(self) -> Path:
        """Folder of the report."""
        return self.output("verify", "report").parent
