"""The command line: help, JSON, exit codes and rendering, over a pipeline that only records its calls."""

from __future__ import annotations

import errno
import json
import runpy
import subprocess
import sys
import time
import types
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

import analog_deq
from analog_deq import errors
from analog_deq.array_commands import ARRAY_COMMANDS
from analog_deq.cell_commands import CELL_COMMANDS
from analog_deq.cli import cli
from analog_deq.command import explain, find_input
from analog_deq.errors import SpecError
from analog_deq.signoff_commands import SIGNOFF_COMMANDS
from analog_deq.spice import doctor

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = list(cli.commands)
LEAVES = {name: cli.commands[name] for name in COMMANDS if not isinstance(cli.commands[name], click.Group)}
LEAVES |= {f"baseline {name}": command for name, command in cli.commands["baseline"].commands.items()}


@dataclass(frozen=True, slots=True)
class StageResult:
    stage: str
    outputs: dict[str, Path]
    summary: dict[str, object]
    reused: bool
    seconds: float
    exit_code: int = 0
    checks: tuple[dict, ...] = ()


CHECKS = (
    {
        "id": "net.fixed_point_err", "quantity": "error of [the] fixed point", "value": 0.31, "unit": "%",
        "limit": {"min": None, "max": 1.0}, "n": 360, "interval": [0.28, 0.35], "status": "pass", "worst": {},
    },
    {
        "id": "net.settle_p99", "quantity": "time of [most] inputs",
        "value": 4.5e-6, "unit": "s", "limit": {"max": 2e-6}, "n": 100, "interval": None,
        "status": "fail", "worst": {"condition": "", "die": 7, "input": 12, "deck": "runs/verify/x/deck.cir"},
        "detail": "above its limit", "replay": "ngspice -n -b x/deck.cir", "severity": "warn", "waived": "",
    },
    {
        "id": "net.energy", "value": None, "unit": "J", "limit": {"min": 0, "max": 1e-9}, "n": 0,
        "status": "inconclusive",
    },
)  # fmt: skip


class FakePipeline(types.ModuleType):
    """Records calls; ``raises`` is raised by the next one, ``exit_code`` is the verdict."""

    def __init__(self) -> None:
        super().__init__("analog_deq.pipeline")
        self.calls: list[tuple[str, tuple, dict]] = []
        self.raises: BaseException | None = None
        self.exit_code = 0

    def _stage(self, stage: str, args: tuple, options: dict, **fields) -> StageResult:
        self.calls.append((stage, args, options))
        if self.raises is not None:
            raise self.raises
        if "progress" in options:
            options["progress"].start("some [work]", 4)
            options["progress"].advance(4, failed=1)
            options["progress"].note("a [note]")
        summary = {"settling_time_s": 1.2e-6, "rows": np.int64(3), "fit": {"worst": float("nan")}, "forms": ("tanh",)}
        return StageResult(stage, {"tables": Path("runs/x")}, summary, False, 1.5, **fields)

    def calibrate(self, *args, **options):
        return self._stage("calibrate", args, options)

    def fit(self, *args, **options):
        return self._stage("fit", args, options)

    def train(self, *args, **options):
        return self._stage("train", args, options)

    def verify(self, *args, **options):
        result = self._stage("verify", args, options, exit_code=self.exit_code, checks=CHECKS)
        result.outputs["report"] = Path("runs/verify/x/report.html")
        return result

    def write_netlist(self, *args, **options):
        return self._stage("netlist", args, options)

    def run(self, *args, **options):
        first = StageResult("calibrate", {}, {}, True, 0.0)
        return [first, self.verify(*args, **options)]


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> FakePipeline:
    fake = FakePipeline()
    monkeypatch.setitem(sys.modules, "analog_deq.pipeline", fake)
    monkeypatch.setattr(analog_deq, "pipeline", fake, raising=False)
    return fake


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("design.toml", "proxy.json", "net.safetensors", "limits.toml"):
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


ARGUMENTS = {
    "calibrate": ["calibrate", "design.toml"],
    "fit": ["fit", "--design", "design.toml"],
    "train": ["train", "design.toml", "--proxy", "proxy.json"],
    "verify": ["verify", "net.safetensors", "--design", "design.toml", "--proxy", "proxy.json"],
    "run": ["run", "design.toml", "--limits", "limits.toml"],
    "netlist": ["netlist", "cell", "--design", "design.toml", "--out", "deck.cir"],
}


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, prog_name="analog-deq")


# ------------------------------------------------------------------ help


