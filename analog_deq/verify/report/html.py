"""The sign-off as one offline HTML page: verdict, what failed and how to replay it, the spec table, figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from analog_deq.verify.found import Drawing, Section
from analog_deq.verify.report.corners import corner_maps, sparkline
from analog_deq.verify.report.figures import ReportFigures
from analog_deq.verify.report.plots import draw_figures
from analog_deq.verify.report.rows import WORDS, Row, gravity, is_open, row_of
from analog_deq.verify.verdict import VerifyReport

VERDICT_SENTENCES = {
    "pass": "Every check that decides is inside its limit.",
    "fail": "At least one check that decides is outside its limit, or could not be shown to be inside.",
    "inconclusive": "No check failed, but for at least one the samples are too few, or the cells do not model it.",
}
LAST = ("attribution", "fix")
"""First word of the names of sections that end the page, before its provenance."""
NEAREST = 3
"""Passing checks named where nothing fails."""


def page_style() -> Markup:
    """The style sheet that every page of ours carries."""
    return Markup(resources.files("analog_deq.verify.report").joinpath("style.css").read_text(encoding="utf-8"))


def render_html(
    report: VerifyReport,
    figures: ReportFigures,
    drawings: Sequence[Drawing] = (),
    schematics: Sequence[Drawing] = (),
    files: Sequence[str] = (),
) -> str:
    """The whole page as text: no script, no request to anywhere.

    ``drawings`` are those of the checks themselves, ``schematics`` those of the cells and the array, ``files`` names
    of files beside the page that it should mention.
    """
    source = resources.files("analog_deq.verify.report").joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    rows = [row_of(check) for check in report.checks]
    drawn = [*draw_figures(figures), *drawings]
    last = [section for section in report.sections if _is_last(section)]
    page = environment.from_string(source).render(
        style=page_style(),
        report=report,
        sentence=VERDICT_SENTENCES[report.verdict],
        rows=rows,
        open_rows=sorted((row for row in rows if is_open(row.check)), key=gravity),
        nearest=_nearest(rows),
        counts=_counts(report),
        corners=corner_maps(report.checks),
        sparkline=lambda check: Markup(sparkline(check)),
        figures=[(d, Markup(d.svg)) for d in drawn if d.svg is not None],
        schematics=[(d, Markup(d.svg)) for d in schematics if d.svg is not None],
        absent=[d for d in drawn if d.svg is None],
        sections=[section for section in report.sections if section not in last],
        last=last,
        waivers=[row for row in rows if row.check.waived or row.check.lapsed],
        summary=[(key, show(value)) for key, value in report.summary.items()],
        provenance=list(_flat(report.provenance)),
        replays=_replays(report),
        files=files,
        named={section.name for section in report.sections},
    )
    return page.lstrip()


def _replays(report: VerifyReport) -> dict[str, list[str]]:
    """Ids of the checks by the command that simulates their worst sample again."""
    found: dict[str, list[str]] = {}
    for check in report.checks:
        if check.worst is not None and check.worst.replay:
            found.setdefault(check.worst.replay, []).append(check.id)
    return found


def sections_in_order(sections: Sequence[Section]) -> list[Section]:
    """The sections as they were made, those about what to mend first at the end."""
    return sorted(sections, key=_is_last)


def _is_last(section: Section) -> bool:
    """Whether it belongs at the end of the page: what the causes cost, and what to mend first."""
    return section.name.partition("_")[0] in LAST


def _nearest(rows: Sequence[Row]) -> list[Row]:
    """The checks that decide and pass, nearest to their limits: where the next trouble comes from."""
    passing = [
        row for row in rows if row.check.status == "pass" and row.check.decides and row.used and row.check.margin
    ]
    return sorted(passing, key=lambda row: -(row.used or 0.0))[:NEAREST]


def _counts(report: VerifyReport) -> str:
    parts = []
    for status, word in WORDS.items():
        count = sum(check.status == status for check in report.checks)
        if count:
            parts.append(f"{count} {word.lower()}")
    return ", ".join(parts) or "no check"


def show(value: Any) -> str:
    """A summary or provenance value as text; a missing one is a dash."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(show(item) for item in value)
    return str(value)


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", show(value)
