"""Write a sign-off to its folder: for programs, for continuous integration, for spreadsheets, and for people."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd

from analog_deq.verify.found import Drawing
from analog_deq.verify.report.figures import ReportFigures
from analog_deq.verify.report.html import VERDICT_SENTENCES, render_html
from analog_deq.verify.report.rows import row_of
from analog_deq.verify.verdict import Check, VerifyReport

NO_TABLES: Mapping[str, pd.DataFrame] = {}
_DIGITS = 9
"""Significant digits written. More would show the last bits of a BLAS sum, which differ between machines."""
_NOT_XML = re.compile(r"[^\t\n\r\x20-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]")


@dataclass(frozen=True, slots=True)
class OutputPaths:
    """Where each file of a sign-off lies."""

    report_json: Path
    report_html: Path
    junit_xml: Path
    samples_csv: Path
    failures_csv: Path
    signoff_md: Path


def write_outputs(
    report: VerifyReport,
    figures: ReportFigures,
    samples: pd.DataFrame,
    failures: pd.DataFrame,
    folder: Path,
    tables: Mapping[str, pd.DataFrame] = NO_TABLES,
    drawings: Sequence[Drawing] = (),
) -> OutputPaths:
    """Paths of the six files written into ``folder``, which is made if absent, beside a CSV of each of ``tables``.


    Every text is made before the first file is written, and each file appears whole: a crash leaves no half report.
    """
    paths = OutputPaths(*(folder / name for name in (
        "report.json", "report.html", "junit.xml", "samples.csv", "failures.csv", "signoff.md",
    )))  # fmt: skip
    texts = {
        paths.report_json: json.dumps(_rounded(report.to_dict()), indent=2, allow_nan=False, ensure_ascii=False) + "\n",
        paths.report_html: render_html(report, figures, drawings),
        paths.junit_xml: junit_text(report),
        paths.samples_csv: csv_text(samples),
        paths.failures_csv: csv_text(failures),
        paths.signoff_md: markdown_text(report),
        **{folder / f"{name}.csv": csv_text(table) for name, table in tables.items()},
    }
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        temporary = path.with_name(f".{path.name}.part")
        temporary.write_text(text, encoding="utf-8", newline="\n")
        temporary.replace(path)
    return paths


def junit_text(report: VerifyReport) -> str:
    """JUnit XML, one testcase a check. Only a check that decides is a failure; inconclusive is skipped."""
    suite = ElementTree.Element("testsuite", name=_xml(f"analog-deq verify {report.design}"))
    failures = skipped = 0
    for check in report.checks:
        group, _, name = check.id.partition(".")
        case = ElementTree.SubElement(suite, "testcase", classname=group, name=_xml(name or group))
        if check.status == "fail" and check.decides:
            failures += 1
            element = ElementTree.SubElement(case, "failure", message=_xml(_message(check)), type="limit")
            element.text = _xml(_where(check))
        elif check.status in {"fail", "inconclusive", "not_measured", "not_modelled"}:
            skipped += 1
            word = check.status.replace("_", " ") + ("" if check.decides else " (does not decide)")
            ElementTree.SubElement(case, "skipped", message=_xml(f"{word}: {_message(check)}"))
        else:
            ElementTree.SubElement(case, "system-out").text = _xml(_message(check))
    for key, count in (("tests", len(report.checks)), ("failures", failures), ("errors", 0), ("skipped", skipped)):
        suite.set(key, str(count))
    ElementTree.indent(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"


def markdown_text(report: VerifyReport) -> str:
    """The verdict and the spec table as Markdown, small enough for a merge request."""
    lines = [
        f"# {report.verdict.upper()}: {report.title}",
        "",
        f"Design {report.design}. {VERDICT_SENTENCES[report.verdict]}",
        "",
        "| check | status | measured | limit | interval | n | margin |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in map(row_of, report.checks):
        check = row.check
        status = row.status + (" (waived)" if check.waived else "")
        lines.append(_md_row((check.id, status, row.value, row.limit, row.interval, str(check.n), row.margin)))
    for check in report.checks:
        if check.status in {"fail", "inconclusive", "not_modelled"}:
            lines += ["", f"**{check.id}**: {_message(check)}"]
            lines += ["", *(f"    {line}" for line in _where(check).splitlines())] if check.worst else []
    for section in report.sections:
        lines += ["", f"## {section.title}", "", section.text, ""]
        lines += [_md_row(section.columns), _md_row(["---"] * len(section.columns)), *map(_md_row, section.rows)]
    return "\n".join(lines) + "\n"


def _md_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _message(check: Check) -> str:
    row = row_of(check)
    text = f"{check.quantity}: {row.value}, limit {row.limit}, n {check.n}"
    text += f", margin {row.margin}" if check.margin is not None else ""
    text += f"; {check.detail}" if check.detail else ""
    return text + (f"; waived: {check.waived}" if check.waived else "")


def _where(check: Check) -> str:
    if check.worst is None:
        return "no single worst sample"
    worst = check.worst
    parts = [worst.condition or "the only condition"]
    parts += [f"die {worst.die}"] if worst.die is not None else []
    parts += [f"input {worst.input}"] if worst.input is not None else []
    parts += [f"deck {worst.deck}"] if worst.deck else []
    return "worst: " + ", ".join(parts) + (f"\nreplay: {worst.replay}" if worst.replay else "")


def csv_text(table: pd.DataFrame) -> str:
    """A table as the sign-off writes it: nine significant digits, ``nan`` where there is no number."""
    return table.to_csv(index=False, float_format=f"%.{_DIGITS}g", na_rep="nan", lineterminator="\n")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def _xml(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