@pytest.mark.parametrize("command", LEAVES)
def test_help_has_an_example_and_json(command: str) -> None:
    result = call(*command.split(), "--help")
    assert result.exit_code == 0
    assert "Example" in result.stdout
    assert f"analog-deq {command}" in result.stdout.split("Example")[1]
    assert "--json" in result.stdout


def test_every_option_has_help() -> None:
    silent = [
        (name, p.name) for name, c in LEAVES.items() for p in c.params if isinstance(p, click.Option) and not p.help
    ]
    assert silent == []


def test_commands_come_in_the_order_of_the_flow() -> None:
    text = call("--help").stdout.split("Commands:")[1]
    positions = [text.index(f"  {name} ") for name in COMMANDS]
    assert positions == sorted(positions)
    others = {command.name for command in (*CELL_COMMANDS, *ARRAY_COMMANDS, *SIGNOFF_COMMANDS)}
    assert set(ARGUMENTS) | {"doctor"} | others == set(COMMANDS)


def test_version() -> None:
    assert analog_deq.__version__ in call("--version").stdout


def test_help_is_fast_and_light() -> None:
    heavy = "import sys, analog_deq.cli; print([m for m in ('torch', 'pandas', 'numpy', 'rich') if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"
    times = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "analog_deq.cli", "run", "--help"], capture_output=True, check=True)
        times.append(time.perf_counter() - began)
    assert min(times) < 0.5


def test_root_shim(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), "fit", "--help"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    assert "Usage: analog-deq fit" in done.stdout


def test_reference_page_is_in_step() -> None:
    reference = runpy.run_path(str(ROOT / "tools/cli_reference.py"))["reference"]
    written = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    assert reference().split() == written.split(), "docs/cli.md is out of step: run `make docs`"


# ------------------------------------------------------------------ JSON and rendering


@pytest.mark.parametrize("command", list(ARGUMENTS))
def test_json_is_all_of_stdout(command: str, pipeline: FakePipeline, folder: Path) -> None:
    result = call(*ARGUMENTS[command], "--json")
    assert result.exit_code == 0, result.output
    payload = json.loads(result.stdout, parse_constant=pytest.fail)
    assert payload["schema"] == "analog_deq.command/1"
    assert (payload["command"], payload["exit_code"]) == (command, 0)
    last = payload["stages"][-1]
    assert last["outputs"]["tables"] == "runs/x"
    assert last["summary"] == {"settling_time_s": 1.2e-6, "rows": 3, "fit": {"worst": None}, "forms": ["tanh"]}
    assert ("verdict" in payload) == (command in {"verify", "run"})


@pytest.mark.parametrize("command", list(ARGUMENTS))
def test_talk_goes_to_stderr_and_figures_to_stdout(command: str, pipeline: FakePipeline, folder: Path) -> None:
    result = call(*ARGUMENTS[command])
    assert result.exit_code == 0, result.output
    assert "settling time  1.2 us" in result.stdout
    assert "1.5 s" in result.stdout
    if command != "netlist":
        assert "some [work]: 4/4 (1 failed)" in result.stderr
        assert "a [note]" in result.stderr
    assert "[work]" not in result.stdout


def test_verdict_table(pipeline: FakePipeline, folder: Path) -> None:
    pipeline.exit_code = errors.EXIT_SIGNOFF_FAILED
    result = call(*ARGUMENTS["run"])
    assert result.exit_code == errors.EXIT_SIGNOFF_FAILED
    for text in (
        "reused", "net.fixed_point_err",
        "<= 1 %", "0.28 % .. 0.35 %", "4.5 us", "<= 2 us",
        "0 J .. 1 nJ",
        "net.settle_p99: time of [most] inputs; above its limit; worst at die 7, input 12, deck runs/verify/x/deck.cir",
        "replay: ngspice -n -b x/deck.cir", "fail (warn)",
        "verdict: FAIL  (3 checks, 2 not passed)", "report:  runs/verify/x/report.html",
    ):  # fmt: skip
        assert text in result.stdout
    assert (
        "error of [the] fixed point" not in result.stdout
    )  # a check that passed is a line; the report has its sentence


