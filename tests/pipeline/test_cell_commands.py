"""The commands on single cells, as a user gives them: init-cell, check, characterise, replay. Real ngspice."""

from __future__ import annotations

import json
import os
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
from click.testing import CliRunner, Result
from harness import snapshot

from analog_deq.cli import cli as commands
from analog_deq.errors import SpecError
from analog_deq.netlists.library import load_cell
from analog_deq.pipeline.replay import replay
from analog_deq.resources import shipped
from analog_deq.statistics import dies_needed
from analog_deq.tables import COLUMNS, read_table

pytestmark = [pytest.mark.pipeline, pytest.mark.spice]

SLOW = "ss_m40C_1p62V"
"""Its steps need a longer window than its bandwidth tells."""
TYPICAL = "tt_27C_1p8V"
NO_DIES = ("--corners", "typ", "--no-sensitivity")


def call(*arguments: str) -> Result:
    return CliRunner().invoke(commands, arguments, prog_name="analog-deq")


def strict(result: Result) -> dict[str, Any]:
    """The JSON of a command; a NaN or an infinity in it fails the test."""
    return json.loads(result.stdout, parse_constant=pytest.fail)


def copy_cell(name: str, folder: Path, old: str = "", new: str = "") -> Path:
    """A shipped cell as a user's own, with one place of its netlist changed."""
    for suffix in ("cir", "toml"):
        text = (shipped("netlists/cells") / f"{name}.{suffix}").read_text()
        assert suffix == "toml" or not old or text.count(old) == 1
        (folder / f"{name}.{suffix}").write_text(text.replace(old, new) if suffix == "cir" and old else text)
    return folder / f"{name}.toml"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """opamp_2stage at two corners, every measurement, 34 dies (two blocks) and its sensitivities; tests only read."""
    folder = tmp_path_factory.mktemp("campaign")
    cell = copy_cell("opamp_2stage", folder)
    arguments = ("--corners", f"{TYPICAL},{SLOW}", "--dies", "34", "--runs", str(folder / "runs"), "--seed", "7")
    result = call("characterise", str(cell), *arguments, "--out", str(folder / "out"), "--json")
    assert result.exit_code == 0, result.stderr
    return folder, strict(result)


# --- from a netlist to a datasheet ----------------------------------------------------------------------------------

FIRST_ORDER = """\
* somebody's amplifier
.SUBCKT MY_AMP IN+ IN- OUT VCC VEE
+ PARAMS: GBW=10MEG A0=1e4
RIN IN+ IN- 1MEG
G1 0 P IN+ IN- 1m
R1 P 0 {A0*1k}
C1 P 0 {1m/(6.283185307179586*GBW)}
E1 Q 0 P 0 1
RO Q OUT 50
RQ VCC VEE 18k
.ENDS
"""


def test_a_new_user_gets_from_a_netlist_to_figures_he_knows(here: Path) -> None:
    """Three commands; the answer is that of the netlist: 80 dB, 10 MHz, (1.8 V)^2 / 18 kohm."""
    (here / "my_amp.cir").write_text(FIRST_ORDER)
    drafted = strict(call("init-cell", "my_amp.cir", "--json"))
    assert (drafted["contract"], drafted["role"]) == ("my_amp.toml", "opamp")
    assert drafted["open_points"]
    checked = strict(call("check", "my_amp.toml", "--json"))
    assert (checked["exit_code"], checked["corners"]) == (0, [TYPICAL])
    assert {f["severity"] for f in checked["findings"]} <= {"warning", "note"}
    assert sorted(path.name for path in here.iterdir()) == ["my_amp.cir", "my_amp.toml"], "check writes nothing"

    found = strict(
        call("characterise", "my_amp.toml", *NO_DIES, "--json", "--measure", "open_loop", "--measure", "static")
    )
    values = {q["quantity"]: q["typical"] for q in found["quantities"]}
    assert values["dc_gain"] == pytest.approx(80.0, abs=1e-4)
    assert values["gbw"] == pytest.approx(10e6, rel=1e-3)
    assert values["supply_power"] == pytest.approx(1.8**2 / 18e3, rel=1e-6)
    assert Path(found["outputs"]["datasheet"]).is_file()


