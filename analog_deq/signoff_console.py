"""What a person reads of finished sign-offs: samples simulated again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from analog_deq.pipeline.replay_signoff import Replayed, ReplayedRow

MOST_IN_FULL = 4
"""Up to so many rows are shown column by column; of more, only the columns that differ."""


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
    console.print(Text.assemble("digits: ", verdict, f"  ({equal} of {len(found.rows)} rows as recorded)"))


def _render_row(console: Console, row: ReplayedRow) -> None:
    title = f"row {row.row}: {_place(row)}"
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
    trim = told.pop("trim", None)
    if trim is not None and int(die) >= 0:
        where += ", trimmed" if trim == "trimmed" else ", untrimmed"
    return ", ".join([where, *(f"{name} {value}" for name, value in told.items())])