# ------------------------------------------------------------------ exit codes


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.SpecError("design.toml: 'bogus' is not a key"), 2),
        (errors.FitError("missed by 3 %"), 2),
        (errors.SignOffError("fail"), 1),
        (errors.SimulatorNotFoundError("no ngspice: sudo apt-get install ngspice"), 3),
        (errors.SimulationError("stopped", folder=Path("runs/x"), log_tail="singular matrix"), 3),
        (PermissionError(errno.EACCES, "Permission denied", "design.toml"), 2),
        (OSError(errno.ENOSPC, "No space left on device"), 3),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 3),
        (ZeroDivisionError("float division"), 3),
        (KeyboardInterrupt(), 130),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_errors_map_to_exit_codes(error, code: int, as_json: bool, pipeline: FakePipeline, folder: Path) -> None:
    pipeline.raises = error
    result = call(*ARGUMENTS["calibrate"], *(["--json"] if as_json else []))
    assert result.exit_code == code
    assert str(error) in result.stderr or isinstance(error, OSError | ModuleNotFoundError)
    assert result.stderr.startswith("Interrupted: " if code == 130 else "Error: ")
    if code == 130:
        assert "again to resume" in result.stderr
    assert ("Traceback" in result.stderr) == isinstance(error, ZeroDivisionError)
    if as_json:
        payload = json.loads(result.stdout)
        assert (payload["command"], payload["exit_code"]) == ("calibrate", code)
        assert payload["error"]["type"] == type(error).__name__
    else:
        assert result.stdout == ""


