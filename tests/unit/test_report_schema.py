"""The schema of report.json: what is written fits it, what does not is named by its place, the docs are in step."""

from __future__ import annotations

import copy
import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from analog_deq.errors import SchemaError
from analog_deq.verify.found import Section
from analog_deq.verify.report_schema import ReportFile, require_report
from analog_deq.verify.verdict import Check, VerifyReport, Worst

ROOT = Path(__file__).resolve().parents[2]
WORST = Worst("nominal, ss", None, 3, "decks/x/deck.cir", "analog-deq replay decks/x", "ss")
CHECKS = (
    Check("net.accuracy", "accuracy", "%", 95.0, 90.0, None, 100, (90.0, 98.0), "pass", 5.0, "", "error", "interval"),
    Check(
        "net.corner_err", "error", "%FS", 0.5, None, 1.0, 100, None, "fail", -0.2, "outside", "error", "each", WORST, 1,
        "", 0.1, {"tt": 0.5, "ss": 1.2, "ff": None}, "ss", "its waiver expired",
    ),
    Check("net.energy", "energy", "J", None, None, None, 0, None, "not_measured", None, "", "info", "each"),
)  # fmt: skip


@pytest.fixture
def data() -> dict[str, Any]:
    section = Section("s", "title", "text", ("a", "b"), (("1", "2"),))
    report = VerifyReport(
        CHECKS, {"seed": 1, "inputs": {"limits": "0"}}, "t", "d", {"a": 1.0}, (section,), ("corners",)
    )
    return json.loads(json.dumps(report.to_dict()))


def test_what_is_written_fits_and_comes_back(data: dict[str, Any]) -> None:
    require_report(data)
    assert VerifyReport.from_dict(data).checks == CHECKS


def test_every_field_that_is_written_is_in_the_schema_and_the_other_way_round(data: dict[str, Any]) -> None:
    model = ReportFile.model_validate(data)
    dumped = json.loads(model.model_dump_json(by_alias=True, exclude_unset=True))
    assert dumped == data
    fields = ReportFile.model_json_schema(by_alias=True)
    assert fields["required"] == list(data)
    assert set(fields["$defs"]["CheckFields"]["required"]) == set(data["checks"][0])
    assert all("description" in f for f in fields["$defs"]["CheckFields"]["properties"].values())


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("schema",), "analog_deq.verify_report/1", "this version reads 'analog_deq.verify_report/2'; verify again"),
        (("schema",), None, "schema is None"),
        (("verdict",), "great", "verdict: 'great': Input should be 'pass'"),
        (("checks", 0, "value"), "95", "checks[net.accuracy].value: '95': Input should be a valid number"),
        (("checks", 0, "value"), float("nan"), "checks[net.accuracy].value: nan"),
        (("checks", 1, "limit", "max"), "DELETE", "checks[net.corner_err].limit.max: missing"),
        (("checks", 1, "by_corner", "ss"), "bad", "checks[net.corner_err].by_corner.ss: 'bad'"),
        (("checks", 1, "worst", "die"), -1, "checks[net.corner_err].worst.die: -1"),
        (("checks", 0, "n"), 1.5, "checks[net.accuracy].n: 1.5"),
        (("checks", 0, "interval"), [1.0], "checks[net.accuracy].interval: [1.0]"),
        (("checks", 0, "status"), "ok", "checks[net.accuracy].status: 'ok'"),
        (("checks", 0, "extra"), 1, "checks[net.accuracy].extra: unknown entry"),
        (("checks",), {}, "checks: {}: Input should be a valid list"),
        (("sections", 0, "rows"), [[1]], "sections[s].rows[0][0]: 1: Input should be a valid string"),
        (("provenance",), "DELETE", "provenance: missing"),
        (("provenance", "inputs", "limits"), 3, "provenance.inputs.limits: 3"),
    ],
)
def test_what_does_not_fit_is_named_by_its_place(
    data: dict[str, Any], path: tuple[str | int, ...], value: object, words: str
) -> None:
    changed = copy.deepcopy(data)
    place: Any = changed
    for part in path[:-1]:
        place = place[part]
    if value == "DELETE":
        del place[path[-1]]
    else:
        place[path[-1]] = value
    with pytest.raises(SchemaError) as refused:
        VerifyReport.from_dict(changed)
    assert words in str(refused.value)


@pytest.mark.parametrize("data_", [[], "text", None, {}])
def test_what_is_no_report_at_all(data_: Any) -> None:
    with pytest.raises(SchemaError, match="schema is None"):
        VerifyReport.from_dict(data_)


def test_many_wrong_entries_are_counted(data: dict[str, Any]) -> None:
    for name in ("value", "n", "unit", "status", "margin", "detail", "waived"):
        del data["checks"][0][name]
    with pytest.raises(SchemaError, match=r"unit: missing; .*; and 2 more; the file was edited or truncated"):
        require_report(data)


def test_the_documents_are_in_step() -> None:
    tool = runpy.run_path(str(ROOT / "tools/report_schema.py"))
    for name, text in (("report.schema.json", tool["schema_text"]()), ("report.md", tool["page_text"]())):
        assert (ROOT / "docs" / name).read_text(encoding="utf-8") == text, f"docs/{name}: run `make docs`"
