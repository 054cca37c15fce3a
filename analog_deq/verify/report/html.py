"""The sign-off as one offline HTML page: verdict, what failed and how to replay it, the spec table, figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from analog_deq.units import engineering
from analog_deq.verify.found import Drawing
from analog_deq.verify.report.figures import ReportFigures
from analog_deq.verify.report.plots import draw_figures
from analog_deq.verify.verdict import Check, VerifyReport

VERDICT_SENTENCES = {
    "pass": "Every check that decides is inside its limit.",
    "fail": "At least one check that decides is outside its limit, or could not be shown to be inside.",
    "inconclusive": "No check failed, but for at least one the samples are too few, or the cells do not model it.",
}
_WORDS = {
    "pass": "pass", "fail": "FAIL", "inconclusive": "inconclusive", "info": "info", "not_measured": "not measured",
    "not_modelled": "not modelled",
}  # fmt: skip


_OPEN = ("fail", "inconclusive", "not_modelled")


@dataclass(frozen=True, slots=True)
class Row:
    """A check in the words and widths of the page. ``used`` is the share of the allowance taken, in per cent."""

    check: Check
    status: str
    value: str
    low: str
    high: str
    limit: str
    interval: str
    margin: str
    used: float | None


def page_style() -> Markup:
    """The style sheet that every page of ours carries."""
    return Markup(resources.files("analog_deq.verify.report").joinpath("style.css").read_text(encoding="utf-8"))


def render_html(report: VerifyReport, figures: ReportFigures, drawings: Sequence[Drawing] = ()) -> str:
    """The whole page as text: no script, no request to anywhere. ``drawings`` follow the figures."""
    source = resources.files("analog_deq.verify.report").joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    rows = [row_of(check) for check in report.checks]
    drawn = [
        {"name": d.name, "title": d.title, "caption": d.caption, "svg": None if d.svg is None else Markup(d.svg)}
        for d in (*draw_figures(figures), *drawings)
    ]
    return environment.from_string(source).render(
        style=page_style(),
        report=report,
        sentence=VERDICT_SENTENCES[report.verdict],
        rows=rows,
        open_rows=sorted((row for row in rows if _is_open(row.check)), key=_gravity),
        counts=_counts(report),
        figures=drawn,
        summary=[(key, show(value)) for key, value in report.summary.items()],
        provenance=list(_flat(report.provenance)),
        replays=[row for row in rows if row.check.worst is not None and row.check.worst.replay],
    )


def row_of(check: Check) -> Row:
    """The texts of one row: engineering units, four significant figures."""
    unit = check.unit
    limits = []
    if check.min is not None:
        limits.append(f"≥ {_number(check.min, unit)}")
    if check.max is not None:
        limits.append(f"≤ {_number(check.max, unit)}")
    interval = "-" if check.interval is None else _span(*check.interval, unit)
    margin = "-" if check.margin is None else f"{'+' if check.margin >= 0 else ''}{_number(check.margin, unit, 3)}"
    return Row(
        check, _WORDS[check.status], _number(check.value, unit), _number(check.min, unit), _number(check.max, unit),
        " and ".join(limits) or "none", interval, margin, _used(check),
    )  # fmt: skip


def _used(check: Check) -> float | None:
    """Share of the allowance that is used, 100 at the limit; None where no allowance can be named."""
    if check.margin is None or check.status in {"info", "not_measured", "not_modelled"}:
        return None
    if check.min is not None and check.max is not None:
        allowance = (check.max - check.min) / 2
    elif check.max is not None:
        allowance = abs(check.max)
    elif check.unit == "%" and check.min is not None:
        allowance = 100.0 - check.min
    else:
        allowance = abs(check.min or 0.0)
    if allowance == 0:
        return 0.0 if check.margin >= 0 else 200.0
    return max(0.0, min(200.0, 100.0 * (1.0 - check.margin / allowance)))


def _is_open(check: Check) -> bool:
    return check.status in _OPEN and (check.decides or check.status != "not_modelled")


def _gravity(row: Row) -> tuple[bool, int]:
    """What decides the verdict comes first, and a fail before an inconclusive."""
    return not row.check.decides, _OPEN.index(row.check.status)


def _number(value: float | None, unit: str, digits: int = 4) -> str:
    return engineering(value, unit, digits)


def _span(low: float, high: float, unit: str) -> str:
    """``0.04 to 0.05 %FS``: the unit once where both ends share it."""
    first, last = _number(low, unit, 3), _number(high, unit, 3)
    head, _, tail = first.partition(" ")
    return f"{head} to {last}" if last.endswith(f" {tail}") else f"{first} to {last}"


def _counts(report: VerifyReport) -> str:
    parts = []
    for status, word in _WORDS.items():
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