def test_a_wrong_cell_is_exit_2_with_one_message_and_nothing_written(here: Path) -> None:
    (here / "my_amp.cir").write_text(FIRST_ORDER.replace("RO Q OUT 50", "RO Q OUT {R0}"))
    call("init-cell", "my_amp.cir")
    before = snapshot(here)
    result = call("check", "my_amp.toml", "--json")
    assert result.exit_code == 2
    assert "my_amp.cir:9: 'RO Q OUT {R0}': the parameter 'r0' is used and not defined; add it" in result.stderr
    assert strict(result)["error"]["type"] == "NetlistError"
    assert snapshot(here) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("opamp_2stage", "--corners", "tt_28C_1p8V"), ("no corner 'tt_28C_1p8V'", TYPICAL, SLOW)),
        (("opamp_2stage", "--corners", ","), ("--corners: empty",)),
        (("opamp_2stage", "--measure", "gain"), ("--measure gain", "open_loop, static")),
        (("diffpair", "--measure", "open_loop"), ("no such measurement of the role activation", "bandwidth")),
        (("quiet.toml", "--dies", "3"), ("--dies: quiet.toml", "every die would be the same")),
        (("quiet.toml", "--die", "3"), ("--dies: quiet.toml", "every die would be the same")),
        (("opamp_2stage", "--dies", "3", "--die", "1"), ("--dies 3 --die 1", "give one of them")),
        (("nope",), ("'nope'", "opamp_2stage")),
        (("gone.toml",), ("gone.toml: no such file",)),
    ],
)
@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_a_question_nobody_can_answer_is_exit_2(
    arguments: tuple[str, ...], words: tuple[str, ...], dry: tuple[str, ...], here: Path
) -> None:
    (here / "quiet.cir").write_text(FIRST_ORDER)
    call("init-cell", "quiet.cir")
    before = snapshot(here)
    result = call("characterise", *arguments, *dry)
    assert result.exit_code == 2, result.output
    assert all(word in result.stderr for word in words), result.stderr
    assert (result.stdout, snapshot(here)) == ("", before)


# --- the answer -----------------------------------------------------------------------------------------------------


def test_the_json_keeps_its_schema(campaign: tuple[Path, dict[str, Any]]) -> None:
    _, found = campaign
    assert list(found) == [
        "schema", "command", "exit_code", "cell", "role", "description", "source", "validity", "sha256", "simulator",
        "corners", "mismatch", "dies", "quantities", "over_dies", "sensitivity", "correlation", "failures", "outputs",
        "summary", "reused", "seconds",
    ]  # fmt: skip
    assert (found["schema"], found["command"], found["corners"]) == (
        "analog_deq.command/1", "characterise", [TYPICAL, SLOW],
    )  # fmt: skip
    assert (found["dies"], found["failures"], found["summary"]["failed"]) == (34, [], 0)
    assert list(found["quantities"][0]) == [
        "quantity", "at", "description", "unit", "typical", "typical_status", "corners", "n", "low", "low_corner",
        "high", "high_corner", "worst", "worst_corner", "failed", "undefined", "not_modelled", "missed", "status",
    ]  # fmt: skip
    missing = [q for q in found["quantities"] if q["typical_status"] != "ok"]
    assert missing
    assert all(q["typical"] is None for q in missing)


def test_out_holds_all_that_was_written(campaign: tuple[Path, dict[str, Any]]) -> None:
    folder, found = campaign
    names = {"datasheet.html", "datasheet.md", "summary.json"} | {
        f"{table}.{kind}" for table in ("quantities", "curves") for kind in ("csv", "parquet")
    }
    assert {path.name for path in (folder / "out").iterdir()} == names
    assert found["outputs"]["tables"] == str(folder / "out")
    rows, text = read_table(folder / "out" / "quantities.parquet").rows, pd.read_csv(folder / "out" / "quantities.csv")
    assert list(text.columns) == [*COLUMNS["quantities"], "status"]
    assert np.array_equal(rows["value"], text["value"], equal_nan=True), "a CSV of every digit"
    assert all((folder / "runs" / "spice" / deck / "deck.cir").is_file() for deck in rows["deck"].unique())


