"""What a person reads of sign-offs: what one would cost, samples simulated again, two side by side, baselines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from analog_deq.console import format_value

if TYPE_CHECKING:
    from analog_deq.pipeline.baselines import Baseline
    from analog_deq.pipeline.compare import Comparison
    from analog_deq.pipeline.forecast_signoff import SignoffForecast
    from analog_deq.pipeline.replay_signoff import Replayed, ReplayedRow
    from analog_deq.verify.delta import Delta
    from analog_deq.verify.pairs import Paired

WIDE = 110
"""Columns a terminal has when a comparison's table shows all it has."""
FACTOR = 10
"""A change by more than so many times is no longer shown in per cent."""
MOST_IN_FULL = 4
"""Up to so many rows are shown column by column; of more, only the columns that differ."""


def render_forecast(console: Console, cost: SignoffForecast) -> None:
    """Prints what a sign-off would simulate, how long it may take, and the samples each claim needs."""
    table = Table(
        title=f"{cost.design}: nothing simulated", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD
    )
    table.add_column("what")
    for name in ("simulations", "decks", "core time"):
        table.add_column(name, justify="right")
    for kind in cost.kinds:
        table.add_row(kind.what, str(kind.simulations), str(kind.decks), format_value(kind.core_s, "s"))
    console.print(table)
    console.print(f"about {format_value(cost.seconds, 's')} on {cost.jobs} processes, a guide", markup=False)
    if cost.checks:
        console.print(f"on top, the checks {', '.join(cost.checks)}", markup=False, soft_wrap=True)
    for need in cost.needs:
        console.print(need.statement(), markup=False, soft_wrap=True, style="" if need.enough else "bold red")


def render_replayed(console: Console, found: Replayed) -> None:
    """Prints every row with its recorded and its new digits, and whether all are equal."""
    if len(found.rows) <= MOST_IN_FULL:
        for row in found.rows:
            _render_row(console, row)
    else:
        _render_rows(console, found)
    equal = sum(row.same for row in found.rows)
    if found.recorded_by != found.replayed_by:
        console.print(f"recorded by {found.recorded_by}, replayed by {found.replayed_by}", markup=False)
    verdict = ("EQUAL", "bold green") if found.same else ("DIFFERENT", "bold red")
    console.print(Text.assemble("digits: ", verdict, f"  ({equal} of {len(found.rows)} samples as recorded)"))


def _render_row(console: Console, row: ReplayedRow) -> None:
    title = f"deck {row.place['deck']}, alone" if row.row is None else f"row {row.row}: {_place(row)}"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("column", no_wrap=True)
    table.add_column("recorded", justify="right", overflow="fold")
    table.add_column("replayed", justify="right", overflow="fold")
    for name, was in row.recorded.items():
        now = row.replayed[name]
        table.add_row(Text(name), Text(was), Text(now, style="" if was == now else "bold red"))
    console.print(table)