@pytest.mark.parametrize(("code", "verdict"), [(0, "pass"), (1, "fail"), (4, "inconclusive")])
def test_verdict_is_the_exit_code(code: int, verdict: str, pipeline: FakePipeline, folder: Path) -> None:
    pipeline.exit_code = code
    result = call(*ARGUMENTS["verify"], "--json")
    assert result.exit_code == code
    assert json.loads(result.stdout)["verdict"] == verdict


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["calibrate", "nowhere.toml"], "nowhere.toml: no such file"),
        (["calibrate", "."], "is a folder, not a file"),
        ([*ARGUMENTS["calibrate"], "--cell", "opamp"], "is not role=cell"),
        ([*ARGUMENTS["calibrate"], "--cell", "a=x.cir", "--cell", "a=y.cir"], "'a' is given twice"),
        ([*ARGUMENTS["calibrate"], "--timeout", "nan"], "not a positive number"),
        ([*ARGUMENTS["calibrate"], "--timeout", "0"], "not a positive number"),
        ([*ARGUMENTS["calibrate"], "--jobs", "0"], "--jobs"),
        (["train", "design.toml", "--proxy", "nowhere.json"], "nowhere.json"),
        (["run", "design.toml", "--limits", "nowhere"], "nowhere: no such file"),
        (["netlist", "gate", "--design", "design.toml", "--out", "x"], "gate"),
        (["fit"], "--design"),
    ],
)
def test_wrong_use_is_exit_2_and_calls_nothing(
    arguments: list[str], message: str, pipeline: FakePipeline, folder: Path
) -> None:
    before = sorted(folder.iterdir())
    result = call(*arguments)
    assert (result.exit_code, result.stdout, pipeline.calls) == (2, "", [])
    assert message in result.stderr
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check"], "CELL"),
        (["check", "nope"], "no shipped cell of that name"),
        (["init-cell", "nowhere.cir"], "nowhere.cir"),
        (["characterise", "opamp_2stage", "--dies", "-1"], "--dies"),
        (["characterise", "opamp_2stage", "--seed", "x"], "--seed"),
        (["characterise", "opamp_2stage", "--corners", "hot", "--dry-run"], "no corner 'hot'; use typ, quick, full"),
        (["characterise", "opamp_2stage", "--executor", "ray://x"], "ray://x"),
        (["replay", "nowhere.parquet", "--cell", "opamp_2stage", "--row", "3"], "nowhere.parquet"),
        (["replay", "proxy.json", "--cell", "opamp_2stage", "--row", "0"], "--cell belongs to a quantities.parquet"),
        (["boyle", "cells", "--set", "gbw=1e6"], "no parameter 'gbw'; write PARAMETER=VALUE with one of a0"),
        (["boyle", "cells", "--set", "gbw_hz=1M"], "'1M' is milli to ngspice"),
    ],
)
def test_wrong_use_of_a_cell_command_is_exit_2(arguments: list[str], message: str, folder: Path) -> None:
    before = sorted(folder.iterdir())
    result = call(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert sorted(folder.iterdir()) == before


# ------------------------------------------------------------------ what reaches the library


def test_options_reach_the_library(pipeline: FakePipeline, folder: Path) -> None:
    call("calibrate", "design.toml", "--cell", "opamp=my=op.toml", "--jobs", "3", "--timeout", "9", "--out", "t")
    call(*ARGUMENTS["verify"], "--limits", "limits.toml", "--flat", "--dies", "5", "--runs", "elsewhere")
    call(*ARGUMENTS["train"], "--no-baselines")
    (_, args, calibrate), (_, _, verify), (_, _, train) = pipeline.calls
    assert args == (Path("design.toml"),)
    assert calibrate["cells"] == {"opamp": "my=op.toml"}
    assert (calibrate["jobs"], calibrate["timeout_s"], calibrate["out"]) == (3, 9.0, Path("t"))
    assert calibrate["runs"] == Path("runs")
    assert (verify["flat"], verify["dies"], verify["runs"]) == (True, 5, Path("elsewhere"))
    assert verify["limits"] == Path("limits.toml")
    assert "timeout_s" not in verify  # the library's default stands
    assert train["baselines"] is False


def test_a_drafted_contract_is_told_in_words_and_in_json(folder: Path) -> None:
    for name in ("a", "b"):
        (folder / f"{name}.cir").write_text(".subckt cell row col bias g=1e-5\nR1 row col {1/g}\nR2 bias 0 1\n.ends\n")
    told, machine = call("init-cell", "a.cir"), call("init-cell", "b.cir", "--json")
    assert (told.exit_code, machine.exit_code) == (0, 0)
    assert told.stdout.startswith("wrote a.toml  (role synapse)")
    assert "tie.bias: where does this pin go?" in told.stdout
    assert told.stdout.rstrip().endswith("then: analog-deq check a.toml")
    payload = json.loads(machine.stdout)
    assert (payload["contract"], payload["role"]) == ("b.toml", "synapse")
    assert any(point.startswith("tie.bias") for point in payload["open_points"])
    assert call("init-cell", "a.cir").exit_code == 2, "what is there is never replaced"


def test_a_dry_run_needs_no_simulator(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANALOG_DEQ_NGSPICE", str(folder / "no-such-ngspice"))
    result = call("characterise", "opamp_macro", "--corners", "full", "--dies", "3", "--dry-run", "--json")
    assert result.exit_code == 0, result.stderr
    payload = json.loads(result.stdout, parse_constant=pytest.fail)
    assert (payload["command"], payload["cell"], payload["dies"]) == ("characterise", "opamp_macro", 3)
    assert payload["decks"] == sum(row["decks"] for row in payload["rows"])
    assert not (folder / "runs").exists()


def test_shipped_names_resolve_and_files_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    (shipped / "digits.toml").write_text("")
    monkeypatch.setattr("analog_deq.resources.shipped", lambda folder: shipped)
    assert find_input("digits", "data/designs") == shipped / "digits.toml"
    with pytest.raises(SpecError, match="one of: digits"):
        find_input("digit", "data/designs")
    Path("digits").write_text("")
    assert find_input("digits", "data/designs") == Path("digits")


@pytest.mark.parametrize("ok", [True, False])
def test_doctor(ok: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = "ngspice: not found; run: sudo apt-get install ngspice"
    found = doctor.Diagnosis(
        python="3.11.7", packages={"torch": "2.13.0"}, ngspice_path="/usr/bin/ngspice" if ok else None,
        ngspice_version="46" if ok else None, klu=True if ok else None, rc_expected_s=1e-6,
        rc_measured_s=1.001e-6 if ok else None, rc_error=1e-3 if ok else None, ok=ok,
        problems=() if ok else (problem,),
    )  # fmt: skip
    monkeypatch.setattr(doctor, "diagnose", lambda: found)
    human, machine = call("doctor"), call("doctor", "--json")
    assert human.exit_code == machine.exit_code == (0 if ok else 3)
    assert "torch    2.13.0" in human.stdout
    assert ("46 (/usr/bin/ngspice)" in human.stdout) == ok
    assert ("settles in 1.001 us, expected 1 us, error 0.10%" in human.stdout) == ok
    assert (problem in human.stdout) != ok
    payload = json.loads(machine.stdout)
    assert (payload["ok"], payload["klu"]) == (ok, True if ok else None)


def test_a_full_disk_is_told_as_such() -> None:
    code, text = explain(OSError(errno.ENOSPC, "No space left on device", "runs/verify/x/report.json"))
    assert code == errors.EXIT_SIMULATOR
    assert text.startswith("runs/verify/x/report.json: no space left; free some")
    assert explain(OSError(errno.ENOSPC, "No space left on device"))[1].startswith("the runs folder: no space left")