def test_every_variant_of_every_quantity_has_its_row(campaign: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = campaign
    rows = read_table(folder / "out" / "quantities.parquet").rows
    counts = rows.groupby(["corner", "variant"]).size().unstack(fill_value=0)
    nominal = counts.loc[TYPICAL, "nominal"]
    assert counts.loc[TYPICAL, "die"] == 34 * nominal
    assert counts.loc[SLOW, "nominal"] == nominal
    assert counts.loc[SLOW].drop("nominal").sum() == 0, "dies and sensitivities belong to the first corner"
    moved = [name for name in counts.columns if name not in {"nominal", "die"}]
    assert {name[:-1] for name in moved} == {"vos", "ib", "cc", "rz", "kn", "kp"}
    assert (counts.loc[TYPICAL, moved] == nominal).all()


def test_rows_replay_alone_to_every_digit(campaign: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """Twenty rows at random, of each kind of variant; a die's row runs its whole block again."""
    folder, _ = campaign
    table, cell = folder / "out" / "quantities.parquet", str(folder / "opamp_2stage.toml")
    rows = read_table(table).rows
    kind = rows["variant"].where(rows["variant"].isin(["nominal", "die"]), "moved")
    picked = [i for _, part in rows.groupby(kind) for i in part.sample(7, random_state=1).index][:19]
    picked.append(rows[rows["stretch"] > 1].sample(1, random_state=1).index[0])
    assert set(kind[picked]) == {"nominal", "die", "moved"}
    for row in picked:
        found = replay(cell, table, row, runs=tmp_path)
        assert found["same"], found
        assert found["recorded_status"] == found["status"] == rows["status"][row]
        assert Path(str(found["deck"])).is_file()


def test_the_command_replays_a_row_and_refuses_what_is_none(campaign: tuple[Path, dict[str, Any]], here: Path) -> None:
    folder, _ = campaign
    table, cell = str(folder / "out" / "quantities.parquet"), str(folder / "opamp_2stage.toml")
    told = call("replay", table, "--cell", cell, "--row", "0")
    assert told.exit_code == 0, told.stderr
    assert {"same", "yes"} <= set(told.stdout.split())
    for arguments, words in (
        ((table, "--cell", cell, "--row", "99999"), "row 99999: the table has rows 0 to"),
        ((str(folder / "out" / "curves.parquet"), "--cell", cell, "--row", "0"), "give the quantities.parquet"),
        ((table, "--cell", "opamp_macro", "--row", "0"), "measured on another cell"),
        ((table, "--row", "0"), "give it with --cell"),
    ):
        refused = call("replay", *arguments)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert words in refused.stderr


def test_a_row_that_differs_is_exit_1(campaign: tuple[Path, dict[str, Any]], here: Path) -> None:
    """A digit of the table changed by hand is found."""
    folder, _ = campaign
    import pyarrow.parquet as pq

    arrow = pq.read_table(folder / "out" / "quantities.parquet")
    rows = arrow.to_pandas()
    rows.loc[0, "value"] = np.nextafter(rows.loc[0, "value"], np.inf)
    changed = arrow.set_column(arrow.column_names.index("value"), "value", [rows["value"].to_numpy()])
    pq.write_table(changed, here / "quantities.parquet")
    result = call("replay", "quantities.parquet", "--cell", str(folder / "opamp_2stage.toml"), "--row", "0", "--json")
    assert (result.exit_code, strict(result)["same"]) == (1, False)


def test_a_die_alone_is_the_die_of_the_campaign(campaign: tuple[Path, dict[str, Any]], here: Path) -> None:
    """The same draw in a deck of its own: equal to what the simulator's tolerances and time steps leave open."""
    folder, _ = campaign
    arguments = ("--corners", "typ", "--die", "33", "--seed", "7", "--measure", "open_loop", "--measure", "static")
    found = strict(call("characterise", str(folder / "opamp_2stage.toml"), *arguments, "--json"))
    alone = read_table(Path(found["outputs"]["tables"]) / "quantities.parquet").rows
    whole = read_table(folder / "out" / "quantities.parquet").rows
    key = ["quantity", "at"]
    one = alone[alone["variant"] == "die"].set_index(key)["value"]
    same = whole[(whole["variant"] == "die") & (whole["die"] == 33)].set_index(key)["value"].reindex(one.index)
    assert (alone.loc[alone["variant"] == "die", "die"] == 33).all()
    assert found["dies"] == 1
    np.testing.assert_allclose(one, same, rtol=1e-6)
    other = whole[(whole["variant"] == "die") & (whole["die"] == 32)].set_index(key)["value"].reindex(one.index)
    assert abs(one["offset", ""] - other["offset", ""]) > 1e-3 * abs(one["offset", ""])


def test_another_seed_is_another_set_of_dies(here: Path) -> None:
    spreads = []
    for seed in ("0", "0", "1"):
        arguments = ("--corners", "typ", "--dies", "4", "--no-sensitivity", "--measure", "static", "--seed", seed)
        found = strict(call("characterise", "opamp_macro", *arguments, "--json"))
        spreads.append(next(d["sd"] for d in found["over_dies"] if d["quantity"] == "offset"))
    assert spreads[0] == spreads[1] != spreads[2]


def test_quick_is_the_worst_five_of_the_last_full_run(here: Path) -> None:
    def ask(*more: str) -> dict[str, Any]:
        return strict(call("characterise", "mos_synapse", "--no-sensitivity", "--json", *more))

    first = ["tt_27C", "ff_m40C", "ff_125C", "ss_m40C", "ss_125C"]
    assert ask("--corners", "quick", "--measure", "conductance")["corners"] == first
    assert len(ask("--corners", "full", "--measure", "conductance")["corners"]) == 15
    assert ask("--measure", "conductance")["corners"] == first, "one measurement does not decide what is worst"
    full = ask("--corners", "full")
    worst = pd.Series([q["worst_corner"] for q in full["quantities"]]).value_counts()
    ranked = [name for name in worst.index if name not in {"", "tt_27C"}]
    after = ask("--corners", "quick")
    assert after["corners"][0] == "tt_27C"
    assert len(after["corners"]) == 1 + min(5, len(ranked))
    fewest = min(worst[name] for name in after["corners"][1:])
    assert all(name in after["corners"] for name in ranked if worst[name] > fewest)
    told = {(q["quantity"], q["at"]): (q["worst"], q["worst_corner"]) for q in full["quantities"]}
    kept = [q for q in after["quantities"] if told[q["quantity"], q["at"]][1] in after["corners"]]
    assert len(kept) > 30
    assert all((q["worst"], q["worst_corner"]) == told[q["quantity"], q["at"]] for q in kept), "to every digit"


# --- failures -------------------------------------------------------------------------------------------------------


def test_a_failed_nominal_simulation_is_exit_3_and_costs_nothing_else(here: Path) -> None:
    """A resistor that is infinite at slow silicon: the corner is lost, and says so; the typical one is whole."""
    cell = copy_cell("opamp_2stage", here, ".ends", "Rslow out vss {1e9/(kn-0.9)}\n.ends")
    corners = f"{TYPICAL},ss_27C_1p8V"
    arguments = ("characterise", str(cell), "--corners", corners, "--no-sensitivity", "--measure", "open_loop")
    result = call(*arguments, "--measure", "static", "--json")
    found = strict(result)
    assert result.exit_code == found["exit_code"] == 3
    (failure,) = found["failures"]
    assert (failure["measurement"], failure["corner"], failure["variant"]) == ("open_loop", "ss_27C_1p8V", "nominal")
    assert (here / "runs" / "spice" / failure["deck"] / "ngspice.log").is_file()
    gain, offset = ({q["quantity"]: q for q in found["quantities"]}[name] for name in ("dc_gain", "offset"))
    assert (gain["typical_status"], gain["failed"], gain["missed"]) == ("ok", 1, "ss_27C_1p8V")
    assert (offset["typical_status"], offset["undefined"], offset["missed"]) == ("ok", 1, "ss_27C_1p8V")
    table = Path(found["outputs"]["tables"]) / "quantities.parquet"
    again = replay(str(cell), table, failure["row"], runs=here / "runs")
    assert again["same"], "it fails alike, alone"
    unranged = int(read_table(table).rows.query("measurement == 'static' and value.isna()").index[0])
    with pytest.raises(SpecError, match="was not simulated"):
        replay(str(cell), table, unranged, runs=here / "runs")
    told = call(*arguments, "--measure", "static")
    assert told.exit_code == 3
    assert "failed: open_loop at ss_27C_1p8V, nominal: " in told.stdout
    assert failure["deck"] in told.stdout


def test_a_failure_by_the_clock_is_no_lasting_answer(here: Path) -> None:
    """A corner that a too short timeout cost is simulated when asked for again, and a finished answer then stands."""
    arguments = ("characterise", "opamp_2stage", *NO_DIES, "--measure", "static", "--json")
    hasty = strict(late := call(*arguments, "--timeout", "0.001"))
    assert (late.exit_code, hasty["summary"]["failed"]) == (3, 1), "static, as no range was found"
    calm = strict(result := call(*arguments))
    assert (result.exit_code, calm["reused"], calm["summary"]["failed"]) == (0, False, 0)
    assert strict(call(*arguments))["reused"]
    assert not list((here / "runs" / "spice").glob("*.failed"))


def interrupted(folder: Path, arguments: tuple[str, ...], simulations: int) -> tuple[int, str]:
    """Exit code and stderr of a command that gets a SIGINT once so many of its simulations are finished."""
    with (folder / "stderr").open("w") as stderr:
        child = subprocess.Popen(
            [sys.executable, "-m", "analog_deq.cli", *arguments],
            cwd=folder, stdout=subprocess.DEVNULL, stderr=stderr, env={**os.environ},
            # a parent in the background has SIGINT ignored, and its children would inherit that
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
        try:
            end = time.monotonic() + 60
            while len(list((folder / "runs" / "spice").glob("[!.]*/outputs.json"))) < simulations:
                assert child.poll() is None, "ended before it could be interrupted"
                assert time.monotonic() < end
                time.sleep(0.01)
            child.send_signal(signal.SIGINT)
            return child.wait(timeout=30), (folder / "stderr").read_text()
        finally:
            child.kill()
            child.wait()


def test_after_ctrl_c_the_same_command_goes_on_to_the_same_digits(
    here: Path, fake_ngspice, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (
        "characterise", "opamp_macro", "--corners", "quick", "--dies", "20", "--jobs", "2", "--measure", "open_loop",
        "--measure", "step_response",
    )  # fmt: skip
    ngspice = os.environ.get("ANALOG_DEQ_NGSPICE")
    fake_ngspice("sleep 0.2")
    code, stderr = interrupted(here, arguments, 4)
    assert code == 130, stderr
    assert "run the same command again to resume" in stderr
    assert not list((here / "runs").glob("characterise/*")), "no half-made answer"
    kept = len(list((here / "runs" / "spice").glob("[!.]*/outputs.json")))
    monkeypatch.setenv("ANALOG_DEQ_NGSPICE", ngspice) if ngspice else monkeypatch.delenv("ANALOG_DEQ_NGSPICE")
    resumed = strict(call(*arguments, "--json"))
    assert resumed["exit_code"] == 0
    assert resumed["summary"]["runs_from_cache"] >= kept >= 4
    whole = strict(call(*arguments, "--json", "--runs", "elsewhere"))
    assert whole["reused"] is False
    for name in ("quantities.csv", "curves.csv", "datasheet.html"):
        one, other = (Path(found["outputs"]["tables"]) / name for found in (resumed, whole))
        assert one.read_bytes() == other.read_bytes(), name
    assert strict(call(*arguments, "--json"))["reused"] is True


# --- what it would cost ---------------------------------------------------------------------------------------------


def test_a_dry_run_counts_decks_writes_them_and_simulates_nothing(here: Path) -> None:
    arguments = ("opamp_macro", "--corners", "typ", "--dies", "40", "--measure", "open_loop", "--measure", "noise")
    cost = strict(call("characterise", *arguments, "--dry-run", "--json", "--out", "decks"))
    assert cost["exit_code"] == 0
    assert [row["measurement"] for row in cost["rows"]] == ["open_loop", "noise"]
    assert cost["decks"] == sum(row["decks"] for row in cost["rows"]) == len(list((here / "decks").iterdir()))
    assert cost["dies_needed"]["0.99"] == dies_needed(0.99) == 299
    assert cost["seconds"] > 0
    assert not (here / "runs").exists()
    done = strict(call("characterise", *arguments, "--json"))
    assert done["summary"]["copies"] == sum(row["copies"] for row in cost["rows"])
    plain = call("characterise", *arguments, "--dry-run").stdout
    assert all(text in plain for text in ("open_loop", "nothing simulated", "0.99: 299", TYPICAL))


@pytest.mark.parametrize("cell", ["opamp_2stage", "mos_synapse"])
def test_the_decks_of_a_dry_run_run_under_plain_ngspice(cell: str, here: Path) -> None:
    strict(call("characterise", cell, "--corners", "typ", "--dies", "2", "--dry-run", "--json", "--out", "decks"))
    folders = sorted((here / "decks").iterdir())
    ngspice = shutil.which(os.environ.get("ANALOG_DEQ_NGSPICE") or "ngspice")
    assert folders
    for folder in folders[:: max(1, len(folders) // 8)]:
        run = subprocess.run(
            [str(ngspice), "-b", "deck.cir"], cwd=folder, capture_output=True, text=True, timeout=60, check=False
        )
        assert run.returncode == 0, run.stderr
        assert "ANALOG_DEQ_DONE" in run.stdout
        assert (folder / "out.raw").stat().st_size > 0
        assert (folder / "command.txt").read_text().endswith("-b deck.cir\n")


# --- dies drawn by a model library ----------------------------------------------------------------------------------


def test_rows_of_library_drawn_dies_replay_to_every_digit(here: Path, request: pytest.FixtureRequest) -> None:
    try:
        load_cell("opamp_sky130")
    except SpecError as error:
        if os.environ.get("CI") or request.config.getoption("--require-ngspice"):
            pytest.fail(f"the sky130 models are required here: {error}", pytrace=False)
        pytest.skip(str(error))
    arguments = ("opamp_sky130", "--corners", "typ", "--dies", "3", "--no-sensitivity", "--measure", "open_loop")
    found = strict(call("characterise", *arguments, "--json"))
    table = Path(found["outputs"]["tables"]) / "quantities.parquet"
    rows = read_table(table).rows
    values = rows[rows["quantity"] == "gbw"].set_index("die")["value"]
    assert values.nunique() == 4, "three dies and the nominal cell, each its own"
    for row in rows[rows["variant"] == "die"].groupby("die").sample(1, random_state=2).index:
        assert replay("opamp_sky130", table, row, runs=here / "runs")["same"]
    alone = strict(call("characterise", *arguments[:3], "--die", "2", *arguments[5:], "--json"))
    one = read_table(Path(alone["outputs"]["tables"]) / "quantities.parquet").rows
    drawn = one[one["variant"] == "die"]["value"].to_numpy()
    same = rows[(rows["variant"] == "die") & (rows["die"] == 2)]["value"].to_numpy()
    assert np.array_equal(drawn, same), "one seed a die, simulated one after the other: equal bit for bit"