def _render_rows(console: Console, found: Replayed) -> None:
    table = Table(title="samples simulated again", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for name in ("row", *found.rows[0].place):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("digits")
    for row in found.rows:
        off = [
            f"{name} {was} -> {row.replayed[name]}" for name, was in row.recorded.items() if was != row.replayed[name]
        ]
        word = Text("; ".join(off), style="bold red") if off else Text("equal")
        table.add_row(str(row.row), *map(Text, row.place.values()), word)
    console.print(table)


def _place(row: ReplayedRow) -> str:
    told = dict(row.place)
    die = told.pop("die", "-1")
    where = "nominal circuit" if int(die) < 0 else f"die {die}"
    trim, corner = told.pop("trim", None), told.pop("corner", None)
    where += "" if corner is None else f" at {corner}"
    if trim is not None and int(die) >= 0:
        where += ", trimmed" if trim == "trimmed" else ", untrimmed"
    return ", ".join([where, *(f"{name} {value}" for name, value in told.items())])


def render_comparison(console: Console, found: Comparison, *, everything: bool = False) -> None:
    """Prints what moved, regressions first, then the samples compared one by one, and whether it got worse."""
    judged = bool(any(found.verdicts))
    for name, label, verdict in zip(("before", "after"), found.names, found.verdicts, strict=True):
        console.print(
            f"{name:<7} {label}" + (f"  ({verdict.upper()})" if verdict else ""), markup=False, soft_wrap=True
        )
    if found.differs:
        console.print(f"differ in: {', '.join(found.differs)}", markup=False, soft_wrap=True)
    shown = [row for row in found.rows if everything or row.move != "same" or row.status_changed or row.limits_changed]
    if shown:
        wide = console.width >= WIDE
        table = _delta_table(shown, wide=wide)
        console.print(table if wide else Padding(table, (1, 0)))
    if len(shown) < len(found.rows):
        console.print(f"{len(found.rows) - len(shown)} of {len(found.rows)} rows are equal", markup=False)
    for pair in found.paired:
        console.print(_paired_line(pair), markup=False)
    if found.unpaired:
        console.print(found.unpaired, markup=False, soft_wrap=True)
    if judged or any(row.a.decides for row in found.rows):
        worse = found.regressed
        word = ("WORSE", "bold red") if worse else ("NO WORSE", "bold green")
        names = ", ".join(row.id for row in worse)
        console.print(Text.assemble("compare: ", word, f"  ({names})" if worse else "  (no deciding check got worse)"))


def _delta_table(rows: Sequence[Delta], *, wide: bool) -> Table:
    cells = not any(row.a.decides or row.b.decides for row in rows) and rows[0].a.status in {"ok", "failed"}
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1) if wide else (0, 0), show_edge=wide)
    table.add_column("quantity" if cells else "id", no_wrap=not cells or wide, overflow="fold")
    if cells:
        table.add_column("at", overflow="fold")
    for name in ("before", "after", "change", *(("relative",) if wide else ())):
        table.add_column(name, justify="right", overflow="fold", no_wrap=name != "change")
    if wide:
        table.add_column("intervals", no_wrap=True)
    if not cells:
        table.add_column("status")
    for row in rows:
        style = {"worse": "red", "better": "green"}.get(row.move, "") if row.beyond or row.status_changed else ""
        style = "red" if row.regressed else style
        texts = [Text(row.id), *([Text(row.quantity)] if cells else [])]
        texts += [Text(format_value(side.value, row.unit)) for side in (row.a, row.b)]
        change, relative = _change(row)
        narrow = (change if relative == "-" else relative,)  # 80 columns hold one of the two
        texts += [Text(text, style=style) for text in ((change, relative) if wide else narrow)]
        texts += [Text({True: "apart", False: "overlap", None: "-"}[row.beyond])] if wide else []
        texts += [] if cells else [_status(row)]
        table.add_row(*texts)
    return table


def _change(row: Delta) -> tuple[str, str]:
    """The change in the row's unit, and relative."""
    if row.change is None:
        return {"new": "new", "gone": "gone"}.get(row.move, "-"), "-"
    sign = "+" if row.change > 0 else ""
    shown = row.relative is not None and abs(row.relative) < FACTOR and row.unit not in {"%", "points"}
    relative = f"{sign}{100 * row.relative:.3g} %" if shown and row.relative is not None else "-"
    return f"{sign}{format_value(row.change, row.unit)}" if row.change else "0", relative


def _status(row: Delta) -> Text:
    names = [side.status.replace("_", " ") or "absent" for side in (row.a, row.b)]
    names[1] += " (waived)" if row.b.waived else ""
    if row.status_changed:
        text = Text(f"{names[0]} -> {names[1]}", style="bold red" if row.regressed else "bold")
    else:
        # within overlapping intervals neither is worse
        tells = row.move in {"worse", "better"} and row.beyond is not False
        text = Text(f"{names[1]}, {row.move}" if tells else names[1])
    if row.limits_changed:
        text.append("; other limit")
    return text


def _paired_line(pair: Paired) -> str:
    sign = "+" if pair.change > 0 else ""
    text = f"same samples, {pair.group}: {pair.quantity} {sign}{pair.change + 0.0:.3g} {pair.unit}"
    if pair.interval is not None:
        text += f" (95 % {pair.interval[0]:.3g} .. {pair.interval[1]:.3g})"
    text += f", n = {pair.n}"
    if pair.p_value is not None:
        text += f": {pair.lost} lost, {pair.gained} gained, p = {pair.p_value:.2g}"
    return text


def render_baselines(console: Console, found: Sequence[Baseline]) -> None:
    """Prints each baseline: name, design, verdict, number of checks, when it was saved."""
    if not found:
        console.print("no baselines; `analog-deq baseline save NAME RUN` keeps a sign-off under a name", markup=False)
        return
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("name", "design", "verdict", "checks", "saved"):
        table.add_column(name, justify="right" if name == "checks" else "left")
    for baseline in found:
        texts = (baseline.name, baseline.design, baseline.verdict, str(baseline.checks), baseline.saved)
        table.add_row(*map(Text, texts))
    console.print(table)
