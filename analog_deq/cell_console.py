"""What a person reads of a single cell: its draft, its check, its datasheet, and what a campaign would cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from analog_deq.console import format_value

if TYPE_CHECKING:
    from pathlib import Path

    from analog_deq.characterise.check import CheckedCell
    from analog_deq.netlists.draft import Draft
    from analog_deq.pipeline.characterise import CharacteriseResult
    from analog_deq.pipeline.forecast import Forecast


def render_record(console: Console, record: Mapping[str, object]) -> None:
    """Prints the entries of a record, one a line."""
    width = max(len(name) for name in record)
    for name, value in record.items():
        console.print(f"{name.replace('_', ' '):<{width}}  {_exact(value)}", markup=False, soft_wrap=True)


def _exact(value: object) -> str:
    return repr(value) if isinstance(value, float) else format_value(value)


def render_draft(console: Console, path: Path, draft: Draft) -> None:
    """Prints where a drafted contract lies and what is left to fill in."""
    console.print(f"wrote {path}  (role {draft.role})", markup=False, soft_wrap=True)
    if draft.open_points:
        console.print("look at:", markup=False)
        for point in draft.open_points:
            console.print(f"  {point}", markup=False)
    console.print(f"then: analog-deq check {path}", markup=False, soft_wrap=True)


def render_checked(console: Console, found: CheckedCell) -> None:
    """Prints what a cell is, the corners ngspice instantiated it at, and every finding."""
    contract = found.cell.contract
    lines = {
        "cell": f"{found.cell.name} ({found.cell.role})",
        "pins": ", ".join(f"{role} = {pin}" for role, pin in contract.pins.items()),
        "tied": ", ".join(contract.tie) or "none",
        "parameters": ", ".join(contract.params) or "none",
        "mismatch": ", ".join([contract.mismatch.mode, *contract.mismatch.params]),
        "instantiated at": f"{', '.join(found.corners)} ({found.seconds:.2f} s in ngspice)",
    }
    width = max(len(name) for name in lines)
    for name, text in lines.items():
        console.print(f"{name:<{width}}  {text}", markup=False, soft_wrap=True)
    for finding in found.findings:
        style = "bold yellow" if finding.severity == "warning" else "bold"
        mend = f"; {finding.mend}" if finding.mend else ""
        console.print(
            Text.assemble((f"{finding.severity}: ", style), f"{finding.place}: {finding.text}{mend}"), soft_wrap=True
        )
    console.print("[bold green]ok[/bold green]: the cell can be characterised and used in a design")


def render_forecast(console: Console, cost: Forecast) -> None:
    """Prints what a campaign would simulate, and the dies each yield claim needs."""
    table = Table(
        title=f"{cost.cell}: nothing simulated", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD
    )
    table.add_column("measurement")
    for name in ("copies", "decks", "analyses", "time"):
        table.add_column(name, justify="right")
    for row in (
        *cost.rows,
        {"measurement": "all", "copies": "", "decks": cost.decks, "analyses": cost.analyses, "seconds": cost.seconds},
    ):
        table.add_row(
            *(str(row[key]) for key in ("measurement", "copies", "decks", "analyses")),
            format_value(row["seconds"], "s"),
        )
    console.print(table)
    console.print(f"corners: {', '.join(cost.corners)}", markup=False, soft_wrap=True)
    claims = ", ".join(f"{float(claim):.5g}: {n}" for claim, n in cost.dies_needed.items())
    console.print(
        f"dies asked for: {cost.dies}; dies without a failure that a yield claim needs (95 % confidence): {claims}",
        markup=False, soft_wrap=True,
    )  # fmt: skip


def render_datasheet(console: Console, result: CharacteriseResult) -> None:
    """Prints the table of quantities, what could not be measured, counts, and the files."""
    from analog_deq.datasheet.html import (
        quantity_lines,
    )  # draws with matplotlib, which the other commands can do without

    sheet, lines = result.datasheet, quantity_lines(result.datasheet)
    title = f"{sheet.cell.name} ({sheet.cell.role}), typical {sheet.corners[0]}"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("quantity", no_wrap=True)
    table.add_column("at", no_wrap=True)
    many = len(sheet.corners) > 1
    for name in ("typical", *(("lowest", "highest") if many else ())):
        table.add_column(name, justify="right", no_wrap=True)
    if many:
        table.add_column("worst corner", no_wrap=True)
    if sheet.die_count:
        table.add_column("sd over dies", justify="right", no_wrap=True)
    numbers = [line for line in lines if line["kind"] == "pass"]
    for line in numbers:
        cells = [line["quantity"], line["at"], line["typical"]]
        cells += [line["low"], line["high"], line["worst_corner"]] if many else []
        table.add_row(*(escape(cell) for cell in cells), *([escape(line["sd"])] if sheet.die_count else []))
    console.print(table)
    for line in lines:
        if line["kind"] != "pass":
            style = {"info": "bold", "inconclusive": "bold yellow"}.get(line["kind"], "bold red")
            where = f" at {line['at']}" if line["at"] else ""
            console.print(Text.assemble(f"{line['quantity']}{where}: ", (line["typical"], style)), soft_wrap=True)
        if line["missed"]:
            console.print(f"{line['quantity']}: no value at {line['missed']}", markup=False, soft_wrap=True)
    took = "reused, finished earlier" if result.reused else f"{result.seconds:.1f} s"
    counts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in result.summary.items())
    console.print(
        f"{len(sheet.corners)} corners, {sheet.die_count} dies; {counts}; {took}", markup=False, soft_wrap=True
    )
    for name, path in result.outputs.items():
        console.print(f"{name}: {path}", markup=False, soft_wrap=True)
