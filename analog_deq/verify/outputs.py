"""Write a sign-off to its folder: for programs, for continuous integration, for spreadsheets, and for people."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd

from analog_deq.verify.found import Drawing
from analog_deq.verify.report.figures import ReportFigures
from analog_deq.verify.report.html import VERDICT_SENTENCES, render_html, sections_in_order
from analog_deq.verify.report.rows import row_of
from analog_deq.verify.verdict import Check, VerifyReport
from analog_deq.verify.waves import Wave, file_names, write_waves

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
    provenance_json: Path


def write_outputs(
    report: VerifyReport,
    figures: ReportFigures,
    samples: pd.DataFrame,
    failures: pd.DataFrame,
    folder: Path,
    tables: Mapping[str, pd.DataFrame] = NO_TABLES,
    drawings: Sequence[Drawing] = (),
    schematics: Sequence[Drawing] = (),
    waves: Sequence[Wave] = (),
) -> OutputPaths:
    """Paths of the seven files written into ``folder``, which is made if absent, beside a CSV of each of ``tables`` and
    the ``waves``.

    Every text is made before the first file is written, and each file appears whole: a crash leaves no half report.
    """
    paths = OutputPaths(*(folder / name for name in (
        "report.json", "report.html", "junit.xml", "samples.csv", "failures.csv", "signoff.md", "provenance.json",
    )))  # fmt: skip
    content = _rounded(report.to_dict())
    beside = [paths.samples_csv.name, paths.failures_csv.name, *(f"{name}.csv" for name in tables), *file_names(waves)]
    texts = {
        paths.report_json: _json(content),
        paths.report_html: render_html(report, figures, drawings, schematics, beside),
        paths.junit_xml: junit_text(report),
        paths.samples_csv: csv_text(samples),
        paths.failures_csv: csv_text(failures),
        paths.signoff_md: markdown_text(report),
        paths.provenance_json: _json({"design": report.design, "verdict": report.verdict, **content["provenance"]}),
        **{folder / f"{name}.csv": csv_text(table) for name, table in tables.items()},
    }
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        temporary = path.with_name(f".{path.name}.part")
        temporary.write_text(text, encoding="utf-8", newline="\n")
        temporary.replace(path)
    write_waves(waves, folder)
    return paths


def junit_text(report: VerifyReport) -> str:
    """JUnit XML, one testcase a check. Only a check that decides is a failure; inconclusive is skipped."""
    suite = ElementTree.Element("testsuite", name=_xml(f"analog-deq verify {report.design}"))
    failures = skipped = 0
    for check in report.checks:
        group, _, name = check.id.partition(".")
        case = ElementTree.SubElement(suite, "testcase", classname=group, name=_xml(name or group))
        properties = ElementTree.SubElement(case, "properties")
        for key, value in _properties(check).items():
            ElementTree.SubElement(properties, "property", name=key, value=_xml(value))
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
    """The verdict, what failed, the spec table, the waivers and the sections as Markdown, for a merge request."""
    rows = [row_of(check) for check in report.checks]
    lines = [
        f"# {report.verdict.upper()}: {report.title}", "",
        f"Design {report.design}. {VERDICT_SENTENCES[report.verdict]}", "",
    ]  # fmt: skip
    columns = ("check", "status", "measured", "limit", "interval", "n", "margin")
    lines += _markdown_table(
        columns,
        (
            (r.check.id, r.status + (" (waived)" if r.check.waived else ""), r.value, r.limit, r.interval,
             str(r.check.n), r.margin + (f" at {r.check.worst_corner}" if r.check.worst_corner else ""))
            for r in rows
        ),
    )  # fmt: skip
    for check in report.checks:
        if check.status in {"fail", "inconclusive", "not_modelled"}:
            lines += ["", f"**{check.id}**: {_message(check)}"]
            lines += ["", *(f"    {line}" for line in _where(check).splitlines())] if check.worst else []
    waived = [(c.id, "in force" if c.waived else "EXPIRED", c.waived or c.lapsed) for c in report.checks
              if c.waived or c.lapsed]  # fmt: skip
    if waived:
        lines += ["", "## Waivers", "", *_markdown_table(("check", "waiver", "reason (name, last day)"), waived)]
    for section in sections_in_order(report.sections):
        lines += ["", f"## {section.title}", ""] + ([section.text, ""] if section.text else [])
        lines += _markdown_table(section.columns, section.rows) if section.rows else []
    return "\n".join(lines).rstrip() + "\n"


def _properties(check: Check) -> dict[str, str]:
    """What a program may want of a check, in SI units, by name; what there is not is left out."""
    found: dict[str, object] = {
        "unit": check.unit, "value": check.value, "min": check.min, "typ": check.typ, "max": check.max,
        "margin": check.margin, "n": check.n, "failed_samples": check.failed_samples, "status": check.status,
        "severity": check.severity, "judge": check.judge, "worst_corner": check.worst_corner,
    }  # fmt: skip
    if check.interval is not None:
        found |= {"interval_low": check.interval[0], "interval_high": check.interval[1]}
    return {
        key: f"{v:.{_DIGITS}g}" if isinstance(v, float) else str(v) for key, v in found.items() if v not in (None, "")
    }


def _markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table; a bar or a line break in a cell does not end it."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return [line(columns), "|" + "---|" * len(columns), *map(line, rows)]


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


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


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
