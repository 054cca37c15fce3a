"""``compare`` and ``baseline`` on real sign-offs: regressions first, exit codes, JSON, and bad input."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import Finished, snapshot

pytestmark = [pytest.mark.pipeline, pytest.mark.spice]


@pytest.fixture(scope="module")
def pair(tiny: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``a``, the sign-off of the tiny design, and ``b``, which judges the same samples more strictly."""
    folder = tmp_path_factory.mktemp("pair")
    shutil.copytree(tiny.signoff, folder / "a")
    shutil.copytree(tiny.signoff, folder / "b")
    path = folder / "b" / "report.json"
    report = json.loads(path.read_text())
    for check in report["checks"]:
        if check["id"] == "net.residual":
            check |= {"status": "fail", "limit": {"min": None, "typ": None, "max": 1e-9}, "margin": -1.0}
    path.write_text(json.dumps({**report, "verdict": "fail"}))
    samples = folder / "b" / "samples.csv"
    lines = samples.read_text().splitlines()
    fields = lines[1].split(",")
    fields[5] = "9" if fields[4] != "9" else "8"  # the first nominal image is now wrong
    samples.write_text("\n".join([lines[0], ",".join(fields), *lines[2:]]) + "\n")
    return folder


def test_a_check_that_got_worse_comes_first_and_is_exit_1(pair: Path, invoke) -> None:
    done = invoke("compare", "a", "b/report.json", "--json", cwd=pair)
    assert done.exit_code == 1, done.output
    found = json.loads(done.stdout)
    assert (found["command"], found["exit_code"], found["regressed"]) == ("compare", 1, ["net.residual"])
    assert (found["a"]["verdict"], found["b"]["verdict"]) == ("inconclusive", "fail")
    first = found["checks"][0]
    assert (first["id"], first["a"]["status"], first["b"]["status"]) == ("net.residual", "pass", "fail")
    assert (first["change"], first["unit"]) == (0.0, "%FS")
    nominal = next(p for p in found["paired"] if p["group"] == "nominal circuit")
    assert (nominal["n"], nominal["lost"] + nominal["gained"], nominal["p_value"]) == (72, 1, 1.0)


def test_the_same_or_better_is_exit_0(pair: Path, invoke) -> None:
    assert invoke("compare", "a", "a", cwd=pair).exit_code == 0
    better = invoke("compare", "b", "a", cwd=pair)
    assert better.exit_code == 0, better.output
    assert "fail -> pass" in better.stdout
    assert "compare: NO WORSE" in better.stdout


def test_a_baseline_is_held_against_later_runs(pair: Path, invoke) -> None:
    assert invoke("baseline", "list", cwd=pair).stdout.startswith("no baselines")
    saved = invoke("baseline", "save", "first", "a", "--json", cwd=pair)
    assert saved.exit_code == 0, saved.output
    assert json.loads(saved.stdout)["command"] == "baseline save"
    (listed,) = json.loads(invoke("baseline", "list", "--json", cwd=pair).stdout)["baselines"]
    assert (listed["name"], listed["design"], listed["verdict"]) == ("first", "tiny", "inconclusive")
    assert invoke("compare", "b", "--baseline", "first", cwd=pair).exit_code == 1
    assert invoke("compare", "a", "--baseline", "first", cwd=pair).exit_code == 0
    shutil.rmtree(pair / "baselines")


# ------------------------------------------------------------------ bad input


def nothing(folder: Path) -> None:
    pass


def changed(**changes: object) -> Callable[[Path], None]:
    """The report of b with some entries replaced."""

    def make(folder: Path) -> None:
        path = folder / "b" / "report.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return make


def cut(folder: Path) -> None:
    (folder / "b" / "report.json").write_text('{"schema": ')


def other_unit(folder: Path) -> None:
    path = folder / "b" / "report.json"
    path.write_text(path.read_text().replace('"unit": "%FS"', '"unit": "V"'))


CASES = {
    "no B": (nothing, ("compare", "a"), ("compare A with one of", "--baseline")),
    "two ways": (nothing, ("compare", "a", "b", "--baseline", "x"), ("compare A with one of",)),
    "one corner": (nothing, ("compare", "a", "--corner", "tt"), ("two of its --corner",)),
    "no such folder": (nothing, ("compare", "a", "nowhere"), ("is a sign-off", "nowhere", "two of a kind")),
    "no such corner": (nothing, ("compare", "a", "--corner", "x", "--corner", "y"), ("--corner x", "its corners are")),
    "no such baseline": (nothing, ("compare", "a", "--baseline", "x"), ("baseline 'x'", "there are: none")),
    "broken report": (cut, ("compare", "a", "b"), ("b/report.json", "not readable as JSON")),
    "other version": (changed(schema="analog_deq.verify_report/99"), ("compare", "a", "b"), ("b/report.json", "/99")),
    "altered verdict": (changed(verdict="pass"), ("compare", "a", "b"), ("says 'pass' but its checks say 'fail'",)),
    "other units": (other_unit, ("compare", "a", "b"), ("in '%FS' on one side and 'V' on the other",)),
    "baseline of nothing": (nothing, ("baseline", "save", "x", "nowhere"), ("nowhere",)),
    "baseline of a broken report": (cut, ("baseline", "save", "x", "b"), ("b/report.json", "not readable")),
    "baseline with a path for a name": (nothing, ("baseline", "save", "../x", "a"), ("../x", "use letters")),
}  # fmt: skip


@pytest.mark.parametrize(("make", "arguments", "words"), CASES.values(), ids=CASES)
def test_bad_input_is_one_error(
    pair: Path, tmp_path: Path, invoke, make: Callable[[Path], None], arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    work = Path(shutil.copytree(pair, tmp_path / "work"))
    make(work)
    before = snapshot(work)
    done = invoke(*arguments, cwd=work)
    assert (done.exit_code, done.stdout) == (2, ""), done.output
    assert done.stderr.count("Error: ") == 1
    assert [word for word in words if word not in done.stderr] == [], done.stderr
    assert snapshot(work) == before


def test_two_limits_files_of_one_network(simulated: Path, tiny: Finished, invoke) -> None:
    """A sign-off made again with one limit out of reach, from the command line to the comparison."""
    text = (simulated / "limits.toml").read_text()
    head, tail = text.split('id = "net.residual"')
    (simulated / "strict.toml").write_text(head + 'id = "net.residual"' + tail.replace("max = 0.01", "max = 1e-9", 1))
    verify = ("verify", "net.safetensors", "--design", "tiny.toml", "--proxy", "proxy.json", "--limits", "strict.toml")
    assert invoke(*verify, "--out", "strict", cwd=simulated).exit_code == 1
    done = invoke("compare", str(tiny.signoff), "strict", "--json", cwd=simulated)
    assert done.exit_code == 1, done.output
    found = json.loads(done.stdout)
    assert (found["regressed"], found["differs"]) == (["net.residual"], ["limits"])
    assert [row["id"] for row in found["checks"] if row["move"] != "same"] == []
    assert all(pair["lost"] == pair["gained"] == 0 for pair in found["paired"])
    assert len(found["paired"]) == 3
