"""``replay``: any sample of a sign-off, simulated again from its folder alone, to the recorded digits."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from harness import Finished, run_cli, snapshot

pytestmark = [pytest.mark.pipeline, pytest.mark.spice]

ROWS = 72 + 2 * 3 * 10
Make = Callable[[Path], None]


@pytest.fixture
def signoff(tiny: Finished, tmp_path: Path) -> Path:
    """The sign-off alone, moved to another place: no runs, no design, no proxy beside it."""
    return Path(shutil.copytree(tiny.signoff, tmp_path / "moved" / "signoff"))


def test_random_rows_have_their_recorded_digits_in_a_process_of_its_own(signoff: Path) -> None:
    done = run_cli("replay", str(signoff), "--random", "20", "--seed", "3", "--json", cwd=signoff.parent)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    recorded = pd.read_csv(signoff / "samples.csv", dtype=str, keep_default_na=False)
    assert len({row["row"] for row in found["rows"]}) == 20
    assert {row["trim"] for row in found["rows"]} == {"none", "trimmed"}
    digits = []
    for row in found["rows"]:
        line = recorded.loc[row["row"]].to_dict()
        assert line == {"die": row["die"], "trim": row["trim"], "image": row["image"], **row["replayed"]}
        digits.append(len(re.sub(r"e.*|\.", "", row["replayed"]["rms_error_percent_fs"]).lstrip("0")))
    assert np.median(digits) == 9  # what samples.csv is written with; a trailing zero is not
    assert found["recorded_by"] == found["replayed_by"]
    assert not (signoff.parent / "runs").exists(), "nothing is kept, so nothing can be reused"


def test_a_changed_digit_is_found_and_exit_1(signoff: Path, invoke) -> None:
    path = signoff / "samples.csv"
    lines = path.read_text().splitlines()
    was = lines[6].split(",")[6]
    digit = was[5]
    now = was[:5] + str((int(digit) + 1) % 10) + was[6:]
    lines[6] = lines[6].replace(was, now)
    path.write_text("\n".join(lines) + "\n")
    done = invoke("replay", "signoff", "--row", "5", "--row", "6", cwd=signoff.parent)
    assert done.exit_code == 1, done.output
    assert "digits: DIFFERENT  (1 of 2 samples as recorded)" in done.stdout
    assert {now, was} <= set(done.stdout.split())


def test_the_sample_that_decided_a_check(signoff: Path, invoke) -> None:
    (check,) = [
        c for c in json.loads((signoff / "report.json").read_text())["checks"] if c["id"] == "net.fixed_point_max"
    ]
    done = invoke("replay", "signoff/report.json", "--check", "net.fixed_point_max", "--json", cwd=signoff.parent)
    assert done.exit_code == 0, done.output
    row, alone = json.loads(done.stdout)["rows"]
    assert (row["die"], row["image"]) == ("-1", str(check["worst"]["input"]))
    assert alone["deck"] == f"equilibrium-image{row['image']}"
    assert float(row["replayed"]["rms_error_percent_fs"]) <= check["value"]  # the root mean square over the nodes


def test_every_deck_alone_gives_its_recorded_digits(signoff: Path, invoke) -> None:
    checks = json.loads((signoff / "report.json").read_text())["checks"]
    lines = {check["replay"] for check in checks if check["replay"]}
    failing = pd.read_csv(signoff / "failures.csv", keep_default_na=False)["deck"]
    of_rows = {path.split("/")[1] for path in failing[failing != ""]}
    of_checks = {line.removeprefix("analog-deq replay decks/") for line in lines}
    assert of_checks | of_rows == {path.name for path in (signoff / "decks").iterdir()}
    untrimmed = [name for name in of_rows if name.endswith("-untrimmed")]
    decks = sorted(of_checks | {min(of_rows), min(untrimmed)})
    assert {name.split("-")[0] for name in decks} == {"equilibrium", "transient", "noise"}
    for name in decks:
        done = invoke("replay", f"decks/{name}", "--json", cwd=signoff)
        assert done.exit_code == 0, done.output
        (row,) = json.loads(done.stdout)["rows"]
        assert (row["row"], row["deck"], row["recorded"]["status"]) == (None, name, "ok")
        assert len(row["recorded"]) > 2
        if name.startswith("equilibrium-image") and "die" not in name:  # another start, the same equilibrium
            image = name.removeprefix("equilibrium-image")
            sample = pd.read_csv(signoff / "samples.csv").query(f"die == -1 and image == {image}").iloc[0]
            assert int(row["replayed"]["predicted"]) == sample["predicted"]
            assert float(row["replayed"]["rms_error_percent_fs"]) == pytest.approx(
                sample["rms_error_percent_fs"], abs=1e-3
            )


def test_a_check_of_transients_is_replayed_by_its_deck(signoff: Path, invoke) -> None:
    done = invoke("replay", ".", "--check", "net.settle_end", "--json", cwd=signoff)
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)["rows"]
    (check,) = [c for c in json.loads((signoff / "report.json").read_text())["checks"] if c["id"] == "net.settle_end"]
    assert float(row["replayed"]["end_error_percent_fs"]) == pytest.approx(check["value"], rel=0.05, abs=1e-4)
    assert 0 < float(row["replayed"]["settling_time_s"]) < 1e-4


def test_every_failing_row_has_a_line_that_replays_it(signoff: Path, invoke) -> None:
    failures = pd.read_csv(signoff / "failures.csv", dtype=str, keep_default_na=False)
    lines = failures["replay"].tolist()
    assert lines, "the tiny network misclassifies some of its 72 images"
    rows = [line.removeprefix("analog-deq replay . ").split() for line in lines[:8]]
    done = invoke("replay", ".", *(word for row in rows for word in row), "--json", cwd=signoff)
    assert done.exit_code == 0, done.output
    for row, (_, failure) in zip(json.loads(done.stdout)["rows"], failures.iterrows(), strict=False):
        assert {name: failure[name] for name in row["replayed"]} == row["replayed"]
        assert (row["die"], row["image"]) == (failure["die"], failure["image"])


def test_an_altered_deck_is_refused(signoff: Path, invoke) -> None:
    deck = next((signoff / "decks").glob("noise-*")) / "deck.cir"
    deck.write_text(deck.read_text().replace("1e", "2e", 1))
    done = invoke("replay", str(deck.parent), cwd=signoff)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "the deck or a cell beside it was altered" in done.stderr
    both = invoke("replay", str(deck.parent), "--row", "1", cwd=signoff)
    assert both.exit_code == 2
    assert "is one deck" in both.stderr


def test_one_die_whole_and_one_image_of_it(signoff: Path, invoke) -> None:
    done = invoke("replay", "signoff", "--die", "1", "--json", cwd=signoff.parent)
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["rows"]
    assert len(rows) == 20
    image = rows[4]["image"]
    done = invoke("replay", "signoff", "--die", "1", "--image", image, "--trim", "--json", cwd=signoff.parent)
    (row,) = json.loads(done.stdout)["rows"]
    assert (row["die"], row["trim"], row["image"], row["same"]) == ("1", "trimmed", image, True)


CORNERS = """\
schema = 1
[campaign]
corners = ["ss_125C_1p8V"]
corner_images = 4
corner_dies = 1
[[check]]
id = "net.corner_err"
quantity = "change of the states at corners"
unit = "%FS"
"""


def test_samples_at_corners_of_the_nominal_circuit_and_of_a_die(simulated: Path, invoke) -> None:
    (simulated / "corners.toml").write_text(CORNERS)
    verify = ("verify", "net.safetensors", "--design", "tiny.toml", "--proxy", "proxy.json", "--limits", "corners.toml")
    made = invoke(*verify, "--out", "signoff", cwd=simulated)
    assert made.exit_code == 4, made.output  # nothing is judged, so nothing is shown
    recorded = pd.read_csv(simulated / "signoff" / "corners.csv", dtype=str, keep_default_na=False)
    for die in ("-1", "0"):
        own = recorded[(recorded["corner"] == "ss_125C_1p8V") & (recorded["die"] == die)]
        which = ("--image", own["image"].iloc[1]) if die == "-1" else ("--die", die)
        done = invoke("replay", "signoff", "--corner", "ss_125C_1p8V", *which, "--json", cwd=simulated)
        assert done.exit_code == 0, done.output
        rows = json.loads(done.stdout)["rows"]
        assert [row["row"] for row in rows] == (list(own.index)[1:2] if die == "-1" else list(own.index))
        assert all(float(row["replayed"]["rms_change_percent_fs"]) > 0.01 for row in rows)
    refused = invoke("replay", "signoff", "--corner", "hot", "--image", "1", cwd=simulated)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "--corner hot: not in signoff/corners.csv; its corners are tt_27C_1p8V, ss_125C_1p8V" in refused.stderr


# ------------------------------------------------------------------ bad input


def nothing(folder: Path) -> None:
    pass


def report(**changes: object) -> Make:
    def make(folder: Path) -> None:
        path = folder / "report.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return make


def broken_report(folder: Path) -> None:
    (folder / "report.json").write_text((folder / "report.json").read_text()[:300])


def without(name: str) -> Make:
    return lambda folder: (folder / name).unlink()


def without_inputs(folder: Path) -> None:
    shutil.rmtree(folder / "inputs")


def edited(name: str, old: str, new: str) -> Make:
    def make(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return make


CHECK = ("--check", "net.fixed_point_max")
CASES = {
    "no way": (nothing, (), ("--row, --check, --image or --die, --random", "none of them")),
    "two ways": (nothing, ("--row", "1", *CHECK), ("--row and --check is given",)),
    "trim alone": (nothing, ("--row", "1", "--trim"), ("--trim belongs to --die",)),
    "row out of range": (nothing, ("--row", str(ROWS)), (f"--row {ROWS}", f"rows 0 to {ROWS - 1}")),
    "unknown check": (nothing, ("--check", "net.nope"), ("net.nope", "it has", "net.accuracy")),
    "check without a sample": (nothing, ("--check", "net.gamma"), ("net.gamma", "none of which decides it")),
    "unknown die": (nothing, ("--die", "9"), ("--die 9", "-1, 0, 1, 2")),
    "image not on that die": (nothing, ("--die", "0", "--image", "999"), ("--image 999", "die 0", "its images are")),
    "trim of the nominal circuit": (nothing, ("--image", "3", "--trim"), ("has none", "--die")),
    "corner of none": (nothing, ("--image", "3", "--corner", "hot"), ("--corner hot: no", "corners.csv")),
    "corner alone": (nothing, ("--random", "3", "--corner", "hot"), ("--corner needs",)),
    "cell of a sign-off": (nothing, ("--row", "1", "--cell", "opamp_macro"), ("--cell belongs to",)),
    "no inputs": (without_inputs, ("--row", "1"), ("run.json: missing", "run verify again")),
    "no samples": (without("samples.csv"), ("--row", "1"), ("samples.csv", "run verify again")),
    "broken report": (broken_report, CHECK, ("report.json", "not readable as JSON", "run verify again")),
    "other version": (report(schema="analog_deq.verify_report/99"), CHECK, ("report.json", "verify_report/99")),
    "altered verdict": (report(verdict="pass"), CHECK, ("report.json", "its checks say", "altered")),
    "other inputs version": (edited("inputs/run.json", "inputs/1", "inputs/9"), ("--row", "1"), ("upgrade",)),
    "altered proxy": (edited("inputs/proxy.json", "0", "1"), ("--row", "1"), ("proxy.json", "not the file")),
    "another cell": (edited("inputs/run.json", '"opamp_macro"', '"opamp_boyle"'), ("--row", "1"), ("cell of opamp",)),
    "not a sign-off": (without("report.json"), ("--row", "1"), ("no report.json there",)),
}  # fmt: skip


@pytest.mark.parametrize(("make", "arguments", "words"), CASES.values(), ids=CASES)
def test_bad_input_is_one_error(
    signoff: Path, invoke, make: Make, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    make(signoff)
    before = snapshot(signoff.parent)
    done = invoke("replay", "signoff", *arguments, cwd=signoff.parent)
    assert (done.exit_code, done.stdout) == (2, ""), done.output
    assert done.stderr.count("Error: ") == 1
    assert [word for word in words if word not in done.stderr] == [], done.stderr
    assert snapshot(signoff.parent) == before


def test_no_simulator_is_exit_3(signoff: Path, invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANALOG_DEQ_NGSPICE", "/no/such/ngspice")
    done = invoke("replay", "signoff", "--row", "1", cwd=signoff.parent)
    assert done.exit_code == 3
    assert "apt-get install ngspice" in done.stderr


def test_a_simulation_that_now_fails_differs_from_the_one_recorded(signoff: Path, invoke, fake_ngspice) -> None:
    fake_ngspice("exit 1")
    done = invoke("replay", "signoff", "--image", "0", "--json", cwd=signoff.parent)
    assert done.exit_code == 1
    (row,) = json.loads(done.stdout)["rows"]
    assert row["recorded"]["status"] == "ok"
    assert row["replayed"]["status"] != "ok"
    assert row["replayed"]["rms_error_percent_fs"] == "nan"
    assert np.isnan(float(row["replayed"]["supply_w"]))
